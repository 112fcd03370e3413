"""With standard scaling high ranks stop learning, with rsLoRA they do not (Kalajdzievski 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RATES, SCALES, moments, of_rank, ratio, scale_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

SCALINGS = ("standard", "rslora")
RANKS, GRID_RANKS = (4, 16, 64, 256), (4, 16, 64)
"""The ranks that are compared, and those whose losses choose the rate."""
LOWEST, HIGHEST = RANKS[0], RANKS[-1]
EARLY = 256
"""Steps over which gradients are averaged: later the losses differ, and gradients with them."""


def measure(runs: SeedRuns) -> Measured:
    """Train every rank with both scalings at one rate: the best on validation images over the ranks of both."""
    grids = [of_rank(scale_grid(runs, scaling), rank) for scaling in SCALINGS for rank in GRID_RANKS]
    losses_at = {rate: [grid[place].val_losses[-1] for grid in grids] for place, rate in enumerate(RATES)}
    rate = min(RATES, key=lambda rate: mean_logarithm(losses_at[rate]))
    measured = Measured()
    for scaling in SCALINGS:
        configs = [runs.config(rank=rank, scaling=scaling, alpha=SCALES[scaling], lr=rate) for rank in RANKS]
        trained = runs.runs(configs, moments(runs.steps))
        losses = [runs.scores(run.weights[-1]).new_loss for run in trained]
        norms = [mean_norm([norm for norm, moment in zip(run.gradients, run.moments, strict=True) if moment <= EARLY])
                 for run in trained]  # fmt: skip
        measured.figures[f"{scaling}-loss"] = ratio(losses[-1], losses[0])
        measured.figures[f"{scaling}-gradient"] = ratio(norms[-1], norms[0])
        for panel, values in (("loss", losses), ("gradient", norms)):
            measured.curves.setdefault(panel, {})[scaling] = list(zip(RANKS, values, strict=True))
    return measured


def mean_logarithm(losses: Sequence[float]) -> float:
    """Return the mean of the logarithms; infinity where a loss is not finite, or 0."""
    if not all(math.isfinite(loss) and loss > 0 for loss in losses):
        return math.inf
    return math.fsum(map(math.log, losses)) / len(losses)


def mean_norm(gradients: Sequence[tuple[float, float]]) -> float:
    """Return the geometric mean of the norms of whole gradients, given those of A and of B."""
    return math.exp(mean_logarithm([math.hypot(*norms) for norms in gradients]))


IMPLEMENTATION = Claim(
    claim="With standard scaling high ranks learn no better, as their gradients collapse; with rsLoRA they do.",
    source="Kalajdzievski 2023, arXiv:2312.03732",
    differs="There: a 7B language model, ranks 4 to 2048, AdamW at one rate. Here: ranks 4 to 256, of which those "
    "above 64 exceed the rank of every layer; Adam at one rate. At rank 4 both scalings are the same.",
    run="LoRA of rank 4, 16, 64 and 256, scaled by 32/rank and by 16/√rank, all at one rate: that with the "
    "lowest mean logarithm of the loss on validation images, over both scalings and ranks up to 64. Loss on new test "
    "digits, and the norm of the gradient in the first 256 steps.",
    refuted="With standard scaling the loss falls by a tenth or more from rank 4 to 256, or the gradient keeps half "
    "its norm; or with rsLoRA the loss does not fall by a tenth, or the gradient changes by more than a factor of two.",
    figures=(
        Figure("standard-loss", "loss, rank 256 to rank 4, standard", "times", low=0.9),
        Figure("rslora-loss", "loss, rank 256 to rank 4, rsLoRA", "times", high=0.9),
        Figure("standard-gradient", "gradient, rank 256 to rank 4, standard", "times", high=0.5),
        Figure("rslora-gradient", "gradient, rank 256 to rank 4, rsLoRA", "times", 0.5, 2.0),
    ),
    panels=(
        Panel("loss", "Loss at one rate", "rank", "test loss, new digits", log_x=True, log_y=True),
        Panel("gradient", "Gradient in the first steps", "rank", "norm of the gradient", log_x=True, log_y=True),
    ),
    measure=measure,
)
