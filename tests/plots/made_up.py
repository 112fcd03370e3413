"""Records and figures that the tests of plots share, made up, and how they read what a figure shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import (
    alpha,
    board,
    claims,
    confusion,
    forgetting,
    history,
    landscape,
    learning_rate,
    predictions,
    ranks,
    spectrum,
    strategies,
    style,
    tradeoff,
)


def subsets(**accuracies: float | None) -> list[dict[str, Any]]:
    names = {"old": "0-4", "new": "5-9", "all": "0-9"}
    return [{"digits": names[key], "count": 10, "accuracy": value, "loss": 1.0} for key, value in accuracies.items()]


def result(rank: int, new: float | None, *, seed: int = 0, old: float | None = 0.01, **more: float) -> dict[str, Any]:
    scored = subsets(old=old, new=new, **more)
    return {"artifact": "x", "rank": rank, "seed": seed, "trainable_parameters": 1050 * rank, "subsets": scored}


def draw_ranks(results: list[dict[str, Any]], **changes: Any) -> Figure:
    settings: dict[str, Any] = {"base_digits": "0-4", "new_digits": "5-9", "study": {}, "title": "Ranks"}
    return ranks.draw(results, **{**settings, **changes})


def draw_alpha(rows: list[dict[str, Any]], **changes: Any) -> Figure:
    settings: dict[str, Any] = {"base_digits": "0-4", "new_digits": "5-9", "trained_alpha": 1.0, "title": "Alpha"}
    return alpha.draw(rows, **{**settings, **changes})


def draw_predictions(count: int, *, mistakes: int = 0, **more: str) -> Figure:
    labels = np.arange(count) % 10
    predicted = labels.copy()
    predicted[:mistakes] = (predicted[:mistakes] + 1) % 10
    images = np.arange(count * 784, dtype=np.uint64).astype(np.uint8).reshape(count, 28, 28)
    return predictions.draw(images, labels, predicted, title="Predictions", **more)


def epoch(
    number: int, loss: float = 1.0, accuracy: float = 0.5, *, val: bool = True, lr: float = 1e-3
) -> dict[str, Any]:
    validation = {"val_loss": 2 * loss if val else None, "val_accuracy": accuracy / 2 if val else None}
    return {"epoch": number, "train_loss": loss, "train_accuracy": accuracy, **validation, "lr": lr}


def rate(rank: int, lr: float, accuracy: float | None, *, seed: int = 0, failed: bool = False) -> dict[str, Any]:
    return {"rank": rank, "lr": lr, "seed": seed, "accuracy": accuracy, "failed": failed}


def draw_rates(rows: list[dict[str, Any]], **changes: Any) -> Figure:
    return learning_rate.draw(rows, **({"digits": "5-9", "title": "Learning-rate"} | changes))


def cell(column: int, row: int, *percents: float, validation: float | None = 0.5, diverged: int = 0) -> landscape.Cell:
    return landscape.Cell((column, row), percents, diverged, None if diverged else validation)


def draw_landscape(cells: list[landscape.Cell], columns: int, rows: int, **changes: Any) -> Figure:
    values = [f"{10 ** (place - 4):g}" for place in range(columns)], [str(2**place) for place in range(rows)]
    settings: dict[str, Any] = {"axes_names": ("learning rate", "rank"), "values": values, "digits": "5-9"}
    return landscape.draw(cells, **({"title": "Landscape"} | settings | changes))


def factors(values: list[float], fan_in: int = 9, fan_out: int = 7) -> tuple[Any, Any]:
    """B and A whose product has these singular values, by orthogonal columns that are turned into each other."""
    generator = np.random.default_rng(0)
    left, right = (np.linalg.qr(generator.normal(size=(n, len(values))))[0] for n in (fan_out, fan_in))
    turn = np.linalg.qr(generator.normal(size=(len(values), len(values))))[0]
    return left * values @ turn, turn.T @ right.T


def draw_tradeoff(paths: dict[str, list[tuple[float, float | None, float | None]]], **changes: Any) -> Figure:
    """``paths`` has alpha, accuracy on the old digits and on the new ones; each was trained at alpha 1."""
    keys = ("alpha", "old", "new")
    made = [
        {"label": label, "trained_alpha": 1.0, "points": [dict(zip(keys, point, strict=True)) for point in points]}
        for label, points in paths.items()
    ]
    settings: dict[str, Any] = {"old_digits": "0-4", "new_digits": "5-9", "title": "Tradeoff", "subtitle": "seed 0"}
    return tradeoff.draw(made, **{**settings, **changes})


def written_above(axes: Axes) -> list[str]:
    """The figures above a panel of ranks."""
    (row,) = axes.child_axes
    return [label.get_text() for label in row.get_xticklabels()]


def subtitle_of(figure: Figure) -> str:
    _, *below = figure.texts  # the title is the first
    return " ".join(text.get_text().replace("\n", " ") for text in below)


def a_half(model: str, half: str, accuracy: float, known: float) -> dict[str, Any]:
    """A row of an adapter's anatomy, with ten images in the upper of two bins of confidence."""
    bins = [
        {"low": 0.0, "high": 0.5, "count": 0, "confidence": None, "accuracy": None},
        {"low": 0.5, "high": 1.0, "count": 10, "confidence": 0.8, "accuracy": accuracy},
    ]
    calibrations = {
        key: {"error": error, "confidence": 0.8, "bins": bins}
        for key, error in (("calibration", 0.25), ("calibration_known", 0.125))
    }
    digits = {"old": "0-4", "new": "5-9"}[half]
    scored = {"digits": digits, "count": 10, "accuracy": accuracy, "accuracy_known": known}
    return {"model": model, "half": half, **scored, **calibrations}


