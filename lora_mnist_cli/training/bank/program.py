"""The operations of one step of a cohort, for batches of one size, and the memory that they work on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lora_mnist_cli.training.bank.inputs import FrozenInputs, TermBatch
from lora_mnist_cli.training.bank.layers import Call, Layer, LayerBuffers
from lora_mnist_cli.training.relu_gradient import relu_gradient


class Program:
    """Forward pass, loss and backward pass, as a list of operations.

    Args:
        inputs: where the images come from.
        layers: from the input on.
        sizes: features of the input, of each hidden layer, and classes.
        seeds: how many there are.
        shapes: how many adapters each seed has.
        n: images per batch.
        training: with backward pass and dropout.
        lowest: the first layer that has an adapter; the layers below need no gradient.
    """

    def __init__(
        self, inputs: FrozenInputs, layers: Sequence[Layer], sizes: Sequence[int], seeds: int, shapes: int,
        n: int, *, training: bool, lowest: int = 0,
    ) -> None:  # fmt: skip
        self.batch = inputs.batch(seeds, n)
        hidden = [inputs.images.new_empty(shapes * seeds, size, n) for size in sizes[1:]]
        self.logits = hidden[-1]
        gradients = [torch.empty_like(each) for each in hidden] if training else hidden
        groups = [group for layer in layers for group in layer.groups]
        forward: list[Call] = [call for group in groups for call in group.before]
        forward += [partial(hidden[0].view(shapes, seeds, -1, n).copy_, self.batch.columns)]
        backward: list[Call] = [call for group in groups for call in group.after]
        images = self.batch.images.mT
        before: list[Tensor] = [images.expand(shapes, -1, -1) if seeds == 1 else images, *hidden]
        for i, layer in enumerate(layers):
            below = gradients[i - 1] if i > lowest else None
            ahead, back = layer.calls(LayerBuffers(before[i], hidden[i], gradients[i], below, training))
            forward += ahead
            if i < len(layers) - 1:
                forward.append(hidden[i].relu_)
            if below is not None:
                back += relu_gradient(below, hidden[i - 1])
            backward = back + backward
        self.step = forward
        if training:
            if inputs.terms:
                loss = loss_calls(self.logits, gradients[-1], self.batch.make_terms(inputs.terms), (shapes, seeds))
            else:
                loss = [
                    partial(torch.softmax, self.logits, 1, out=gradients[-1]),
                    partial(gradients[-1].view(shapes, seeds, -1, n).sub_, self.batch.targets.mT),
                ]
            self.step = [*forward, *loss, partial(gradients[-1].mul_, 1 / n), *backward]


def loss_calls(logits: Tensor, gradient: Tensor, terms: Sequence[TermBatch], shape: tuple[int, int]) -> list[Call]:
    """Return the operations that fill the gradient of a loss by logits, summed over its terms; see ``LossTerm``.

    Args:
        logits: members × classes × n.
        gradient: members × classes × n.
        terms: at least one.
        shape: how many shapes and how many seeds the members have.
    """
    classes, n = logits.shape[1:]

    def by_seed(tensor: Tensor) -> Tensor:
        return tensor.view(*shape, classes, n)

    shown, share = torch.empty_like(logits), torch.empty_like(logits)
    calls: list[Call] = []
    for number, term in enumerate(terms):
        part = gradient if number == 0 else share
        seen = logits
        if term.hidden is not None:
            calls.append(partial(torch.add, by_seed(logits), term.hidden, out=by_seed(shown)))
            seen = shown
        if term.term.temperature != 1:
            calls.append(partial(torch.div, seen, term.term.temperature, out=shown))
            seen = shown
        calls.append(partial(torch.softmax, seen, 1, out=part))
        if term.term.weight != 1:
            calls.append(partial(part.mul_, term.term.weight))
        calls.append(partial(by_seed(part).sub_, term.targets))
        if number:
            calls.append(partial(gradient.add_, share))
    return calls
