"""Factors of adapters as the kernel has them: one row of numbers per member, padded with zeros."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.lora import LoRALinear, linear_layers
from lora_mnist_cli.training.fused.plan import Shape


@torch.no_grad()
def pack(models: Sequence[nn.Module], shape: Shape) -> Tensor:
    """Return the factors of models (members × parameters), float32."""
    rows = torch.zeros(len(models), shape.parameters)
    for row, model in zip(rows, models, strict=True):
        for factor, place in _places(model, row, shape):
            place.copy_(factor)
    return rows


@torch.no_grad()
def unpack(rows: Tensor, models: Sequence[nn.Module], shape: Shape) -> None:
    """Copy factors (members × parameters) back into their models."""
    for row, model in zip(rows, models, strict=True):
        for factor, place in _places(model, row, shape):
            factor.copy_(place)


def _places(model: nn.Module, row: Tensor, shape: Shape) -> list[tuple[Tensor, Tensor]]:
    """Return each factor of a model, with its place in a row."""
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(linear_layers(model)):
        if isinstance(layer, LoRALinear):
            for factor, (start, rows, columns) in zip((layer.lora_A, layer.lora_B), shape.factors(number), strict=True):
                place = row[start : start + rows * columns].view(rows, columns)
                pairs.append((factor, place[: factor.shape[0], : factor.shape[1]]))
    return pairs


def scales(model: nn.Module) -> list[float]:
    """Return ``alpha · scale(rank)`` of each layer; 0 without an adapter."""
    return [
        layer.alpha * layer.scale if isinstance(layer, LoRALinear) else 0.0 for layer in linear_layers(model)
    ]  # fmt: skip


def frozen_layers(model: nn.Module) -> list[nn.Linear]:
    """Return the frozen layers below a model's adapters."""
    return [layer.base if isinstance(layer, LoRALinear) else layer for layer in linear_layers(model)]


@torch.no_grad()
def pack_frozen(layers: Sequence[nn.Linear], shape: Shape) -> tuple[Tensor, Tensor]:
    """Return weights and biases of the frozen layers above the first, one after the other, padded.

    The bias of a class that does not exist is minus infinity, so no softmax sees it.
    """
    weights, biases = [], []
    for number, layer in enumerate(layers[1:], 1):
        last = number == shape.depth
        fan_out = shape.classes if last else shape.units
        weight = torch.zeros(fan_out, shape.units)
        weight[: layer.out_features, : layer.in_features] = layer.weight
        bias = torch.full((fan_out,), -torch.inf if last else 0.0)
        bias[: layer.out_features] = layer.bias
        weights.append(weight.flatten())
        biases.append(bias)
    return torch.cat(weights), torch.cat(biases)