HALVES = [
    a_half("base", "old", 0.99, 0.995), a_half("base", "new", 0.0, 0.2), a_half("adapter", "old", 0.01, 0.6),
    a_half("adapter", "new", 0.96, 0.97),
]  # fmt: skip
PROBES: list[dict[str, Any]] = [
    {"layer": layer, "model": model, "old": old, "new": old - 0.1, "all": old - 0.05}
    for layer, lost in (("fc1", 0.0), ("fc2", 0.02))
    for model, old in (("untrained", 0.8 - lost), ("base", 0.95 - lost), ("adapter", 0.94 - lost))
]


STRATEGIES: dict[str, Any] = {
    "old": "0-4",
    "new": "5-9",
    "cures": [
        {"title": title, "runs": [{"old": old + 0.01 * seed, "new": new - 0.02 * seed} for seed in range(3)]}
        for title, old, new in (("Plain", 0.0, 0.98), ("Full", 0.01, 0.97), ("Kept", 0.95, 0.93))
    ],
}


def claim(lines: int, points: int = 4, *, seeds: bool = True) -> dict[str, Any]:
    """A claim with a panel of words, and one with both axes logarithmic and a point that no seed has."""
    drawn = [
        {
            "label": f"method {line}",
            "points": [
                {"x": 2.0**x, "mean": None if x == line else 0.5 / (line + x), "low": 0.2 if seeds else None,
                 "high": 0.6 if seeds else None}
                for x in range(1, points)
            ],
        }
        for line in range(1, lines + 1)
    ]  # fmt: skip
    words = [{**line, "points": [point | {"x": f"x{point['x']:g}"} for point in line["points"]]} for line in drawn]
    look = {"log_x": True, "log_y": True, "percent": False, "percent_x": False}
    return {"panels": [
        {"title": "Loss by step", "x": "optimiser steps", "y": "loss", "lines": drawn, **look},
        {"title": "Accuracy", "x": "method", "y": "accuracy (%)", "lines": words, **look, "percent": True,
         "log_x": False, "log_y": False},
    ]}  # fmt: skip


def draw_board(count: int, **more: Any) -> Figure:
    """A board of settings: every third on the front, the others beaten or not."""
    rows = [
        {
            "described": f"{'method' if i % 2 else 'a-longer-name'}-{i}, rank 8", "parameters": round(150 * 1.25**i),
            "new": {"mean": 0.99 - 0.02 * i, "low": 0.98 - 0.025 * i, "high": 1 - 0.018 * i},
            "forgetting": {"mean": 0.5 + 0.04 * i, "low": None, "high": None},
            "front": i % 3 == 0, "beaten": i % 3 == 1,
        }
        for i in range(count)
    ]  # fmt: skip
    return board.draw(rows, **{"old_digits": "0-4", "new_digits": "5-9", "title": "Board"} | more)


EVERY_KIND: dict[str, Callable[[], Figure]] = {
    "predictions": lambda: draw_predictions(3, mistakes=1, subtitle="three"),
    "ranks": lambda: draw_ranks([result(r, 0.9, seed=s) for r in (1, 8) for s in (0, 1)], study={1: 0.8}),
    "alpha": lambda: draw_alpha([{"alpha": a, "subsets": subsets(old=1 - a, new=a, all=0.5)} for a in (0.0, 0.5, 1.0)]),
    "learning-rate": lambda: draw_rates(
        [rate(r, lr, 0.9 - lr, seed=s) for r in (1, 8) for lr in (0.1, 0.2) for s in (0, 1)]
        + [rate(8, 0.4, None, failed=True)]
    ),
    "landscape": lambda: draw_landscape(
        [cell(x, y, 90.0 + x - y, 91.0 - y, validation=x / 10) for x in (0, 1) for y in (0, 1)], 2, 2
    ),
    "spectrum": lambda: spectrum.draw(
        [spectrum.Change("rank 2", {layer: factors([3.0, 0.1]) for layer in ("fc1", "fc2", "fc3")})], title="Spectrum"
    ),
    "board": lambda: draw_board(2),
    "tradeoff": lambda: draw_tradeoff({"rank 1": [(0.0, 0.9, 0.0), (1.0, 0.1, 0.8), (1.25, 0.0, 0.7)]}),
    "forgetting": lambda: forgetting.draw(HALVES, PROBES, title="Forgetting"),
    "cures": lambda: strategies.draw(STRATEGIES, title="Cures"),
    "claims": lambda: claims.draw(claim(2), title="Claims"),
    "history": lambda: history.draw([epoch(0, 15.0), epoch(1, 0.1)], title="History"),
    "confusion": lambda: confusion.draw(np.diag(np.arange(10)), title="Confusion"),
}


def lines(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for line in axes.lines:
        x, y = line.get_data()
        found[str(line.get_label())] = ([float(v) for v in x], [float(v) for v in y])
    return found


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    """The one line whose label contains the text."""
    (found,) = [data for name, data in lines(axes).items() if label in name]
    return found


def legend_of(axes: Axes) -> list[str]:
    legend = axes.get_legend() or next(iter(axes.get_figure(root=True).legends), None)
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def render(figure: Figure) -> None:
    """Lay the figure out, with every warning an error."""
    with style.house_style():
        figure.draw_without_rendering()
