"""The bench of the laws: a small adapted network with fixed weights, and LoRA's formula in float64."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora_mnist_cli.conformance.protocol import Factory, Implementation
from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.mlp import MNISTModel

IN, HIDDEN, OUT = 6, (5, 4), 3
LAYERS = {"fc1": (6, 5), "fc2": (5, 4), "fc3": (4, 3)}
"""(inputs, outputs) of each layer of :func:`plain`."""

RANK, ALPHA = 3, 1.5
TOLERANCE = 1e-5
"""Tolerance for values of the size of one that 32-bit floats compute in another order."""


class BrokenError(Exception):
    """A law is broken; the message is the evidence."""


def hold(condition: object, evidence: str) -> None:
    """Raise :class:`BrokenError` with the evidence unless a condition holds."""
    if not condition:
        raise BrokenError(evidence)


@torch.no_grad()
def plain(hidden: tuple[int, ...] = HIDDEN) -> MNISTModel:
    """Make a network of linear layers and ReLU with different numbers in all weights and biases."""
    model = MNISTModel(hidden, in_features=IN, num_classes=OUT)
    for i, parameter in enumerate(model.parameters()):
        parameter.copy_(_wave(parameter.shape, i))
    return model


def inputs(count: int = 32) -> Tensor:
    """Make inputs (n × 6) of different numbers."""
    return 2 * _wave(torch.Size([count, IN]), 0.3)


def _wave(shape: torch.Size, phase: float) -> Tensor:
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    return (0.7 * (1.7 * numbers + 1.3 * phase + 0.4).sin()).reshape(shape).float()


@dataclass(frozen=True)
class Adapted:
    """An adapted model, and the implementation that adapted it."""

    code: Implementation
    model: nn.Module
    rank: int
    alpha: float = ALPHA
    method: str = "lora"

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the outputs, without gradients."""
        with torch.no_grad():
            return torch.as_tensor(self.model(x))

    def factors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return A and B of each layer."""
        return dict(self.code.factors(self.model))

    @torch.no_grad()
    def fill(self) -> None:
        """Fill the factors with different numbers, large enough for each of them to matter.

        What another method trains is unknown here, and is trained.
        """
        if self.method != "lora":
            return self.learn()
        for i, (A, B) in enumerate(self.factors().values()):
            A.copy_(_wave(A.shape, 10 + i))
            B.copy_(_wave(B.shape, 20 + i))

    @torch.enable_grad()
    def learn(self, steps: int = 4) -> None:
        """Take steps against the gradients, by which every number moves far, however small its gradient is."""
        free = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        for step in range(steps):
            outputs = self.model(inputs())
            loss = (outputs - _wave(outputs.shape, 5)).square().mean()
            for parameter, gradient in zip(free, torch.autograd.grad(loss, free), strict=True):
                sizes = gradient / gradient.abs().max().clamp_min(1e-30)
                parameter.data -= 0.2 / (1 + step) * (gradient.sign() + sizes)

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the weights and biases that the layers use at present."""
        return {key: value.detach().clone() for key, value in self.code.weights(self.model).items()}

    def scale(self) -> float:
        """Return the scale that the implementation claims for its rank."""
        return scale(self.code.scaling, self.rank)


class Bench:
    """Makes adapted models of the implementations that a factory makes."""

    def __init__(self, factory: Factory, method: str = "lora") -> None:
        self.factory, self.method = factory, method

    def adapted(
        self, *, rank: int = RANK, alpha: float | None = None, dropout: float = 0.0, seed: int = 0, filled: bool = True,
        hidden: tuple[int, ...] = HIDDEN,
    ) -> Adapted:  # fmt: skip
        """Adapt the network of :func:`plain`, in training mode; by default with factors that matter.

        Methods other than LoRA are trained at alpha 1, because not all of them have another one in training.
        """
        alpha = alpha if alpha is not None else ALPHA if self.method == "lora" else 1.0
        code = self.factory()
        model = plain(hidden)
        # Seeded after the factory: a law demands that A is drawn when it is attached.
        torch.manual_seed(seed)
        adapted_model = code.attach(model, rank=rank, alpha=alpha, dropout=dropout).train()
        adapted = Adapted(code, adapted_model, rank, alpha, self.method)
        if filled:
            adapted.fill()
        return adapted


@torch.no_grad()
def formula(adapted: Adapted, alpha: float, x: Tensor, hidden: tuple[int, ...] = HIDDEN) -> Tensor:
    """Compute outputs by the formula, in float64, from the plain network's weights and the factors."""
    state = {key: value.double() for key, value in plain(hidden).state_dict().items()}
    factors, h = adapted.factors(), x.double()
    names = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    for name in names:
        A, B = (factor.detach().double() for factor in factors[name])
        h = h @ state[f"{name}.weight"].T + state[f"{name}.bias"] + alpha * adapted.scale() * (h @ A.T) @ B.T
        h = h.relu() if name != names[-1] else h
    return h


@torch.no_grad()
def merged_weights(adapted: Adapted, alpha: float) -> dict[str, Tensor]:
    """Compute weights and biases with the products added, in float64."""
    state = {key: value.double() for key, value in plain().state_dict().items()}
    for name, (A, B) in adapted.factors().items():
        state[f"{name}.weight"] += alpha * adapted.scale() * B.detach().double() @ A.detach().double()
    return state


def gap(actual: Mapping[str, Tensor] | Tensor, expected: Mapping[str, Tensor] | Tensor) -> float:
    """Return the largest difference, over the largest expected value where that is above one; infinite for NaN.

    Raises:
        BrokenError: where keys or shapes differ.
    """
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        hold(set(actual) == set(expected), f"weights() gives {', '.join(actual)}, not {', '.join(expected)}")
        return max(gap(actual[key], expected[key]) for key in expected)
    assert isinstance(actual, Tensor)
    assert isinstance(expected, Tensor)
    hold(actual.shape == expected.shape, f"the shape is {tuple(actual.shape)}, not {tuple(expected.shape)}")
    largest = float((actual.detach().double() - expected.double()).abs().max())
    return largest / max(1.0, float(expected.abs().max())) if math.isfinite(largest) else math.inf


def digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names and bytes."""
    sha256 = hashlib.sha256()
    for key in sorted(weights):
        sha256.update(key.encode() + b"\0" + weights[key].detach().contiguous().numpy().tobytes())
    return sha256.hexdigest()
