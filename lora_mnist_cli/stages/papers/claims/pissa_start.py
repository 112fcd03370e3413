"""LoRA from principal components starts faster (PiSSA, Meng et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RATES, moments, of_rank, ratio, scale_grid

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

RANK, EARLY = 16, 32
"""The rank, and the step at which both are compared: a twelfth of an epoch of 60,000 images' half."""


def measure(runs: SeedRuns) -> Measured:
    """Train both at the rate that is best for each, and PiSSA at LoRA's too, and score them along the way."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    lora = best(of_rank(scale_grid(runs, "constant"), RANK)).config
    grid = runs.runs([runs.config(method="pissa", rank=RANK, lr=rate) for rate in RATES])
    pissa = best(grid).config
    chosen = {"LoRA": lora, "PiSSA": pissa, "PiSSA at LoRA's rate": runs.config(method="pissa", rank=RANK, lr=lora.lr)}
    early, last, measured = {}, {}, Measured()
    for name, config in chosen.items():
        (run,) = runs.runs([config], moments(runs.steps, last=2 * EARLY))  # type: ignore[list-item]
        along = [runs.scores(weights) for weights in run.weights]
        place = max(number for number, moment in enumerate(run.moments) if moment <= EARLY)
        early[name], last[name] = along[place], along[-1]
        measured.curves.setdefault("loss", {})[name] = [
            (step, scores.new_loss) for step, scores in zip(run.moments, along, strict=True)
        ]
    measured.figures = {
        "own": ratio(early["PiSSA"].new_loss, early["LoRA"].new_loss),
        "same": ratio(early["PiSSA at LoRA's rate"].new_loss, early["LoRA"].new_loss),
        "end": last["PiSSA"].new - last["LoRA"].new,
        "rates": pissa.lr / lora.lr,
    }
    return measured


IMPLEMENTATION = Claim(
    claim="LoRA that starts from the weights' principal components learns faster at the start.",
    source="Meng et al. 2024 (PiSSA), arXiv:2404.02948",
    differs="There: language models up to 70B at one rate for both. Here: both at the same rate, and each at its own.",
    run=f"LoRA and PiSSA of rank {RANK} (factor 1), each at the rate that is best at the end on validation images, and "
    f"PiSSA at LoRA's best rate; loss on new test digits along training.",
    refuted=f"After {EARLY} steps PiSSA's loss is no lower than LoRA's, each at its own rate or both at LoRA's.",
    figures=(
        Figure("own", f"loss after {EARLY} steps, PiSSA to LoRA, each at its own rate", "times", high=1.0),
        Figure("same", f"loss after {EARLY} steps, PiSSA to LoRA, both at LoRA's rate", "times", high=1.0),
        Figure("end", "new digits at the end, PiSSA less LoRA, each at its own rate", "points"),
        Figure("rates", "best rate, PiSSA to LoRA", "times"),
    ),
    panels=(Panel("loss", "Loss along training", "optimiser steps", "test loss, new digits", log_x=True, log_y=True),),
    measure=measure,
)
