"""B wants a higher rate than A (LoRA+, Hayou et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RATES

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

RANK, ALPHA = 8, 16.0
RATIOS = (1 / 16, 1 / 4, 1.0, 4.0, 16.0)


def measure(runs: SeedRuns) -> Measured:
    """Train at every rate and ratio, and score the best rate of each ratio."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    # The rate is the geometric mean of both factors' rates, so that a ratio moves both.
    configs = {
        ratio: [
            runs.config(rank=RANK, scaling="standard", alpha=ALPHA, lr=rate / ratio**0.5, lr_ratio_b=ratio)
            for rate in RATES
        ]
        for ratio in RATIOS
    }
    every = runs.runs([config for some in configs.values() for config in some])
    reached, losses = {}, {}
    for number, ratio in enumerate(RATIOS):
        chosen = best(every[number * len(RATES) : (number + 1) * len(RATES)])
        scores = runs.scores(chosen.weights[-1])
        reached[ratio], losses[ratio] = scores.new, scores.new_loss
    figures: dict[str, float | None] = {
        "higher": reached[16.0] - reached[1.0], "lower": reached[1 / 16] - reached[1.0],
        "best": min(losses, key=lambda ratio: losses[ratio]),
    }  # fmt: skip
    measured = Measured(figures)
    for panel, values in (("accuracy", reached), ("loss", losses)):
        measured.curves[panel] = {"rank 8": [(ratio, values[ratio]) for ratio in RATIOS]}
    return measured


IMPLEMENTATION = Claim(
    claim="B wants a higher learning rate than A.",
    source="Hayou et al. 2024 (LoRA+), arXiv:2402.12354",
    differs="There: language models up to 7B, with a ratio of about 16. Here: layers with 64 units; the theory is for "
    "wide ones.",
    run=f"LoRA of rank {RANK} (alpha {ALPHA:g}, standard scaling) with B's rate 1/16, 1/4, 1, 4 and 16 times A's, each "
    f"at {len(RATES)} rates (their geometric mean is the same grid); the best on validation images is scored.",
    refuted="At a ratio of 16, as the paper recommends, the new digits are no better than at 1; or at 1/16 no worse.",
    figures=(
        Figure("higher", "new digits, B 16 times as fast as A, less equal rates", "points", low=0.0),
        Figure("lower", "new digits, A 16 times as fast as B, less equal rates", "points", high=0.0),
        Figure("best", "ratio with the lowest loss", "times"),
    ),
    panels=(
        Panel("accuracy", "Accuracy at each ratio's best rate", "rate of B / rate of A", "new digits (%)", log_x=True,
              percent=True),
        Panel("loss", "Loss at each ratio's best rate", "rate of B / rate of A", "test loss, new digits", log_x=True),
    ),
    measure=measure,
)  # fmt: skip
