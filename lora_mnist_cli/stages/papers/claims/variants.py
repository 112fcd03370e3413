"""Variants of LoRA are within a point of each other once each has its own rate (Lee et al. 2026)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RATES, SCALES, of_rank, scale_grid

if TYPE_CHECKING:
    from typing import Any

    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

RANK, POINT = 16, 0.01
SLOW_RATES = RATES[1:5]
"""Of methods that are trained one by one."""
VARIANTS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "LoRA+": ({"lr_ratio_b": 16.0}, tuple(rate / 4 for rate in RATES)),
    "PiSSA": ({"method": "pissa"}, RATES),
    "DoRA": ({"method": "dora", "init": "kaiming"}, SLOW_RATES),
}
"""Variant → its settings and its rates; beside LoRA and rsLoRA, which have the grid of other claims."""


def measure(runs: SeedRuns) -> Measured:
    """Train every variant at every rate, and score the best of each; and all of them at LoRA's best rate."""
    from lora_mnist_cli.stages.papers.seed_runs import best

    grids = {
        name: of_rank(scale_grid(runs, scaling), RANK) for name, scaling in (("LoRA", "constant"), ("rsLoRA", "rslora"))
    }
    grids |= {
        name: runs.runs([runs.config(rank=RANK, lr=rate, **settings) for rate in rates])
        for name, (settings, rates) in VARIANTS.items()
    }
    chosen = {name: best(grid) for name, grid in grids.items()}
    reached = {name: runs.scores(run.weights[-1]).new for name, run in chosen.items()}
    measured = Measured({name: value - reached["LoRA"] for name, value in reached.items() if name != "LoRA"})
    measured.curves = {
        "accuracy": {"each at its own rate": list(reached.items())},
        "rates": {name: [(run.config.lr, run.val_losses[-1]) for run in grid] for name, grid in grids.items()},
    }
    return measured


IMPLEMENTATION = Claim(
    claim="Variants of LoRA are within a point of each other once each has its own learning rate.",
    source="Lee et al. 2026, arXiv:2602.04998",
    differs="There: language models and nine variants, which end within 1 to 2 % of LoRA. Here: one network, few "
    "steps, and a point as the limit.",
    run=f"LoRA, rsLoRA (alpha {SCALES['rslora']:g}), LoRA+ (ratio 16), PiSSA and DoRA of rank {RANK}, each at its best "
    f"of {len(SLOW_RATES)} to {len(RATES)} rates on validation images; new test digits.",
    refuted="A variant is more than a point above or below LoRA.",
    figures=tuple(
        Figure(name, f"new digits, {name} less LoRA", "points", -POINT, POINT) for name in ("rsLoRA", *VARIANTS)
    ),
    panels=(
        Panel("accuracy", "At the best rate of each", "variant", "new digits (%)", percent=True),
        Panel("rates", "Loss by rate", "learning rate", "validation loss", log_x=True, log_y=True),
    ),
    measure=measure,
)
