"""What a landscape of a sweep is drawn over: its two axes, their values, and the figure that chooses the best cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import METHOD, RANK, Axis, Value, in_words, short, varying_axes
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.records.histories import validation_runs
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError


def two_axes(sweep: Artifact, options: PlotOptions) -> tuple[Axis, Axis]:
    """Return the axes of columns and rows: those that are given, or rank and rate, or the first two that vary."""
    ranks = [RANK] if len(sweep.config[RANK.plural]) > 1 else []
    varying = [*ranks, *sorted(varying_axes(sweep.config), key=lambda axis: axis.field != "lr")]
    for axis in options.axes:
        if axis not in varying:
            hint = f"it varies {', '.join(in_words(each.field) for each in varying) or 'seeds alone'}"
            raise UsageError(f"'{sweep.name}' does not vary {in_words(axis.field)}", hint=hint, value=axis.field)
    free = [axis for axis in varying if axis.field not in options.where]
    if len(free) < 2:
        beside = " beside what --where holds" if options.where else ""
        only = f"only {in_words(free[0].field)}" if free else "nothing but seeds"
        problem = f"'{sweep.name}' varies {only}{beside}, and a landscape is over two settings"
        raise UsageError(problem, hint="lora-mnist sweep --ranks 1,4,16 --lrs 1e-3,4e-3,1.6e-2 --name rates")
    return options.axes or (free[1], free[0])  # type: ignore[return-value]


def values_of(sweep: Artifact, axis: Axis, rows: list[dict[str, Any]]) -> list[Value | None]:
    """Return the values of an axis in the order of numbers, or of the list; at last those of a method without it."""
    listed: list[Any] = sweep.config[axis.plural]
    listed = listed if axis.kind is str else sorted(listed)
    found = {row[axis.field] for row in rows}
    return [value for value in listed if value in found] + [value for value in found if value not in listed]


def validation_of(workspace: Workspace, sweep: Artifact, rows: list[dict[str, Any]]) -> list[float | None]:
    """Return each run's accuracy on validation images; None for all where the sweep had no such images."""
    try:
        return [run["accuracy"] for run in validation_runs(workspace.registry, sweep, rows)]
    except ArtifactError as error:
        workspace.reporter.notice(f"no best cell: {error.problem}")
        return [None] * len(rows)


def axis_label(axis: Axis) -> str:
    """Return the words for an axis."""
    return "learning rate" if axis.field == "lr" else in_words(axis.field)


def titled(setting: Mapping[str, Any]) -> dict[str, Any]:
    """Return a setting with the title of its method, for pictures."""
    method = setting.get(METHOD.field)
    return dict(setting) | ({METHOD.field: METHODS[method].title} if method else {})


def value_label(axis: Axis, value: Value | None) -> str:
    """Write a value for an axis: a method's title, a number in four digits, and none for a method without a rank."""
    if axis == METHOD:
        return METHODS[str(value)].title
    if axis == RANK and not value:
        return "none"
    return f"{value:.4g}" if isinstance(value, float) else short(value)
