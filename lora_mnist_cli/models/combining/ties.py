"""TIES (Yadav et al. 2023, arXiv:2306.01708): trim, elect a sign, and average the entries that agree with it.

The largest entries of each adapter's change by magnitude, over all layers together, are kept, and the others set to
zero. The sign of an entry is that of the sum over adapters, and its value the mean of the kept entries with this sign.
Equal weights w are the paper's λ = w: they multiply the kept entries before the vote, and thereby the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lora_mnist_cli.models.combining import Combiner
from lora_mnist_cli.models.combining.products import Changes, Matrix


class Ties(Combiner):
    """See the module. The default density is the paper's for merging without validation data (its §4)."""

    def wanted(
        self, changes: Sequence[Changes], weights: Sequence[float], *, density: float, draws: Sequence[Any]
    ) -> dict[str, Matrix]:
        """``mean {w ΔW̃ : sign(w ΔW̃) = sign(Σ w ΔW̃)}`` per entry, with ΔW̃ the trimmed changes."""
        trimmed = [_trim(change, density) for change in changes]
        merged = {}
        for layer in changes[0]:
            votes = np.stack([weight * change[layer] for weight, change in zip(weights, trimmed, strict=True)])
            elected = np.sign(votes.sum(0))
            agreeing = (np.sign(votes) == elected) & (votes != 0)
            merged[layer] = np.where(agreeing, votes, 0.0).sum(0) / np.maximum(agreeing.sum(0), 1)
        return merged


def _trim(change: Changes, density: float) -> dict[str, Matrix]:
    """Keep this share of the entries, those of the largest magnitudes over all layers; all others become zero."""
    sizes = np.concatenate([np.abs(matrix).ravel() for matrix in change.values()])
    count = max(1, round(density * len(sizes)))
    least = np.partition(sizes, len(sizes) - count)[len(sizes) - count]
    return {layer: np.where(np.abs(matrix) >= least, matrix, 0.0) for layer, matrix in change.items()}


IMPLEMENTATION = Ties()
