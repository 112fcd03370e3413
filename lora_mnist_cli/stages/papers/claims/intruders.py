"""Intruder dimensions come with forgetting, and scaling them down brings old digits back (Shuttleworth et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.evaluation.significance import rank_correlation
from lora_mnist_cli.stages.papers.claim import Claim, Figure, Measured, Panel
from lora_mnist_cli.stages.papers.grids import RANKS, full_grid, of_rank, scale_grid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns
    from lora_mnist_cli.training.trials.watching import Run, Weights

    Vectors = Mapping[str, Tensor]

RANK, LEVEL = 16, 0.85
"""The rank whose intruders are scaled, and the validation accuracy that a run of the correlation reaches at least."""
FACTORS = (1.0, 0.75, 0.5, 0.25, 0.0)
FACTOR = 0.75
"""The factor that decides: PEFT's default."""


def measure(runs: SeedRuns) -> Measured:
    """Count intruders in every run of a grid, score its forgetting, and scale the intruders of one run."""
    from lora_mnist_cli.evaluation.intruders import left_vectors
    from lora_mnist_cli.stages.papers.seed_runs import best

    bases = {name: left_vectors(weight) for name, weight in runs.base.state_dict().items() if weight.ndim == 2}
    grid, full = scale_grid(runs, "standard"), full_grid(runs)
    learned = [run for run in (*grid, *full) if run.val_accuracies[-1] >= LEVEL]
    counts = [count(bases, run) for run in learned]
    losses = [runs.scores(run.weights[-1]).old_known_loss for run in learned]
    chosen, best_full = best(of_rank(grid, RANK)), best(full)
    measured = Measured()
    paths: dict[str, list[tuple[float | str, float | None]]] = {}
    for factor in FACTORS:
        scores = runs.scores(scaled(bases, chosen.weights[-1], factor))
        for line, value in (("new digits", scores.new), ("old digits, task known", scores.old_known),
                            ("old digits, all ten logits", scores.old)):  # fmt: skip
            paths.setdefault(line, []).append((factor, value))
    place = FACTORS.index(FACTOR)

    def gained(line: str) -> float:
        return float(paths[line][place][1] or 0.0) - float(paths[line][0][1] or 0.0)

    measured.figures = {
        "correlation": rank_correlation(counts, losses),
        "more": float(count(bases, chosen) - count(bases, best_full)),
        "old": gained("old digits, task known"), "ten": gained("old digits, all ten logits"),
        "new": gained("new digits"),
    }  # fmt: skip
    measured.curves["path"] = dict(paths)
    measured.curves["count"] = {"intruders": [
        *((f"r{rank}", float(count(bases, best(of_rank(grid, rank))))) for rank in RANKS),
        ("full", float(count(bases, best_full))),
    ]}  # fmt: skip
    return measured


def count(bases: Vectors, run: Run) -> int:
    """Return how many intruders the layers of a run have together."""
    from lora_mnist_cli.evaluation.intruders import find_intruders

    return sum(len(find_intruders(U, run.weights[-1][name]).indices) for name, U in bases.items())


def scaled(bases: Vectors, weights: Weights, factor: float) -> Weights:
    """Return weights whose intruders are multiplied by a factor."""
    from lora_mnist_cli.evaluation.intruders import find_intruders

    return {
        name: find_intruders(bases[name], value).scaled(value, factor) if name in bases else value
        for name, value in weights.items()
    }


IMPLEMENTATION = Claim(
    claim="Intruder dimensions come with forgetting, LoRA has more of them than full fine-tuning, and scaling them "
    "down brings old knowledge back.",
    source="Shuttleworth et al. 2024, arXiv:2410.21228",
    differs="There: language models, and layers with hundreds of singular vectors. Here: layers with 64, 64 and 10, of "
    "which the ten leading ones are looked at. Old digits are scored with the task known, as over all ten logits "
    "they are lost.",
    run="In every run of the grids of full fine-tuning and of LoRA (ranks 1 to 64, alpha 32, standard scaling) that "
    f"has {100 * LEVEL:.0f} % of the new validation images right: intruders of all layers, and the loss on old test "
    f"digits. Rank {RANK} at its best rate: its intruders times {', '.join(f'{factor:g}' for factor in FACTORS)}.",
    refuted="Runs with more intruders forget no more (Spearman's rank correlation); full fine-tuning has as many; or "
    f"the old digits do not come back when intruders are multiplied by {FACTOR:g}.",
    figures=(
        Figure("correlation", "rank correlation of intruders and loss on old digits", low=0.0),
        Figure("more", f"intruders, rank {RANK} less full fine-tuning", low=0.0),
        Figure("old", f"old digits (task known) with intruders times {FACTOR:g}", "points", low=0.0),
        Figure("ten", f"old digits over all ten logits with intruders times {FACTOR:g}", "points"),
        Figure("new", f"new digits with intruders times {FACTOR:g}", "points"),
    ),
    panels=(
        Panel(
            "path", f"Rank {RANK}, its intruders scaled", "factor of the intruders", "test accuracy (%)", percent=True
        ),
        Panel("count", "Intruders at the best rate", "method", "intruders in all layers"),
    ),
    measure=measure,
)
