"""Accuracy by rank: what adapters learn of the new digits, and what is left of the base's."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.scores import accuracy_of

Results = Sequence[Mapping[str, Any]]


@style.house_style()
def draw(
    results: Results, *, base_digits: str, new_digits: str, study: Mapping[int, float], title: str
) -> Figure:  # fmt: skip
    """Two panels over one axis of ranks: above the digits that the adapters learned, zoomed; below the base's, 0 to 100 %.

    One run a rank gives a line with its figures; more give each run, their mean and their sample standard deviation.
    Where both digit sets are one, there is one panel.

    Args:
        results: ``rank``, ``seed``, ``trainable_parameters`` and ``subsets`` of each run, in any order; an accuracy that
            is None or not there is left out.
        base_digits: digit set of the base, in canonical form.
        new_digits: digit set that the adapters learned, in canonical form.
        study: accuracy (a fraction) on ``new_digits`` by rank, from the original study; may be empty.
    """
    panels = [new_digits] if base_digits == new_digits else [new_digits, base_digits]
    figure = style.new_figure(title, height=5.8 if len(panels) == 2 else 4.4)
    upper, *lower = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[2.2, 1][: len(panels)])[
        :, 0
    ]

    runs = _by_rank(results, new_digits)
    colour = style.role_of(new_digits, new_digits=new_digits).colour
    if study:
        upper.plot(
            list(study),
            [100 * accuracy for accuracy in study.values()],
            linestyle="none",
            marker=style.STUDY.marker,
            markersize=8,
            markerfacecolor="none",
            markeredgecolor=style.STUDY.colour,
            label="original study, one run",
            zorder=4,
        )
    _draw_runs(upper, runs, new_digits, new_digits=new_digits, several_label=_several(runs))
    upper.set_title(f"Digits {new_digits}, which the adapter learned (zoomed axis)")
    _zoom(upper, [*(value for values in runs.values() for value in values), *(100 * value for value in study.values())])
    for rank, values in runs.items():
        mean = statistics.fmean(values)
        # On the side away from the study's marker, which is often within a marker's height.
        above = 100 * study.get(rank, math.inf) < mean
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        upper.annotate(
            f"{mean:.1f}",
            (rank, mean + (spread if above else -spread)),
            xytext=(0, 7 if above else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=style.SMALL,
            color=colour,
        )
    if runs or study:
        upper.legend(loc="lower right")

    for axes in lower:
        runs = _by_rank(results, base_digits)
        _draw_runs(axes, runs, base_digits, new_digits=new_digits)
        means = [statistics.fmean(values) for values in runs.values()]
        said = f": {_range(means)} %" if means else ""
        axes.set_title(f"Digits {base_digits}, which the base knew{said}")
        axes.set(ylim=(-6, 106), yticks=[0, 50, 100])

    for axes in (upper, *lower):
        axes.set_ylabel("Test accuracy (%)")
        style.tidy(axes)
    figure.align_ylabels()
    _rank_axis((lower or [upper])[-1], results, study)
    return figure


def _by_rank(results: Results, digits: str) -> dict[int, list[float]]:
    """Accuracies in percent of the runs of each rank, by rising rank."""
    runs: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda result: (result["rank"], result["seed"])):
        accuracy = accuracy_of(result["subsets"], digits)
        if accuracy is not None:
            runs.setdefault(result["rank"], []).append(100 * accuracy)
    return runs


def _several(runs: Mapping[int, Sequence[float]]) -> str:
    counts = [len(values) for values in runs.values()]
    if not counts:
        return ""
    n = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"mean ± standard deviation, n = {n} seeds"


def _draw_runs(
    axes: Axes, runs: Mapping[int, Sequence[float]], digits: str, *, new_digits: str, several_label: str = ""
) -> None:  # fmt: skip
    role = style.role_of(digits, new_digits=new_digits)
    if not runs:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
        return
    means = [statistics.fmean(values) for values in runs.values()]
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "clip_on": False}
    if all(len(values) == 1 for values in runs.values()):
        axes.plot(list(runs), means, label="this run", **look)
        return
    points = [(rank, value) for rank, values in runs.items() for value in values]
    axes.plot(*zip(*points, strict=True), **look, linestyle="none", markersize=4.5, alpha=0.3, mew=0, label="each seed")
    deviations = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in runs.values()]
    axes.errorbar(list(runs), means, yerr=deviations, **look, markersize=4.5, elinewidth=1.2, label=several_label)


def _zoom(axes: Axes, percents: Sequence[float]) -> None:
    if not percents:
        axes.set_ylim(0, 100)
        return
    low, high = min(percents), max(percents)
    room = max(0.14 * (high - low), 0.6)
    axes.set_ylim(max(low - room, -4), min(high + room, 104))


def _range(percents: Sequence[float]) -> str:
    low, high = f"{min(percents):.1f}", f"{max(percents):.1f}"
    return low if low == high else f"{low} to {high}"


def _rank_axis(axes: Axes, results: Results, study: Mapping[int, float]) -> None:
    """Ticks at the ranks themselves, with the number of trainable parameters under each that has just one."""
    parameters: dict[int, set[int]] = {rank: set() for rank in study}
    for result in results:
        parameters.setdefault(result["rank"], set()).add(result["trainable_parameters"])
    ranks = sorted(parameters)
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    if not ranks:
        axes.set_xlabel("Rank")
        return
    first, last = math.log2(ranks[0]), math.log2(ranks[-1])
    margin = max(0.06 * (last - first), 0.4)
    axes.set_xlim(2 ** (first - margin), 2 ** (last + margin))
    shown: list[int] = []
    for rank in ranks:
        if not shown or math.log2(rank / shown[-1]) >= (last - first) / 11:
            shown.append(rank)
    counted = any(len(parameters[rank]) == 1 for rank in shown)
    labels = [
        f"{rank}\n{parameters[rank].copy().pop():,}" if len(parameters[rank]) == 1 else f"{rank}" for rank in shown
    ]
    axes.set_xticks(shown, labels)
    axes.set_xlabel("Rank (below: trainable parameters)" if counted else "Rank")
