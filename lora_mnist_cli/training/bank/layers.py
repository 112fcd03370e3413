"""One layer of many adapters at once: its products, forward and backward, listed once and then replayed.

The members of a cohort see the same images. Activations are stored feature by feature (members × features × n), so
every member's part of every product is a contiguous block, and neighbouring members of one shape are one batched
product. Nothing is padded: no member takes part in another's arithmetic, so a member that diverges disturbs no other.

With ``h = (W + s B A) x + b`` and ``D`` the gradient of the loss by h (Hu et al. 2021, arXiv:2106.09685, §4.1, for the
forward pass), there are two ways to compute the gradients by A and B:

- *beside*: keep ``U = A x``; then ``dB = s D Uᵀ``, ``dU = s Bᵀ D``, ``dA = dU xᵀ``, and x gets ``Wᵀ D + Aᵀ dU``;
- *merged*: form ``M = W + s B A``; with ``G = D xᵀ`` then ``dA = s Bᵀ G``, ``dB = s G Aᵀ``, and x gets ``Mᵀ D``.

Merged has fewer and larger products, and costs less where the layer is small compared with the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

Call = Callable[[], object]
"""One operation on memory that exists."""


@dataclass(frozen=True)
class MemberGroup:
    """Neighbouring members whose factors in a layer have one shape and one scale.

    Args:
        members: their places in the cohort.
        scale: ``alpha · scale(rank)``.
        A: count × rank × in, a view of the cohort's parameters, like the next three.
        B: count × out × rank.
        dA: where the gradient with respect to A is written.
        dB: where the gradient with respect to B is written.
        dropout: probability that an input of A is dropped in training.
        generators: one per member, for its dropout.
        trains_A: whether A is trained; its gradient is not needed otherwise.
        trains_B: likewise.
        before: operations that make the factors, where they are made of other numbers.
        after: operations that make the gradients by those numbers.
    """

    members: slice
    scale: float
    A: Tensor
    B: Tensor
    dA: Tensor
    dB: Tensor
    dropout: float = 0.0
    generators: Sequence[torch.Generator] = ()
    trains_A: bool = True
    trains_B: bool = True
    before: Sequence[Call] = ()
    after: Sequence[Call] = ()


@dataclass(frozen=True)
class LayerBuffers:
    """The memory that a layer reads and fills, for a batch of n images.

    Args:
        inputs: members × in × n; in the first layer seeds × in × n where there are several seeds.
        outputs: members × out × n; the forward pass fills it.
        output_gradient: members × out × n; filled before the backward pass.
        input_gradient: members × in × n; the backward pass fills it; None where no gradient is needed.
        training: whether inputs are dropped.
    """

    inputs: Tensor
    outputs: Tensor
    output_gradient: Tensor
    input_gradient: Tensor | None
    training: bool


class Layer(Protocol):
    """A linear layer with the adapters of all members."""

    groups: Sequence[MemberGroup]

    def calls(self, buffers: LayerBuffers) -> tuple[list[Call], list[Call]]:
        """Return the forward and the backward pass, as operations on this memory."""


def product(out: Tensor, left: Tensor, right: Tensor, *, scale: float = 1.0, add: Tensor | None = None) -> Call:
    """Return ``out = add + scale · left @ right`` for a batch of matrices, as one operation; ``add`` is optional."""
    beta = 0.0 if add is None else 1.0
    add = out if add is None else add
    if len(out) == 1:  # a third less overhead than a batch of one
        return partial(torch.addmm, add[0], left[0], right[0], beta=beta, alpha=scale, out=out[0])
    return partial(torch.baddbmm, add, left, right, beta=beta, alpha=scale, out=out)


class SharedInputLayer:
    """The first layer: all members of a seed have the same input, so all their A are the rows of one matrix.

    The outputs hold the frozen product ``W x + b`` before the forward pass.

    Args:
        A: per seed, the A of its members, one below the other (seeds × sum of ranks × in).
        dA: where its gradient is written.
        groups: their members' ranks add up to the rows of A, in order. With several seeds, a group has one member of
            each seed.
    """

    def __init__(self, A: Tensor, dA: Tensor, groups: Sequence[MemberGroup]) -> None:
        self.A, self.dA, self.groups = A, dA, groups

    def calls(self, buffers: LayerBuffers) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`; all members have the same inputs, which need no gradient."""
        if not self.groups:
            return [], []
        seeds, total, _ = self.A.shape
        x = buffers.inputs[:seeds]
        U = x.new_empty(seeds, total, x.shape[2])
        dU = torch.empty_like(U)
        forward: list[Call] = [product(U, self.A, x)]
        backward: list[Call] = []
        row = 0
        trains_A = any(group.trains_A for group in self.groups)
        for group in self.groups:
            count, rank, _ = group.A.shape
            rows = slice(row, row := row + count // seeds * rank)
            u, du = (each[:, rows].view(seeds, -1, rank, x.shape[2]).flatten(0, 1) for each in (U, dU))
            h, d = buffers.outputs[group.members], buffers.output_gradient[group.members]
            forward.append(product(h, group.B, u, scale=group.scale, add=h))
            if group.trains_B:
                backward.append(product(group.dB, d, u.mT, scale=group.scale))
            if trains_A:
                backward.append(product(du, group.B.mT, d, scale=group.scale))
        if trains_A:
            backward.append(product(self.dA, dU, x.mT))
        return forward, backward


class MergedLayer:
    """A layer whose members' weights ``W + s B A`` are formed in each step.

    Args:
        weight: out × in, frozen.
        bias: out, frozen.
        members: how many there are.
        groups: the members that have an adapter here.
    """

    def __init__(self, weight: Tensor, bias: Tensor, members: int, groups: Sequence[MemberGroup]) -> None:
        self.weight, self.bias, self.groups = weight, bias, groups
        # A member without an adapter here keeps the frozen weight.
        self.merged = weight.repeat(members, 1, 1)
        self.gradient = torch.empty_like(self.merged)

    def calls(self, buffers: LayerBuffers) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`."""
        forward: list[Call] = []
        backward: list[Call] = []
        if self.groups:
            backward.append(partial(torch.bmm, buffers.output_gradient, buffers.inputs.mT, out=self.gradient))
        for group in self.groups:
            weights, gradients = self.merged[group.members], self.gradient[group.members]
            forward.append(product(weights, group.B, group.A, scale=group.scale, add=self.weight.expand_as(weights)))
            if group.trains_A:
                backward.append(product(group.dA, group.B.mT, gradients, scale=group.scale))
            if group.trains_B:
                backward.append(product(group.dB, gradients, group.A.mT, scale=group.scale))
        forward.append(partial(torch.baddbmm, self.bias[:, None], self.merged, buffers.inputs, out=buffers.outputs))
        if buffers.input_gradient is not None:
            backward.append(partial(torch.bmm, self.merged.mT, buffers.output_gradient, out=buffers.input_gradient))
        return forward, backward


class BesideLayer:
    """A layer whose adapters' products are formed beside the frozen one: for wide layers, and for dropout.

    Args:
        weight: out × in, frozen; None where the outputs hold ``W x + b`` before the pass, as in the first layer.
        bias: out, frozen.
        groups: the members that have an adapter here.
    """

    def __init__(self, weight: Tensor | None, bias: Tensor, groups: Sequence[MemberGroup]) -> None:
        self.weight, self.bias, self.groups = weight, bias, groups

    def calls(self, buffers: LayerBuffers) -> tuple[list[Call], list[Call]]:
        """See :meth:`Layer.calls`."""
        forward: list[Call] = []
        backward: list[Call] = []
        members, _, n = buffers.inputs.shape
        if self.weight is not None:
            weights = self.weight.expand(members, -1, -1)
            forward.append(partial(torch.baddbmm, self.bias[:, None], weights, buffers.inputs, out=buffers.outputs))
            if buffers.input_gradient is not None:
                backward.append(partial(torch.bmm, weights.mT, buffers.output_gradient, out=buffers.input_gradient))
        for group in self.groups:
            x = buffers.inputs[group.members]
            h, d = buffers.outputs[group.members], buffers.output_gradient[group.members]
            U = x.new_empty(len(x), group.A.shape[1], n)
            dU = torch.empty_like(U)
            if dropping := buffers.training and group.dropout > 0:
                mask, dropped = torch.empty_like(x, memory_format=torch.contiguous_format), x.new_empty(x.shape)
                for one, generator in zip(mask, group.generators, strict=True):
                    forward.append(partial(one.bernoulli_, 1 - group.dropout, generator=generator))
                forward.append(partial(mask.div_, 1 - group.dropout))
                forward.append(partial(torch.mul, x, mask, out=dropped))
                x = dropped
            forward.append(product(U, group.A, x))
            forward.append(product(h, group.B, U, scale=group.scale, add=h))
            if group.trains_B:
                backward.append(product(group.dB, d, U.mT, scale=group.scale))
            backward.append(product(dU, group.B.mT, d, scale=group.scale))
            if group.trains_A:
                backward.append(product(group.dA, dU, x.mT))
            if buffers.input_gradient is not None:
                dx = buffers.input_gradient[group.members]
                if dropping:
                    back = torch.empty_like(dx)
                    backward.append(product(back, group.A.mT, dU))
                    backward.append(partial(dx.addcmul_, back, mask))
                else:
                    backward.append(product(dx, group.A.mT, dU, add=dx))
        return forward, backward


def avoid_calls(groups: Sequence[MemberGroup], directions: Tensor) -> list[Call]:
    """Return ``A ← A − (A U) Uᵀ`` for the adapters of a layer, where U are orthonormal columns (in × d)."""
    calls: list[Call] = []
    for group in groups:
        count, rank, _ = group.A.shape
        U = directions.expand(count, -1, -1)
        along = group.A.new_empty(count, rank, directions.shape[1])
        calls.append(product(along, group.A, U))
        calls.append(product(group.A, along, U.mT, scale=-1.0, add=group.A))
    return calls
