"""Optimiser steps of the plain network with the gradient written out.

Autograd's graph and the dispatch of its many small operations take two fifths of a step of a network of this size
(0.36 ms against 0.22 ms, one thread, 784 → 64 → 64 → 10, batches of 64; benchmarks/stages_alone.py measures the
whole stage). The gradient of the mean cross-entropy of a multilayer perceptron with ReLU is a few lines. They stand
here, and are tested against autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.training.cuda_graph import GraphedStep
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.relu_gradient import relu_gradient


class MLPStep:
    """Steps of a plain MLP whose parameters are all trained.

    The parameters become views of one flat tensor, :attr:`parameter`, and so do their gradients: the optimiser then has
    a single tensor to update. The model is used and saved as before.

    Args:
        parameters: weight and bias of each layer, from the input on, on the device and in the dtype of the training.
        penalty: called with the flat parameters and the gradient of the cross-entropy; it adds the gradient of a
            penalty in place, by the same operations each time.
        hidden: rows of the data set × classes; minus infinity where the softmax of a row does not see a class, else 0.
            None: it sees all. Only for the CPU.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], penalty: Callable[[Tensor, Tensor], object] | None = None,
        hidden: Tensor | None = None,
    ) -> None:  # fmt: skip
        parameters = list(parameters)
        flat = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
        self.parameter = nn.Parameter(flat)
        self.parameter.grad = torch.zeros_like(flat)
        sizes = [parameter.numel() for parameter in parameters]
        views = zip(torch.split(flat, sizes), torch.split(self.parameter.grad, sizes), strict=True)
        values, gradients = [], []
        for parameter, (value, gradient) in zip(parameters, views, strict=True):
            parameter.data = value.view(parameter.shape)
            values.append(parameter.data)
            gradients.append(gradient.view(parameter.shape))
        self._layers = list(zip(values[0::2], values[1::2], gradients[0::2], gradients[1::2], strict=True))
        self._penalty = None if penalty is None else partial(penalty, flat, self.parameter.grad)
        self._hidden = hidden
        self._programs: dict[int, _Program] = {}
        self._recorded: dict[int, GraphedStep] = {}

    @torch.no_grad()
    def __call__(
        self, dataset: MNISTDataset, rows: Tensor, batch_size: int, optimizer: Callable[[], object]
    ) -> float:  # fmt: skip
        """Take one optimiser step per batch, in order; return the last batch's mean cross-entropy before its step.

        Args:
            dataset: the same in each call.
            rows: row numbers in the data set, batch after batch.
            optimizer: takes a step of :attr:`parameter`; the same in each call.
        """
        labels = dataset.labels.index_select(0, rows)
        targets = F.one_hot(labels, CLASSES).to(dataset.images.dtype)
        recordable = isinstance(optimizer, FusedOptimizer) and optimizer.recordable
        if isinstance(optimizer, FusedOptimizer) and recordable:
            optimizer.set_rates()
        logits = targets
        for batch, target in zip(torch.split(rows, batch_size), torch.split(targets, batch_size), strict=True):
            n = len(batch)
            if n not in self._programs:
                self._programs[n] = _Program(self._layers, n, self._penalty)
            if recordable:
                logits = self._recorded_step(dataset.images, batch, target, optimizer)
            else:
                logits = self._programs[n](dataset.images, batch, target, self._hidden)
                optimizer()
        return F.cross_entropy(logits, labels[-len(logits) :]).item()

    def _recorded_step(self, images: Tensor, batch: Tensor, target: Tensor, optimizer: Callable[[], object]) -> Tensor:
        """Take one optimiser step on a GPU, as a graph after the first calls; return the logits."""
        n = len(batch)
        program = self._programs[n]
        if n not in self._recorded:

            def whole(rows: Tensor, targets: Tensor) -> None:
                program(images, rows, targets)
                optimizer()

            self._recorded[n] = GraphedStep(whole, batch, target)
        self._recorded[n](batch, target)
        return program.logits


class _Program:
    """Forward and backward pass for batches of n images, on memory that is made once; the penalty comes last.

    A layer is its weight and bias, and where their gradients are written.
    """

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]], n: int, penalty: Callable[[], object] | None
    ) -> None:
        first_weight, first_bias, first_gradient, _ = layers[0]
        hidden = [first_bias.new_empty(n, len(bias)) for _, bias, _, _ in layers]
        deltas = [torch.empty_like(each) for each in hidden]
        self.logits, self.delta, self.size = hidden[-1], deltas[-1], first_bias.new_full((), n)
        # Images are gathered per batch, so they stay in the cache until their product is done.
        self.images = first_bias.new_empty(n, first_weight.shape[1])
        self.forward: list[Callable[[], object]] = [
            partial(torch.addmm, first_bias, self.images, first_weight.t(), out=hidden[0])
        ]
        self.backward: list[Callable[[], object]] = []
        for i in range(1, len(layers)):
            weight, bias, weight_gradient, _ = layers[i]
            self.forward += [hidden[i - 1].relu_, partial(torch.addmm, bias, hidden[i - 1], weight.t(), out=hidden[i])]
            back: list[Callable[[], object]] = [
                partial(torch.mm, deltas[i].t(), hidden[i - 1], out=weight_gradient),
                partial(torch.mm, deltas[i], weight, out=deltas[i - 1]),
                *relu_gradient(deltas[i - 1], hidden[i - 1]),
            ]
            self.backward = back + self.backward
        self.backward.append(partial(torch.mm, deltas[0].t(), self.images, out=first_gradient))
        self.backward += [
            partial(torch.sum, delta, 0, out=layer[3]) for delta, layer in zip(deltas, layers, strict=True)
        ]
        if penalty is not None:
            self.backward.append(penalty)

    def __call__(self, images: Tensor, rows: Tensor, targets: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Write the gradients of the loss on rows (n) of all images; return the logits (n × classes), as targets."""
        torch.index_select(images, 0, rows, out=self.images)
        for call in self.forward:
            call()
        if hidden is not None:
            self.logits.add_(hidden.index_select(0, rows))
        torch.softmax(self.logits, 1, out=self.delta).sub_(targets).div_(self.size)
        for call in self.backward:
            call()
        return self.logits
