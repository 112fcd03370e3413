"""Grids of rates that several claims share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns
    from lora_mnist_cli.training.trials.watching import Run

RANKS = (1, 4, 16, 64)
RATES = tuple(4e-4 * 2**i for i in range(7))
"""Learning rates of every method, a factor of two apart: 0.0004 to 0.0256."""
SCALES = {"standard": 32.0, "rslora": 16.0, "constant": 1.0}
"""Scaling → alpha. At rank 4 standard and rsLoRA are the same, and 32 is what Schulman et al. take."""


def full_grid(runs: SeedRuns) -> list[Run]:
    """Return full fine-tuning at every rate."""
    return runs.runs([runs.config(method="full", lr=rate) for rate in RATES])


def scale_grid(runs: SeedRuns, scaling: str) -> list[Run]:
    """Return LoRA of every rank at every rate, with one scaling."""
    return runs.runs(
        [runs.config(rank=rank, scaling=scaling, alpha=SCALES[scaling], lr=rate) for rank in RANKS for rate in RATES]
    )


def of_rank(grid: Sequence[Run], rank: int) -> list[Run]:
    """Return the runs of one rank."""
    return [run for run in grid if run.config.rank == rank]  # type: ignore[attr-defined]


def best_rate(runs: Sequence[Run]) -> float | None:
    """Return the rate at which the loss on validation images is lowest, between the rates of a grid.

    It is the vertex of the parabola through the lowest point and its neighbours, on logarithms of rate and loss. At an
    end of the grid, or beside a loss that is not finite, it is that rate itself; None without a finite loss.
    """
    ordered = sorted(runs, key=lambda run: run.config.lr)
    losses = [run.val_losses[-1] for run in ordered]
    finite = [place for place, loss in enumerate(losses) if math.isfinite(loss) and loss > 0]
    if not finite:
        return None
    lowest = min(finite, key=lambda place: losses[place])
    near = (lowest - 1, lowest, lowest + 1)
    rates = [math.log(run.config.lr) for run in ordered]
    if not set(near) <= set(finite):
        return math.exp(rates[lowest])
    before, here, after = (math.log(losses[place]) for place in near)
    bend = before - 2 * here + after
    step = (rates[lowest + 1] - rates[lowest - 1]) / 2
    return math.exp(rates[lowest] + (step * (before - after) / (2 * bend) if bend > 0 else 0.0))


def ratio(first: float | None, second: float | None) -> float | None:
    """Return the first by the second, or None where one is missing, not finite or 0."""
    if first is None or second is None or not (math.isfinite(first) and math.isfinite(second) and second):
        return None
    return first / second


def moments(steps: int, *, first: int = 1, last: int | None = None) -> list[int]:
    """Return the powers of two from the first to the last moment, as far as they are below the number of steps; and
    that number.
    """
    powers = [1 << i for i in range(steps.bit_length()) if first <= 1 << i < steps]
    return [power for power in powers if last is None or power <= last] + [steps]
