"""Nothing in a picture stands on anything else, at the sizes in which pictures are drawn most often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from plots.looking import faults
from plots.made_up import (
    EVERY_KIND,
    HALVES,
    PROBES,
    cell,
    claim,
    draw_alpha,
    draw_board,
    draw_landscape,
    draw_predictions,
    draw_ranks,
    draw_rates,
    draw_tradeoff,
    epoch,
    factors,
    rate,
    result,
    subsets,
)  # fmt: skip

from lora_mnist_cli.data.sources import SOURCES
from lora_mnist_cli.evaluation.original_study import RANKS
from lora_mnist_cli.plots import claims, confusion, forgetting, history, lettering, spectrum, strategies, style
from lora_mnist_cli.settings.choices import CLAIMS

NOISE = np.random.default_rng(0).normal(size=300).round(2).tolist()
CLASSES = SOURCES["fashion-mnist"].classes
SUBTITLE = "sweep-5-9 on base-0-4; reference recipe, epochs 2, weight decay 0.1; 10 seeds (0-9)"


def by_rank(seeds: int, *, old: float = 0.005, ranks: tuple[int, ...] = RANKS) -> list[dict[str, Any]]:
    return [
        result(rank, 0.98 - 0.12 / rank + 0.005 * NOISE[seed + 3 * rank], seed=seed, old=old + 0.002 * NOISE[seed] ** 2)
        for rank in ranks
        for seed in range(seeds)
    ]


def study_of_ranks(seeds: int, **changes: Any) -> Figure:
    study = {rank: 0.975 - 0.14 / rank for rank in RANKS}
    settings: dict[str, Any] = {"study": study, "bases": (0.992,), "title": "LoRA 5-9", "subtitle": SUBTITLE}
    return draw_ranks(by_rank(seeds), **(settings | changes))


def rates(seeds: int, ranks: tuple[int, ...], lrs: tuple[float, ...]) -> Figure:
    rows = [
        rate(rank, lr, 0.9 + 0.01 * NOISE[seed] - 0.02 * abs(np.log10(lr * rank / 0.01)), seed=seed)
        for rank in ranks
        for lr in lrs
        for seed in range(seeds)
    ]
    return draw_rates([*rows, rate(ranks[-1], lrs[-1], None, seed=99, failed=True)], subtitle=SUBTITLE)


def spectra(seeds: int, ranks: tuple[int, ...]) -> Figure:
    changes = [
        spectrum.Change(
            f"rank {rank}",
            {
                layer: factors([8 * 0.7**i + 1e-5 for i in range(min(rank, wide))], fan_in=784, fan_out=64)
                for layer, wide in (("fc1", 64), ("fc2", 64), ("fc3", 10))
            },
        )
        for rank in ranks
        for _ in range(seeds)
    ]
    return spectrum.draw(changes, title="LoRA on 5-9: singular values of ΔW by layer", subtitle=SUBTITLE)


def paths(seeds: int, ranks: tuple[int, ...]) -> Figure:
    points = [(a, 1 / (1 + np.exp(9 * a - 6)), 1 / (1 + np.exp(5 - 9 * a))) for a in (0, 0.2, 0.35, 0.5, 0.65, 1, 1.25)]
    return draw_tradeoff({f"rank {rank}": points for rank in ranks}, subtitle=SUBTITLE)


def cures(seeds: int, level: float) -> Figure:
    titles = ["Plain LoRA", "Full fine-tuning", "EWC", "Protected", "Routed", "Joint training"]
    rows = [
        {
            "title": title,
            "runs": [{"old": min(1, level * (i > 2)) * (1 - 0.001 * s), "new": 0.99 - 0.01 * i} for s in range(seeds)],
        }
        for i, title in enumerate(titles)
    ]
    return strategies.draw({"old": "0-7", "new": "8-9", "cures": rows}, title="Chain", subtitle=SUBTITLE)


def confusions(names: tuple[str, ...]) -> Figure:
    counts = np.diag(np.full(10, 973)) + np.arange(100).reshape(10, 10) % 31
    title = "LoRA on 5-9, rank 8: confusion of true and predicted digits"
    return confusion.draw(counts, title=title, subtitle=SUBTITLE, names=names, old=range(5))


def epochs(accuracies: list[float], **more: Any) -> Figure:
    rows = [epoch(number, 1 / (number + 1), accuracy) for number, accuracy in enumerate(accuracies)]
    return history.draw(rows, title="Base on 0-4: loss and accuracy by epoch", subtitle=SUBTITLE, sample=2048, **more)


def alphas() -> Figure:
    at = [i / 16 for i in range(25)]
    rows = [{"alpha": a, "subsets": subsets(old=1 / (1 + a**9), new=a / 2, all=0.5)} for a in at]
    return draw_alpha(rows, subtitle=SUBTITLE)


def landscapes(columns: int, rows: int, seeds: int) -> Figure:
    """With a cell where one seed diverged, one where all did, and one without a run."""
    places = [(x, y) for x in range(columns) for y in range(rows) if (x, y) != (0, rows - 1)]
    cells = [
        cell(x, y, *(95 - 3 * abs(x - y) + NOISE[s] for s in range(seeds)), validation=0.9 - abs(x - y) / 50)
        for x, y in places
    ]
    cells[1] = cell(*places[1], 50.0, diverged=1)
    cells[-1] = cell(*places[-1], diverged=seeds)
    return draw_landscape(cells, columns, rows, subtitle=SUBTITLE)


USUAL: dict[str, Callable[[], Figure]] = {
    **{f"{kind}, the smallest": draw for kind, draw in EVERY_KIND.items()},
    "ranks, one seed": lambda: study_of_ranks(1),
    "ranks, ten seeds": lambda: study_of_ranks(10),
    "ranks with a ceiling": lambda: study_of_ranks(
        5, ceilings={"Full fine-tuning": [result(0, 0.98, seed=s) for s in range(5)], "Last layer": [result(0, 0.85)]}
    ),
    "ranks, protected": lambda: draw_ranks(by_rank(5, old=0.97), bases=(0.992,)),
    "one rank": lambda: draw_ranks(by_rank(5, ranks=(8,)), bases=(0.992,)),
    "rates, three ranks": lambda: rates(3, (1, 4, 16), (1e-3, 4e-3, 1.6e-2)),
    "rates, seven ranks": lambda: rates(3, RANKS, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    "landscape, five rates by seven ranks": lambda: landscapes(5, 7, 10),
    "landscape, three by three, one seed": lambda: landscapes(3, 3, 1),
    "landscape, as large as figures fit": lambda: landscapes(10, 10, 3),
    "landscape, long values": lambda: draw_landscape(
        [cell(x, y, 90.0 + x) for x in range(8) for y in range(3)],
        8,
        3,
        values=([f"{0.123456789 / 10**x:.4g}" for x in range(8)], ["constant", "standard", "rslora"]),
    ),
    "landscape, thirty by forty": lambda: landscapes(30, 40, 3),
    "spectrum, nothing changed": lambda: spectrum.draw(
        [spectrum.Change("BitFit", {f"fc{i}": (np.zeros((64, 64)),) for i in (1, 2, 3)})], title="BitFit on 5-9"
    ),
    "spectrum, seven ranks": lambda: spectra(1, RANKS),
    "spectrum, three seeds": lambda: spectra(3, (1, 4, 16)),
    "tradeoff, seven ranks": lambda: paths(3, RANKS),
    "board, ten methods": lambda: draw_board(10, subtitle=SUBTITLE),
    "board, thirty settings": lambda: draw_board(30, subtitle=SUBTITLE),
    "alpha": alphas,
    "history": lambda: epochs([0.02, 0.972, 0.981, 0.985, 0.987]),
    "history, slow": lambda: epochs([0.1, 0.3, 0.5, 0.6, 0.7]),
    "history, untrained": lambda: epochs([0.1]),
    "confusion of clothes": lambda: confusions(CLASSES),
    "cures, ten seeds": lambda: cures(10, 0.97),
    "cures, one seed": lambda: cures(1, 0.97),
    "cures, all kept": lambda: cures(3, 1.0),
    "claims, five lines": lambda: claims.draw(claim(5, 9), title=max(CLAIMS.values(), key=len), subtitle=SUBTITLE),
    "claims, one seed": lambda: claims.draw(claim(3, seeds=False), title="A claim"),
    "spectrum, intruders": lambda: spectrum.draw(
        [
            spectrum.Change(
                f"rank {rank}",
                {layer: factors([3.0, 0.1]) for layer in ("fc1", "fc2", "fc3")},
                {"fc1": rank, "fc2": 0, "fc3": seed},
            )
            for rank in (1, 8)
            for seed in (0, 1)
        ],
        title="Spectrum",
    ),
    "predictions": lambda: draw_predictions(50, mistakes=7, subtitle=SUBTITLE),
    "predictions of clothes": lambda: draw_predictions(50, mistakes=20, subtitle=SUBTITLE, names=CLASSES),
    "forgetting": lambda: forgetting.draw(HALVES, PROBES, title="LoRA on 5-9, rank 8: forgotten", subtitle=SUBTITLE),
}


@pytest.mark.parametrize("case", USUAL)
def test_nothing_stands_on_anything_else_or_beyond_the_edge(case):
    assert faults(USUAL[case]()) == []


@pytest.mark.parametrize(
    ("place", "seen"),
    [
        ((0.5, 0.5), "a marker of one"),
        ((0.9, 0.9), "stands on 'another word'"),
        ((1.0, 0.2), "leaves the figure"),
        (None, ""),
    ],
)
def test_what_a_picky_reader_would_see_is_seen(place, seen):
    with style.house_style():
        figure = style.new_figure("Title", height=3)
        axes = figure.add_subplot()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.plot([0.5], [0.5], marker="o", label="one")
        axes.text(0.9, 0.9, "word")
        if place:
            axes.text(*place, "another word", in_layout=False)
    assert faults(figure) == [] if not seen else any(seen in fault for fault in faults(figure))


def test_long_names_are_shortened_in_their_middle_and_titles_broken_between_words():
    name = "lora-" + "x" * 90 + "-s12"
    shown = lettering.elide(name)
    assert (len(shown), shown[:5], shown[-4:]) == (40, "lora-", "-s12")
    assert lettering.elide("lora-5-9-r8") == "lora-5-9-r8"
    lines = lettering.wrap("wide WORDS " * 30, 4.0, lettering.TITLE, "bold").splitlines()
    assert all(2.5 < lettering.text_width(line, lettering.TITLE, "bold") <= 4.0 for line in lines[:-1])
    long = history.draw([epoch(0), epoch(1)], title=f"{shown} " * 4, subtitle=f"{shown}; " * 6)
    assert faults(long) == []
    assert long.get_figheight() > history.draw([epoch(0), epoch(1)], title="x").get_figheight() + 0.5
