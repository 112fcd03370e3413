"""Accuracy by rank: how well adapters learn the new digits, and how much they keep of the base's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from lora_mnist_cli.plots import style
from lora_mnist_cli.plots.lettering import SMALL, legend_below
from lora_mnist_cli.plots.scores import SeedPercents, accuracy_of

Results = Sequence[Mapping[str, Any]]

_DASHES = ("--", ":", "-.")
_STUDY = "original study, one run (left of its rank)"


@style.house_style()
def draw(
    results: Results, *, base_digits: str, new_digits: str, study: Mapping[int, float], title: str,
    subtitle: str = "", ceilings: Mapping[str, Results] | None = None, bases: Sequence[float] = (),
) -> Figure:  # fmt: skip
    """Draw two panels over one axis of ranks: above the digits that the adapters learned, zoomed; below the base's from
    0 to 100 %. Where the two digit sets are the same, there is one panel.

    One run per rank gives a line. More give every run faintly, the line of the means and the 95 % interval of each mean
    (of the t distribution). The interval says where the mean is; the faint points show how far single runs scatter.
    The means are written above each panel, where they stand on no point. The legend says what stands beside a rank.

    Args:
        results: ``rank``, ``seed``, ``trainable_parameters`` and ``subsets`` of each run, in any order. An accuracy
            that is None or missing is left out.
        base_digits: digit set of the base, in canonical form.
        new_digits: digit set that the adapters learned, in canonical form.
        study: accuracy (a fraction) on ``new_digits`` by rank, from the original study; may be empty.
        ceilings: title → runs of a method without a rank, such as full fine-tuning: a line across, with the band of
            the mean's interval where there are several seeds.
        bases: accuracy (a fraction) of each base on its own digits; their mean is a line across.
    """
    panels = [new_digits] if base_digits == new_digits else [new_digits, base_digits]
    single = len({result["rank"] for result in results} | set(study)) == 1
    height = (3.9 if single else 5.9) if len(panels) == 2 else 4.3
    figure = style.new_figure(title, height=height, subtitle=subtitle)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[2.2, 1][: len(panels)])
    upper, *lower = every = list(grid[:, 0])
    shown = _rank_axis((lower or [upper])[-1], results, study)

    if study:
        upper.plot(
            list(study), [100 * accuracy for accuracy in study.values()], linestyle="none", marker=style.STUDY.marker,
            markersize=8, markerfacecolor="none", markeredgecolor=style.STUDY.colour, label=_STUDY,
            transform=_beside(upper, -9), zorder=4,
        )  # fmt: skip
    drawn = [100 * accuracy for accuracy in study.values()]
    for axes, digits in zip(every, panels, strict=True):
        flat, runs = _flat(ceilings or {}, digits), _by_rank(results, digits)
        _draw_ceilings(axes, flat)
        _draw_runs(axes, runs, style.role_of(digits, new_digits=new_digits))
        _write_means(axes, {rank: runs[rank].mean for rank in shown if rank in runs})
        if axes is upper:
            drawn += [percent for some in (*runs.values(), *flat.values()) for percent in some.extent]
        axes.set_ylabel("Accuracy (%)")
    _zoom(upper, drawn)
    low, high = upper.get_ylim()
    zoomed = " (zoomed axis)" if high - low < 90 else ""
    upper.set_title(f"Test accuracy on {new_digits}, which the adapters learned{zoomed}")
    for axes in lower:
        axes.set_title(f"Test accuracy on {base_digits}, which the base knew")
        axes.set(ylim=(-6, 106), yticks=[0, 50, 100])
    if bases:
        _draw_base((lower or [upper])[-1], [100 * accuracy for accuracy in bases])
    legend_below(figure, _handles(every))
    for axes in every:
        style.tidy(axes)
    figure.align_ylabels()
    return figure


def _by_rank(results: Results, digits: str) -> dict[int, SeedPercents]:
    values: dict[int, list[float]] = {}
    for result in sorted(results, key=lambda result: (result["rank"], result["seed"])):
        accuracy = accuracy_of(result["subsets"], digits)
        if accuracy is not None:
            values.setdefault(result["rank"], []).append(100 * accuracy)
    return {rank: SeedPercents(tuple(percents)) for rank, percents in values.items()}


def _flat(ceilings: Mapping[str, Results], digits: str) -> dict[str, SeedPercents]:
    """Return title → the accuracies of a method without a rank."""
    by_title = {title: _by_rank(results, digits) for title, results in ceilings.items()}
    return {title: next(iter(runs.values())) for title, runs in by_title.items() if runs}


def _draw_ceilings(axes: Axes, ceilings: Mapping[str, SeedPercents]) -> None:
    for (title, runs), dashes in zip(ceilings.items(), itertools.cycle(_DASHES), strict=False):
        n = len(runs.values)
        label = f"{title}, one seed" if n == 1 else f"{title}, mean and its 95 % interval, n = {n}"
        axes.axhline(runs.mean, color=style.MUTED, linestyle=dashes, linewidth=1.4, zorder=1, label=label)
        if n > 1:
            axes.axhspan(*runs.interval, color=style.MUTED, alpha=0.15, linewidth=0, zorder=0)


def _draw_runs(axes: Axes, runs: Mapping[int, SeedPercents], role: style.Role) -> None:
    if not runs:
        style.say_nothing_to_draw(axes, "no accuracy on these digits")
        return
    means = [some.mean for some in runs.values()]
    counts = [len(some.values) for some in runs.values()]
    look: dict[str, Any] = {"color": role.colour, "marker": role.marker, "clip_on": False}
    if max(counts) == 1:
        axes.plot(list(runs), means, label="these adapters, one seed", **look)
        return
    points = [(rank, value) for rank, some in runs.items() for value in some.values]
    axes.plot(
        *zip(*points, strict=True), **look, linestyle="none", markersize=4.5, markeredgewidth=0, alpha=0.4,
        transform=_beside(axes, 7), label="each seed (right of its rank)",
    )  # fmt: skip
    n = f"{counts[0]}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    reaches = [(some.mean - some.interval[0], some.interval[1] - some.mean) for some in runs.values()]
    label = f"mean and its 95 % interval, n = {n} seeds"
    axes.errorbar(
        list(runs), means, yerr=list(zip(*reaches, strict=True)), **look, markersize=4.5, elinewidth=1.2, label=label
    )


def _beside(axes: Axes, points: float) -> Transform:
    """Return a place that many points to the right of the data: beside an error bar, not under it."""
    return axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)


def _write_means(axes: Axes, means: Mapping[int, float]) -> None:
    """Write each mean above the axes, over its rank."""
    row = axes.secondary_xaxis("top")
    row.minorticks_off()
    row.set_xticks(list(means), [f"{mean:.2f}" for mean in means.values()])
    row.tick_params(length=0, labelsize=SMALL, labelcolor=style.INK, pad=2)
    if means:
        look: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": SMALL}
        axes.annotate("%", (0, 1), xycoords="axes fraction", xytext=(-4, 4), textcoords="offset points", **look)
    row.spines[:].set_visible(False)


def _draw_base(axes: Axes, percents: Sequence[float]) -> None:
    mean = math.fsum(percents) / len(percents)
    what = f"mean of {len(percents)} bases" if len(percents) > 1 else "the base"
    axes.axhline(mean, color=style.INK, linestyle=(0, (4, 2)), linewidth=1.4, zorder=1, label=f"{what}: {mean:.1f} %")


def _handles(panels: Sequence[Axes]) -> list[Any]:
    """Return an entry of the legend per label, with the looks that it has in both panels."""
    by_label: dict[str, list[Any]] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            by_label.setdefault(label, []).append(handle)
    return list(by_label.values())


def _zoom(axes: Axes, percents: Sequence[float]) -> None:
    if not percents:
        axes.set_ylim(0, 100)
        return
    low, high = min(percents), max(percents)
    room = max(0.16 * (high - low), 1.0)
    axes.set_ylim(max(low - room, -15), min(high + room, 104))


def _rank_axis(axes: Axes, results: Results, study: Mapping[int, float]) -> list[int]:
    """Put ticks at the ranks, above the trainable parameters where that is one number; return the ranks with a tick."""
    parameters: dict[int, set[int]] = {rank: set() for rank in study}
    for result in results:
        parameters.setdefault(result["rank"], set()).add(result["trainable_parameters"])
    axes.set_xscale("log", base=2)
    axes.minorticks_off()
    if not parameters:
        axes.set(xticks=[], xlabel="Rank")
        return []
    first, last = math.log2(min(parameters)), math.log2(max(parameters))
    margin = max(0.06 * (last - first), 0.4)
    axes.set_xlim(2 ** (first - margin), 2 ** (last + margin))
    shown: list[int] = []
    for rank in sorted(parameters, key=lambda rank: (rank.bit_count() > 1, rank)):  # powers of two first
        if all(abs(math.log2(rank / other)) > (last - first) / 12 for other in shown):
            shown.append(rank)
    labels = [f"{rank}\n{min(parameters[rank]):,}" if len(parameters[rank]) == 1 else f"{rank}" for rank in shown]
    axes.set_xticks(shown, labels)
    axes.set_xlabel("Rank (below it: trainable parameters)" if "\n" in "".join(labels) else "Rank")
    return shown
