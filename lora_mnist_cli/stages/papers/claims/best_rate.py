"""LoRA's best rate is ten times full fine-tuning's, whatever the rank (Schulman et al. 2025)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RANKS, RATES, SCALES, best_rate, full_grid, of_rank, ratio, scale_grid

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

_TITLES = {
    "standard": "Times 32/rank (standard)",
    "rslora": "Times 16/√rank (rsLoRA)",
    "constant": "Times 1 (constant)",
}


def measure(runs: SeedRuns) -> Measured:
    """Find the best rate of full fine-tuning, and of each rank and scaling, on validation images."""
    full = full_grid(runs)
    of_full = best_rate(full)
    measured = Measured()
    for scaling in SCALES:
        grid = scale_grid(runs, scaling)
        rates = {rank: best_rate(of_rank(grid, rank)) for rank in RANKS}
        measured.figures |= {f"{scaling}-ratio": ratio(rates[16], of_full)}
        measured.figures |= {f"{scaling}-ranks": ratio(rates[64], rates[4])}
        if scaling == "standard":
            measured.figures["standard-lowest"] = ratio(rates[4], rates[1])
        lines = {f"rank {rank}": of_rank(grid, rank) for rank in RANKS} | {"full": full}
        measured.curves[scaling] = {
            label: [(run.config.lr, run.val_losses[-1]) for run in line] for label, line in lines.items()
        }
    return measured


IMPLEMENTATION = Claim(
    claim="LoRA's best learning rate is about ten times that of full fine-tuning and hardly depends on the rank.",
    source="Schulman et al. 2025, LoRA Without Regret (Thinking Machines Lab); scalings of arXiv:2312.03732",
    differs="There: language models, ranks 1 to 512, alpha 32 and scaling by 1/rank. Here the same alpha and scaling, "
    "ranks 1 to 64 of layers with 64 units, and few steps; two other scalings are shown beside it.",
    run=f"Full fine-tuning and LoRA of rank {', '.join(map(str, RANKS))} with three scalings at {len(RATES)} rates, a "
    f"factor of two apart ({RATES[0]:g} to {RATES[-1]:g}). The best is where a parabola through the lowest loss on "
    "validation images and its neighbours is lowest.",
    refuted="The best rate of rank 16 is less than 5 or more than 20 times full fine-tuning's; or that of rank 64 is "
    "less than half or more than twice that of rank 4.",
    figures=(
        Figure("standard-ratio", "best rate, rank 16 to full fine-tuning (alpha 32/rank)", "times", 5.0, 20.0),
        Figure("standard-ranks", "best rate, rank 64 to rank 4 (alpha 32/rank)", "times", 0.5, 2.0),
        Figure("standard-lowest", "best rate, rank 4 to rank 1 (alpha 32/rank)", "times"),
        Figure("rslora-ratio", "best rate, rank 16 to full fine-tuning (16/√rank)", "times"),
        Figure("rslora-ranks", "best rate, rank 64 to rank 4 (16/√rank)", "times"),
        Figure("constant-ratio", "best rate, rank 16 to full fine-tuning (factor 1)", "times"),
        Figure("constant-ranks", "best rate, rank 64 to rank 4 (factor 1)", "times"),
    ),
    panels=tuple(
        Panel(scaling, title, "learning rate", "validation loss",
              log_x=True, log_y=True)
        for scaling, title in _TITLES.items()
    ),
    measure=measure,
)  # fmt: skip
