"""A linear probe: the accuracy of a linear classifier of features (Alain and Bengio 2016, arXiv:1610.01644).

It is an instrument and not part of a model: it sees labelled images of all digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

PENALTY = 1e-4
"""Weight of half the squared weights, beside the mean cross-entropy. Of 1e-3, 1e-4 and 1e-5 it is within 0.1 points of
the best on 10,000 training images that the probe had not seen, on both hidden layers of a base and of an adapter of
rank 8."""
_NEGLIGIBLE = 1e-5
"""Share of the largest variance below which a direction holds only rounding, such as a unit that never fires."""
_TOLERANCE = 3e-4
"""Largest entry of the gradient at the end; with a third of it, training accuracies are the same to 0.04 points."""
_MOST_STEPS = 300


@dataclass(frozen=True)
class Probe:
    """A classifier that is linear in features: ``(features − mean) W + b``, with W of features × classes."""

    mean: Tensor
    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (n × classes) of features (n × features)."""
        return (features - self.mean) @ self.weight + self.bias


def fit_probe(features: Tensor, labels: Tensor, *, penalty: float = PENALTY) -> Probe:
    """Fit a multinomial logistic regression by L-BFGS from zero: a convex problem, without random numbers.

    The features are whitened first, so that the penalty is on the variance of the logits and not on a layer's units.
    That also halves the steps of the fit. ``features`` are n × features in float32, ``labels`` n from 0 to 9, and
    ``penalty`` weighs half the sum of the squared weights of whitened features.
    """
    mean = features.mean(0)
    centred = (features - mean).double()
    variance, directions = torch.linalg.eigh(centred.T @ centred / len(features))
    kept = variance > _NEGLIGIBLE * variance.max()
    whiten = (directions[:, kept] / variance[kept].sqrt()).to(features.dtype)
    inputs = (features - mean) @ whiten
    weight = torch.zeros(inputs.shape[1], 10, requires_grad=True)
    bias = torch.zeros(10, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, bias], max_iter=_MOST_STEPS, history_size=20, tolerance_grad=_TOLERANCE, tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> Tensor:
        search.zero_grad()
        value = F.cross_entropy(inputs @ weight + bias, labels) + penalty / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(loss)  # type: ignore[no-untyped-call]
    return Probe(mean, whiten @ weight.detach(), bias.detach())
