"""What a law is, how it is entered into a table, and how it demands something of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_mnist_cli.conformance.bench import TOLERANCE, Adapted, Bench, digest, formula, gap, hold, inputs, plain

Weights = Mapping[str, Tensor]
Check = Callable[[Bench], str]
EXACT = "bit for bit"


@dataclass(frozen=True)
class Law:
    """A law of LoRA, or of another method.

    Args:
        about: its demand, in a sentence.
        check: returns the evidence, or raises ``BrokenError``.
    """

    about: str
    check: Check


def enter(laws: dict[str, Law], name: str, about: str) -> Callable[[Check], Check]:
    """Return a decorator that enters a check into a table of laws."""

    def entered(check: Check) -> Check:
        laws[name] = Law(about, check)
        return check

    return entered


def near(actual: Weights | Tensor, expected: Weights | Tensor, evidence: str, tolerance: float = TOLERANCE) -> float:
    """Demand that values are the expected ones within a tolerance, and return their distance."""
    distance = gap(actual, expected)
    hold(distance <= tolerance, f"{evidence} {off(distance)}")
    return distance


def follows(adapted: Adapted, alpha: float, evidence: str) -> float:
    """Demand that the outputs are the formula's, and return their distance."""
    x = inputs()
    return near(adapted(x), formula(adapted, alpha, x), evidence)


def base_stays(adapted: Adapted, evidence: str, before: Weights | None = None) -> None:
    """Demand that the weights in use are the plain network's, bit for bit, or those of before where they are given.

    Args:
        evidence: is given the distance.
    """
    weights, base = adapted.weights(), plain().state_dict() if before is None else before
    hold(digest(weights) == digest(base), evidence.format(gap(weights, base)))


def refusal(call: Callable[[], object]) -> Exception | None:
    """Return the exception by which a call is refused, whatever it is; None where the call is accepted."""
    try:
        call()
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - any exception is a refusal
        return error
    return None


def train(adapted: Adapted) -> None:
    """Take a few steps with weight decay, which moves every trainable tensor, even without a gradient."""
    free = [parameter for parameter in adapted.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(free, lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted.model(inputs()).square().mean().backward()
        optimizer.step()


def equal(actual: Tensor, expected: Tensor, evidence: str) -> None:
    """Demand that outputs are the expected ones, bit for bit."""
    hold(torch.equal(actual, expected.detach()), f"{evidence} (up to {gap(actual, expected.detach()):.3g} apart)")


def copy(state: Weights) -> dict[str, Tensor]:
    """Return copies of tensors."""
    return {key: value.detach().clone() for key, value in state.items()}


def both(pair: tuple[Tensor, Tensor]) -> list[tuple[str, Tensor]]:
    """Return the names and the tensors of a pair of factors."""
    return list(zip("AB", pair, strict=True))


def mode(training: bool) -> str:
    """Return the name of a mode."""
    return "train" if training else "eval"


def words(names: object) -> str:
    """Write names in a row."""
    return ", ".join(str(name) for name in names) or "none"  # type: ignore[attr-defined]


def off(distance: float) -> str:
    """Write a distance."""
    return "no numbers" if math.isinf(distance) else f"{distance:.2g} off"
