"""One layer of many adapters at once: its products, forward and backward, written down once and then replayed.

The members of a bank see the same images. Activations are kept feature by feature (members × features × n), so that
every member's part of every product is a contiguous block, and neighbouring members of one shape are one batched
product. Nothing is padded: no member takes part in another's arithmetic, so what goes wrong in one stays in it.

With ``h = (W + s B A) x + b`` and ``D`` the gradient of the loss by h (Hu et al. 2021, arXiv:2106.09685, §4.1, for the
forward pass), there are two ways to the gradients by A and B:

- *beside*: keep ``U = A x``; then ``dB = s D Uᵀ``, ``dU = s Bᵀ D``, ``dA = dU xᵀ``, and x gets ``Wᵀ D + Aᵀ dU``;
- *merged*: form ``M = W + s B A``; with ``G = D xᵀ`` then ``dA = s Bᵀ G``, ``dB = s G Aᵀ``, and x gets ``Mᵀ D``.

Merged has fewer and larger products, and costs less where the layer is small beside the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

Call = Callable[[], object]
"""One operation on memory that is already there."""


@dataclass(frozen=True)
class Run:
    """Neighbouring members whose factors in a layer have one shape and one scale.

    Args:
        members: which of the bank's.
        scale: ``alpha · scale(rank)``.
        A: count × rank × in, a view of the bank's parameters, as the next three.
        B: count × out × rank.
        dA: the place of the gradient by A.
        dB: the place of the gradient by B.
        dropout: probability that an input of A is dropped in training.
        generators: of the dropout, one a member.
    """

    members: slice
    scale: float
    A: Tensor
    B: Tensor
    dA: Tensor
    dB: Tensor
    dropout: float = 0.0
    generators: Sequence[torch.Generator] = ()


@dataclass(frozen=True)
class Flow:
    """The memory between which a layer works, for a batch of n images.

    Args:
        inputs: members × in × n; in the first layer, seeds × in × n where there are several.
        outputs: members × out × n; the forward pass fills it.
        output_gradient: members × out × n; full before the backward pass.
        input_gradient: members × in × n; the backward pass fills it, unless it is None.
        training: whether inputs are dropped.
    """

    inputs: Tensor
    outputs: Tensor
    output_gradient: Tensor
    input_gradient: Tensor | None
    training: bool


class Layer(Protocol):
    """A linear layer with the adapters of all members."""

    runs: Sequence[Run]

    def calls(self, flow: Flow) -> tuple[list[Call], list[Call]]:
        """The forward and the backward pass, as operations on this memory."""


def product(out: Tensor, left: Tensor, right: Tensor, *, scale: float = 1.0, add: Tensor | None = None) -> Call:
    """``out = add + scale · left @ right`` for a batch of matrices, in place; without ``add``, it is not read."""
    beta = 0.0 if add is None else 1.0
    add = out if add is None else add
    if len(out) == 1:  # a third less overhead than a batch of one
        return partial(torch.addmm, add[0], left[0], right[0], beta=beta, alpha=scale, out=out[0])
    return partial(torch.baddbmm, add, left, right, beta=beta, alpha=scale, out=out)


class SharedInputLayer:
    """The first layer: all members of a seed have the same input, so all their A are the rows of one matrix.

    The frozen product ``W x + b`` is expected in the outputs already.

    Args:
        A: for each seed, the A of its members, one below the other (seeds × sum of ranks × in).
        dA: the place of its gradient.
        runs: their members' ranks add up to the rows of A, in order. With several seeds, a run is one member of each.
    """

    def __init__(self, A: Tensor, dA: Tensor, runs: Sequence[Run]) -> None:
        self.A, self.dA, self.runs = A, dA, runs

    def calls(self, flow: Flow) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`; the inputs are the same for each member, and get no gradient."""
        if not self.runs:
            return [], []
        seeds, total, _ = self.A.shape
        x = flow.inputs[:seeds]
        U = x.new_empty(seeds, total, x.shape[2])
        dU = torch.empty_like(U)
        forward: list[Call] = [product(U, self.A, x)]
        backward: list[Call] = []
        row = 0
        for run in self.runs:
            count, rank, _ = run.A.shape
            rows = slice(row, row := row + count // seeds * rank)
            u, du = (each[:, rows].view(seeds, -1, rank, x.shape[2]).flatten(0, 1) for each in (U, dU))
            h, d = flow.outputs[run.members], flow.output_gradient[run.members]
            forward.append(product(h, run.B, u, scale=run.scale, add=h))
            backward.append(product(run.dB, d, u.mT, scale=run.scale))
            backward.append(product(du, run.B.mT, d, scale=run.scale))
        backward.append(product(self.dA, dU, x.mT))
        return forward, backward


class MergedLayer:
    """A layer whose members' weights ``W + s B A`` are formed in each step.

    Args:
        weight: out × in, frozen.
        bias: out, frozen.
        members: how many there are.
        runs: of those that have an adapter here.
    """

    def __init__(self, weight: Tensor, bias: Tensor, members: int, runs: Sequence[Run]) -> None:
        self.weight, self.bias, self.runs = weight, bias, runs
        # A member without an adapter here keeps the frozen weight.
        self.merged = weight.repeat(members, 1, 1)
        self.gradient = torch.empty_like(self.merged)

    def calls(self, flow: Flow) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`."""
        forward: list[Call] = []
        backward: list[Call] = []
        if self.runs:
            backward.append(partial(torch.bmm, flow.output_gradient, flow.inputs.mT, out=self.gradient))
        for run in self.runs:
            weights, gradients = self.merged[run.members], self.gradient[run.members]
            forward.append(product(weights, run.B, run.A, scale=run.scale, add=self.weight.expand_as(weights)))
            backward.append(product(run.dA, run.B.mT, gradients, scale=run.scale))
            backward.append(product(run.dB, gradients, run.A.mT, scale=run.scale))
        forward.append(partial(torch.baddbmm, self.bias[:, None], self.merged, flow.inputs, out=flow.outputs))
        if flow.input_gradient is not None:
            backward.append(partial(torch.bmm, self.merged.mT, flow.output_gradient, out=flow.input_gradient))
        return forward, backward


class BesideLayer:
    """A layer whose adapters' products are formed beside the frozen one: for wide layers, and for dropout.

    Args:
        weight: out × in, frozen; None where ``W x + b`` is expected in the outputs already, as in the first layer.
        bias: out, frozen.
        runs: of the members that have an adapter here.
    """

    def __init__(self, weight: Tensor | None, bias: Tensor, runs: Sequence[Run]) -> None:
        self.weight, self.bias, self.runs = weight, bias, runs

    def calls(self, flow: Flow) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`."""
        forward: list[Call] = []
        backward: list[Call] = []
        members, _, n = flow.inputs.shape
        if self.weight is not None:
            weights = self.weight.expand(members, -1, -1)
            forward.append(partial(torch.baddbmm, self.bias[:, None], weights, flow.inputs, out=flow.outputs))
            if flow.input_gradient is not None:
                backward.append(partial(torch.bmm, weights.mT, flow.output_gradient, out=flow.input_gradient))
        for run in self.runs:
            x = flow.inputs[run.members]
            h, d = flow.outputs[run.members], flow.output_gradient[run.members]
            U = x.new_empty(len(x), run.A.shape[1], n)
            dU = torch.empty_like(U)
            if dropping := flow.training and run.dropout > 0:
                mask, dropped = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.shape)
                for one, generator in zip(mask, run.generators, strict=True):
                    forward.append(partial(one.bernoulli_, 1 - run.dropout, generator=generator))
                forward.append(partial(mask.div_, 1 - run.dropout))
                forward.append(partial(torch.mul, x, mask, out=dropped))
                x = dropped
            forward.append(product(U, run.A, x))
            forward.append(product(h, run.B, U, scale=run.scale, add=h))
            backward.append(product(run.dB, d, U.mT, scale=run.scale))
            backward.append(product(dU, run.B.mT, d, scale=run.scale))
            backward.append(product(run.dA, dU, x.mT))
            if flow.input_gradient is not None:
                own = flow.input_gradient[run.members]
                if dropping:
                    back = torch.empty_like(own)
                    backward.append(product(back, run.A.mT, dU))
                    backward.append(partial(own.addcmul_, back, mask))
                else:
                    backward.append(product(own, run.A.mT, dU, add=own))
        return forward, backward
