"""LoRA learns less and forgets less (Biderman et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RANKS, full_grid, moments, of_rank, scale_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

RANK, LEVEL, FIRST = 16, 0.90, 8
"""The rank that decides, the accuracy on new validation images at which old digits are compared, and the first step
after which networks are scored.
"""


def measure(runs: SeedRuns) -> Measured:
    """Train full fine-tuning and each rank at its own rate once more, and score old and new digits along the way."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    grid = scale_grid(runs, "standard")
    chosen = {"full fine-tuning": best(full_grid(runs)).config}
    chosen |= {f"LoRA, rank {rank}": best(of_rank(grid, rank)).config for rank in RANKS}
    measured, last, level = Measured(), {}, {}
    for name, config in chosen.items():
        (run,) = runs.runs([config], moments(runs.steps, first=FIRST))  # type: ignore[list-item]
        along = [runs.scores(weights) for weights in run.weights]
        last[name] = along[-1]
        level[name] = at_level(run.val_accuracies, [scores.old_known for scores in along], LEVEL)
        measured.curves.setdefault("plane", {})[name] = [(scores.new, scores.old_known) for scores in along]
        measured.curves.setdefault("steps", {})[name] = [
            (step, scores.old_known) for step, scores in zip(run.moments, along, strict=True)
        ]
    lora, full = f"LoRA, rank {RANK}", "full fine-tuning"
    of_lora, of_full = level[lora], level[full]
    equal = None if of_lora is None or of_full is None else of_lora - of_full
    measured.figures = {
        "new": last[lora].new - last[full].new, "old": last[lora].old_known - last[full].old_known, "equal": equal,
        "ten": last[lora].old - last[full].old,
    }  # fmt: skip
    return measured


def at_level(reached: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """Return a value where a rising measure first reaches a level, between two moments on a line; None if never."""
    for number, now in enumerate(reached):
        if now >= level:
            if number == 0:
                return values[0]
            before = reached[number - 1]
            share = (level - before) / (now - before)
            return values[number - 1] + share * (values[number] - values[number - 1])
    return None


IMPLEMENTATION = Claim(
    claim="LoRA learns less than full fine-tuning and forgets less, at equal accuracy on the new digits too.",
    source="Biderman et al. 2024, arXiv:2405.09673",
    differs="There: 7B language models, code and mathematics, ranks 16 to 256 of 4096. Here: a network of 64 units. "
    "Forgetting over all ten logits is total with every method here, so old digits are scored with the task known: "
    "among the logits of 0-4.",
    run="Full fine-tuning and LoRA of rank 1, 4, 16 and 64 (alpha 32, standard scaling), each at the rate that is best "
    "on validation images of the new digits; old and new test digits along training. Rank 16 decides.",
    refuted=f"LoRA of rank {RANK} learns as much, or keeps less of the old digits, at the end or where both have "
    f"{100 * LEVEL:.0f} % of the new validation images right.",
    figures=(
        Figure("new", f"new digits at the end, rank {RANK} less full", "points", high=0.0),
        Figure("old", f"old digits at the end (task known), rank {RANK} less full", "points", low=0.0),
        Figure("equal", f"old digits at {100 * LEVEL:.0f} % of the new, rank {RANK} less full", "points", low=0.0),
        Figure("ten", f"old digits over all ten logits, rank {RANK} less full", "points"),
    ),
    panels=(
        Panel("plane", "Old against new digits along training", "new digits (%)", "old digits, task known (%)",
              percent=True, percent_x=True),
        Panel("steps", "Old digits by step", "optimiser steps", "old digits, task known (%)", log_x=True, percent=True),
    ),
    measure=measure,
)  # fmt: skip
