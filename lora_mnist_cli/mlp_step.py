"""Optimiser steps of the plain network with the gradient written out.

Autograd's graph and the dispatch of its many small operations are two fifths of a step of a network of this size
(0.36 ms against 0.22 ms, one thread, 784 → 64 → 64 → 10, batches of 64; benchmarks/base_stage.py measures the
whole stage). The gradient of the mean cross-entropy of a multilayer perceptron with ReLU is a few lines, so they are
written here, and tested against autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.architecture import CLASSES
from lora_mnist_cli.model import MNISTModel
from lora_mnist_cli.optimizers import bare_step


class MLPStep:
    """Steps of a plain MLP, all of whose parameters are trained.

    The model's parameters become views of one flat tensor, :attr:`parameter`, and so do their gradients: the optimiser
    then has a single tensor to update. The model is used and saved as before.

    Args:
        model: on the device, and of the dtype, that it is to be trained with.
    """

    def __init__(self, model: MNISTModel) -> None:
        parameters = list(model.parameters())
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
        # Weight and bias alternate, from the input on.
        self._weights, self._biases = values[0::2], values[1::2]
        self._weight_gradients, self._bias_gradients = gradients[0::2], gradients[1::2]
        self._forward = [(bias, weight.t()) for weight, bias in zip(self._weights, self._biases, strict=True)]

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor, batch_size: int, optimizer: torch.optim.Optimizer) -> float:
        """One optimiser step a batch, in order; returns the last batch's mean cross-entropy before its step.

        Args:
            images: n × 784.
            labels: n.
            optimizer: over :attr:`parameter` alone.
        """
        targets = F.one_hot(labels, CLASSES).to(images.dtype)
        update = bare_step(optimizer)
        *inner, (last_bias, last_weight) = self._forward
        logits = images
        for batch, target in zip(torch.split(images, batch_size), torch.split(targets, batch_size), strict=True):
            hidden = [batch]
            for bias, weight in inner:
                hidden.append(torch.addmm(bias, hidden[-1], weight).relu_())
            logits = torch.addmm(last_bias, hidden[-1], last_weight)
            self._gradients(hidden, torch.softmax(logits, 1).sub_(target).div_(len(batch)))
            update()
        return F.cross_entropy(logits, labels[-len(logits) :]).item()

    def _gradients(self, hidden: list[Tensor], delta: Tensor) -> None:
        """Put the gradients into their tensors, from the logits' (``delta``, batch × classes) down."""
        for layer in reversed(range(len(hidden))):
            torch.mm(delta.t(), hidden[layer], out=self._weight_gradients[layer])
            torch.sum(delta, 0, out=self._bias_gradients[layer])
            if layer:
                # A ReLU passes a gradient on where it put out something above 0: its output's sign is 1 there, else 0.
                delta = torch.mm(delta, self._weights[layer]).mul_(hidden[layer].sign())
