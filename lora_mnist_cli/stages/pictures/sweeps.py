"""The results of a sweep that a picture shows, and the names of its adapters in a legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import METHOD, Value, in_words, short, varying_axes
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.records.ceilings import method_of
from lora_mnist_cli.stages.records.histories import members
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError


def chosen_results(sweep: Artifact, where: Mapping[str, Value], drawn: str = "") -> list[dict[str, Any]]:
    """Return a sweep's results at one value of each axis that it varies beside rank and seed.

    Args:
        drawn: an axis of which the picture shows every value.

    Raises:
        UsageError: where an axis is left open or not varied, or the sweep has no such value.
    """
    varying = {axis.field: axis for axis in varying_axes(sweep.config) if axis.field != drawn}
    for name, value in where.items():
        if name == drawn:
            raise UsageError(f"this picture shows every {in_words(name)}", hint="leave that --where out", value=name)
        if name not in varying:
            axes = ", ".join(map(in_words, varying))
            hint = f"it varies {axes}" if varying else "--where is for sweeps that vary more"
            raise UsageError(f"'{sweep.name}' does not vary {in_words(name)}", hint=hint, value=name)
        if value not in (values := sweep.config[varying[name].plural]):
            hint = f"it has {', '.join(map(short, values))}"
            raise UsageError(f"'{sweep.name}' has no {in_words(name)} {short(value)}", hint=hint, value=value)
    if left_open := [axis for name, axis in varying.items() if name not in where]:
        values_of = {axis: list(map(short, sweep.config[axis.plural])) for axis in left_open}
        lists = "; ".join(f"{in_words(axis.plural)} {', '.join(values)}" for axis, values in values_of.items())
        first = " ".join(f"--where {axis.option[2:]}={values[0]}" for axis, values in values_of.items())
        raise UsageError(
            f"'{sweep.name}' has several adapters per rank and seed: {lists}",
            hint=f"draw one combination: {first}",
            value=sweep.name,
        )
    return [row for row in sweep.details["results"] if all(row[name] == value for name, value in where.items())]


def where_words(where: Mapping[str, Value]) -> str:
    """Say for a title which results of a sweep were chosen."""
    return "".join(f", {in_words(name)} {short(value)}" for name, value in where.items())


def rank_label(method: str, rank: int) -> str:
    """Name an adapter among others of one method: by its rank, or by a method that has none."""
    return f"rank {rank}" if rank else METHODS[method].title


def labelled_adapters(
    workspace: Workspace, artifact: Artifact, options: PlotOptions
) -> tuple[list[tuple[str, Artifact]], str]:
    """Return the adapter itself, or all adapters of a sweep by method and rank, labelled; and a note on the seeds.

    Runs of one setting share a label.

    Raises:
        UsageError: where a combination has to be chosen, or there is nothing to choose from.
        ArtifactError: where an adapter is gone, or all diverged.
    """
    method = method_of(artifact)
    if artifact.kind == "adapter":
        if options.where:
            raise UsageError("--where is for sweeps", hint="leave it out", value=artifact.name)
        return [(rank_label(method, artifact.config["rank"]), artifact)], ""
    drawn = "" if METHOD.field in options.where else METHOD.field
    several_methods = bool(drawn) and METHOD in varying_axes(artifact.config)
    methods = [*artifact.config.get(METHOD.plural, ()), ""]
    results = sorted(
        chosen_results(artifact, options.where, drawn),
        key=lambda row: (methods.index(row.get(METHOD.field, "")), row["rank"]),
    )
    sound = [row for row in results if row["failed"] is None]
    if not sound:
        problem = f"all adapters of '{artifact.name}'{where_words(options.where)} diverged"
        raise ArtifactError(problem, hint="make it with a lower --lr", value=artifact.name)

    def label(row: Mapping[str, Any]) -> str:
        row_method = str(row.get(METHOD.field, method))
        name = rank_label(row_method, row["rank"])
        return f"{row_method}, {name}" if several_methods and row["rank"] else name

    seeds = artifact.config["seeds"]
    note = f"seed {seeds[0]}" if len(seeds) == 1 else f"n = {len(seeds)} seeds"
    if diverged := [f"{label(row)}, seed {row['seed']}" for row in results if row["failed"] is not None]:
        note += f"; diverged: {'; '.join(diverged)}"
    adapters = members(workspace.registry, artifact, sound)
    return [(label(row), adapter) for row, adapter in zip(sound, adapters, strict=True)], note
