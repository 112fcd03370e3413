"""Pictures of adapters side by side, most often of a sweep: which results a picture shows, and their names in a legend.

Each ``draw_KIND`` gathers a record and calls the ``draw`` of its kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lora_mnist_cli.plots import board as board_picture
from lora_mnist_cli.plots import landscape, learning_rate, ranks, spectrum, style, tradeoff
from lora_mnist_cli.plots.lettering import elide
from lora_mnist_cli.plots.scores import accuracy_of
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import METHOD, RANK, Value, in_words, short, varying_axes
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.evaluating import all_finite, evaluate
from lora_mnist_cli.stages.intruding import find_by_layer
from lora_mnist_cli.stages.method_board import board, named
from lora_mnist_cli.stages.pictures.landscape_axes import (
    axis_label,
    titled,
    two_axes,
    validation_of,
    value_label,
    values_of,
)
from lora_mnist_cli.stages.pictures.of_models import only_new
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.subtitles import (
    lonely,
    subtitle_of,
    title_of,
    title_of_several,
    values_beyond_ranks,
)
from lora_mnist_cli.stages.records.histories import members, validation_runs
from lora_mnist_cli.stages.records.results import ceilings, method_of, study_accuracies, titles
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError, make_again
from lora_mnist_cli.system.progress import Inside
from lora_mnist_cli.system.work import DRAWING, SCORING

SHARES = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25)
"""Shares of the trained alpha at which an adapter is scored; the subtitle of a sweep tells them."""


def draw_ranks(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the adapters of a sweep by rank.

    Raises:
        UsageError: where the chosen results have no rank.
        ArtifactError: where the manifest lacks the base's digits.
    """
    learned, base_digits = artifact.config["digits"], artifact.details.get("base_digits")
    if base_digits is None:
        raise ArtifactError(f"'{artifact.name}' does not tell the base's digits", hint=make_again(artifact.name))
    results = [row for row in _chosen_results(artifact, options.where) if row["rank"]]
    if not results:
        problem = f"'{artifact.name}' has no ranks to draw"
        unranked = [choice.title for choice in METHODS.values() if not choice.ranked]
        raise UsageError(problem, hint=f"{', '.join(unranked)} have none", value=artifact.name)
    subtitle = subtitle_of(artifact, options.where)
    if len({row["rank"] for row in results}) == 1:
        subtitle += f"; {lonely(workspace, 'one rank', 'a sweep of several ranks')}"
    base = accuracy_of(workspace.registry.parent(artifact).scores["subsets"], base_digits)
    return ranks.draw(
        results, base_digits=base_digits, new_digits=learned, ceilings=_ceilings(workspace, artifact, options),
        study=study_accuracies(workspace, artifact, options.where), bases=() if base is None else (base,),
        title=f"{title_of_several(artifact, options.where)}: test accuracy by rank", subtitle=subtitle,
    )  # fmt: skip


def draw_board(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the board of a sweep; it raises what :func:`~lora_mnist_cli.stages.method_board.board` does."""
    document = board(artifact.name, workspace=workspace)
    notes = [subtitle_of(artifact), *(["each setting at its best rate on validation images"] * document["tuned"])]
    rows = [row | {"described": named(titled(row["setting"]))} for row in document["rows"]]
    return board_picture.draw(
        rows, old_digits=document["old"], new_digits=document["new"],
        title=f"{title_of_several(artifact, {})}: what each setting learns, forgets and costs",
        subtitle="; ".join(notes),
    )  # fmt: skip


def _ceilings(workspace: Workspace, sweep: Artifact, options: PlotOptions) -> dict[str, list[dict[str, Any]]]:
    """Return title → results of methods without a rank: the sweep's, and those of artifacts beside it."""
    by_title: dict[str, list[dict[str, Any]]] = {}
    # A method without a rank has the other settings too, a learning rate for example: those have to be the same.
    others = {name: value for name, value in options.where.items() if name != METHOD.field}
    for row in sweep.details["results"]:
        if not row["rank"] and METHOD.field in row and all(row[name] == value for name, value in others.items()):
            by_title.setdefault(METHODS[row[METHOD.field]].title, []).append(row)
    return by_title | titles(workspace, ceilings(workspace, sweep, options.beside), list(by_title))


def draw_learning_rate(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw a sweep over learning rates.

    Raises:
        ArtifactError: where the sweep has one rate, or a run has no validation accuracy.
    """
    if "lrs" not in artifact.config:
        listed = ",".join(map(str, artifact.config["ranks"]))
        hint = f"lora-mnist sweep --ranks {listed} --lrs 1e-3,4e-3,1.6e-2 --name rates"
        raise ArtifactError(f"'{artifact.name}' has only one learning rate", hint=hint, value=artifact.name)
    rows = _chosen_results(artifact, options.where, (RANK.field, "lr"))
    rows = validation_runs(workspace.registry, artifact, rows)
    learned, method = artifact.config["digits"], str(options.where.get(METHOD.field, method_of(artifact)))
    return learning_rate.draw(
        rows, digits=learned, power=artifact.config.get("lr_power", 0.0), unranked=_rank_label(method, 0),
        title=f"{title_of_several(artifact, options.where)}: validation accuracy by learning rate",
        subtitle=subtitle_of(artifact, options.where),
    )  # fmt: skip


def draw_landscape(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw a sweep over two of the settings that it varies.

    Raises:
        UsageError: where it varies fewer than two, not those that are asked for, or has no scores on the digits.
    """
    column, row = two_axes(artifact, options)
    rows = _chosen_results(artifact, options.where, (column.field, row.field))
    digits = artifact.config["digits"] if options.digits is None else str(options.digits)
    scored = [score["digits"] for score in rows[0]["subsets"]]
    if digits not in scored:
        hint = f"it has {', '.join(scored)}"
        raise UsageError(f"'{artifact.name}' has no scores on digits {digits}", hint=hint, value=digits)
    values = [values_of(artifact, axis, rows) for axis in (column, row)]
    runs = validation_of(workspace, artifact, rows)
    places: dict[tuple[int, int], list[int]] = {}
    for number, result in enumerate(rows):
        x, y = (some.index(result[axis.field]) for axis, some in zip((column, row), values, strict=True))
        places.setdefault((x, y), []).append(number)
    cells = []
    for place, numbers in places.items():
        found = [accuracy_of(rows[n]["subsets"], digits) for n in numbers]
        validated = [runs[n] for n in numbers]
        mean = None if None in validated else math.fsum(filter(None, validated)) / len(validated)
        diverged = sum(rows[n]["failed"] is not None for n in numbers)
        percents = tuple(100 * accuracy for accuracy in found if accuracy is not None)
        cells.append(landscape.Cell(place, percents, diverged, mean))
    notes = [subtitle_of(artifact, options.where)]
    notes += ["means over the seeds"] if len(artifact.config["seeds"]) > 1 else []
    named: Any = tuple(axis_label(axis) for axis in (column, row))
    return landscape.draw(
        cells, axes_names=named, digits=digits, ordered=str not in (column.kind, row.kind),
        values=([value_label(column, value) for value in values[0]], [value_label(row, value) for value in values[1]]),
        title=f"{title_of_several(artifact, options.where)}: test accuracy by {named[0]} and {named[1]}",
        subtitle="; ".join(notes),
    )  # fmt: skip


def draw_spectrum(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the singular values of an adapter, or of all adapters of a sweep, and of those beside it."""
    adapters, note = _labelled_adapters(workspace, artifact, options)
    if options.beside:
        adapters = [(label if artifact.kind == "sweep" else title_of(adapter), adapter) for label, adapter in adapters]
        for name in options.beside:
            beside = workspace.registry.get(name, "adapter")
            taken = {label for label, _ in adapters}
            # Of one label are runs of one setting, and these are others.
            labels = (title_of(beside), f"{title_of(beside)} ({elide(name)})", name)
            adapters.append((next(label for label in labels if label not in taken), beside))
    changes = [
        spectrum.Change(label, _factors(workspace, adapter), _intruders(workspace, adapter, options.threshold))
        for label, adapter in adapters
    ]
    notes = [subtitle_of(artifact, options.where), note, "ΔW: what training adds to a layer's weights"]
    notes += values_beyond_ranks([adapter for _, adapter in adapters])
    if {adapter.config["rank"] for _, adapter in adapters} == {1}:
        notes.append(lonely(workspace, "rank 1 has one singular value per layer", "a higher rank"))
    if options.threshold is not None:
        notes.append(f"intruders: of the ten leading singular vectors, those with cosines below {options.threshold:g}")
    return spectrum.draw(
        changes, title=f"{title_of_several(artifact, options.where)}: singular values of the change ΔW by layer",
        subtitle="; ".join(filter(None, notes)),
    )  # fmt: skip


def _factors(workspace: Workspace, adapter: Artifact) -> dict[str, tuple[spectrum.Matrix, ...]]:
    """Return layer → the factors of its ΔW, from left to right."""
    from lora_mnist_cli.models.lora import LoRALinear, adapted_layers
    from lora_mnist_cli.stages.records.loading import load_model, refuse_too_large

    factors: dict[str, tuple[spectrum.Matrix, ...]] = {}
    for name, layer in adapted_layers(load_model(workspace.registry, adapter).model).items():
        if isinstance(layer, LoRALinear):
            B, A = (factor.detach().double().numpy() for factor in (layer.lora_B, layer.lora_A))
            with np.errstate(over="ignore"):
                factors[name] = layer.alpha * layer.scale * B, A
        else:  # a method whose change is no plain product; it is known to its own precision
            factors[name] = (layer.change()[0].detach().numpy(),)
        for factor in factors[name]:
            refuse_too_large(factor, f"'{adapter.name}'", name)
    return factors


def _intruders(workspace: Workspace, adapter: Artifact, threshold: float | None) -> dict[str, int]:
    """Return layer → the number of its intruder dimensions; nothing without a threshold."""
    if threshold is None:
        return {}
    from lora_mnist_cli.models.lora import merged_weights
    from lora_mnist_cli.stages.records.loading import load_model

    base, adapted = (
        merged_weights(load_model(workspace.registry, each).model)
        for each in (workspace.registry.parent(adapter), adapter)
    )
    found = find_by_layer(base, adapted, f"'{adapter.name}'", threshold)
    return {layer: len(found[layer].indices) for layer in adapter.config["target_layers"]}


def draw_tradeoff(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Score an adapter, or all adapters of a sweep, at shares of their alpha and draw their paths.

    Raises:
        ArtifactError: where the adapters learned no digit that is new to the base.
    """
    old, new = DigitSet.parse(artifact.details["base_digits"]), only_new(artifact)
    if new is None:
        problem = f"'{artifact.name}' learned no digit that its base, on {old}, did not know"
        raise ArtifactError(problem, hint="name an adapter that did; plot alpha draws this one", value=artifact.name)
    adapters, note = _labelled_adapters(workspace, artifact, options)
    if len(adapters) > 1:
        workspace.reporter.notice(f"scoring {len(adapters)} adapters at {len(SHARES)} alphas each")
    reporter = workspace.reporter
    reporter.plan({SCORING: len(adapters) * len(SHARES) * costs.SCORING_ONE, DRAWING: costs.PICTURE})
    apart, paths = replace(workspace, reporter=Inside(reporter)), []
    for number, (label, adapter) in enumerate(adapters, start=1):
        reporter.phase(SCORING, len(SHARES) * costs.SCORING_ONE, f"{number}/{len(adapters)}")
        paths.append({"label": label} | _path(apart, adapter, [old, new]))
    several = "points at 0.2 to 0.8, 1 and 1.25 of the trained alpha" if len(adapters) > 1 else ""
    notes = [subtitle_of(artifact, options.where), note, several]
    return tradeoff.draw(
        paths, old_digits=str(old), new_digits=str(new),
        title=f"{title_of_several(artifact, options.where)}: new digits against old as alpha rises",
        subtitle="; ".join(filter(None, notes)),
    )  # fmt: skip


def _path(workspace: Workspace, adapter: Artifact, old_and_new: list[DigitSet]) -> dict[str, Any]:
    """Return the trained alpha, and both accuracies at every share of it."""
    trained = float(adapter.config["alpha"])
    # An untrained adapter may have an alpha of 0, and every share of that is 0.
    alphas = sorted({share * (trained or 1.0) for share in SHARES} | {trained}, key=abs)
    finite = [alpha for alpha in alphas if math.isfinite(alpha)]
    points = []
    for evaluation in all_finite(evaluate(adapter.name, alphas=finite, digit_sets=old_and_new, workspace=workspace)):
        old, new = (subset["accuracy"] for subset in evaluation.scores["subsets"])
        points.append({"alpha": evaluation.alpha, "old": old, "new": new})
    return {"trained_alpha": trained, "points": points}


def _chosen_results(
    sweep: Artifact, where: Mapping[str, Value], drawn: Sequence[str] = (RANK.field,)
) -> list[dict[str, Any]]:
    """Return a sweep's results at one value of each axis that it varies beside the seed and the axes that are drawn."""
    axes = (*((RANK,) if len(sweep.config[RANK.plural]) > 1 else ()), *varying_axes(sweep.config))
    varying = {axis.field: axis for axis in axes if axis.field not in drawn}
    for name, value in where.items():
        if name in drawn:
            raise UsageError(f"this picture shows every {in_words(name)}", hint="leave that --where out", value=name)
        if name not in varying:
            others = ", ".join(map(in_words, varying))
            hint = f"it varies {others}" if varying else "--where is for sweeps that vary more"
            raise UsageError(f"'{sweep.name}' does not vary {in_words(name)}", hint=hint, value=name)
        if value not in (values := sweep.config[varying[name].plural]):
            hint = f"it has {', '.join(map(short, values))}"
            raise UsageError(f"'{sweep.name}' has no {in_words(name)} {short(value)}", hint=hint, value=value)
    if left_open := [axis for name, axis in varying.items() if name not in where]:
        values_of = {axis: list(map(short, sweep.config[axis.plural])) for axis in left_open}
        lists = "; ".join(f"{in_words(axis.plural)} {', '.join(values)}" for axis, values in values_of.items())
        first = " ".join(f"--where {axis.option[2:]}={values[0]}" for axis, values in values_of.items())
        places = ", ".join(in_words(name) for name in drawn if name != METHOD.field)
        problem = f"'{sweep.name}' has several adapters per {places} and seed: {lists}"
        raise UsageError(problem, hint=f"draw one combination: {first}", value=sweep.name)
    return [row for row in sweep.details["results"] if all(row[name] == value for name, value in where.items())]


def _rank_label(method: str, rank: int) -> str:
    """Name an adapter among others of one method: by its rank, or by a method that has none."""
    return f"rank {rank}" if rank else METHODS[method].title


def _labelled_adapters(
    workspace: Workspace, artifact: Artifact, options: PlotOptions
) -> tuple[list[tuple[str, Artifact]], str]:
    """Return the adapter itself, or those of a sweep by a setting in words and rank, labelled; and which diverged.

    Runs of one setting share a label.
    """
    method = method_of(artifact)
    if artifact.kind == "adapter":
        if options.where:
            raise UsageError("--where is for sweeps", hint="leave it out", value=artifact.name)
        return [(_rank_label(method, artifact.config["rank"]), artifact)], ""
    # One setting in words is drawn beside the rank: the methods, or for example the starts.
    words = [axis for axis in varying_axes(artifact.config) if axis.kind is str and axis.field not in options.where]
    drawn = min(words, key=lambda axis: axis != METHOD, default=METHOD)
    order = {value: place for place, value in enumerate(artifact.config.get(drawn.plural, ()))}
    chosen = _chosen_results(artifact, options.where, (RANK.field, *([drawn.field] if words else [])))
    results = sorted(chosen, key=lambda row: (order.get(row.get(drawn.field), 0), row["rank"]))
    sound = [row for row in results if row["failed"] is None]
    if not sound:
        where = "".join(f", {in_words(name)} {short(value)}" for name, value in options.where.items())
        problem = f"all adapters of '{artifact.name}'{where} diverged"
        raise ArtifactError(problem, hint="make it with a lower --lr", value=artifact.name)

    def label(row: Mapping[str, Any]) -> str:
        row_method = str(row.get(METHOD.field, method))
        name = _rank_label(row_method, row["rank"])
        if not words or (drawn == METHOD and not row["rank"]):
            return name
        which = METHODS[row_method].title if drawn == METHOD else f"{in_words(drawn.field)} {row[drawn.field]}"
        return f"{which}, {name}"

    diverged = [f"{label(row)}, seed {row['seed']}" for row in results if row["failed"] is not None]
    note = f"diverged: {'; '.join(diverged)}" if diverged else ""
    adapters = members(workspace.registry, artifact, sound)
    return [(label(row), adapter) for row, adapter in zip(sound, adapters, strict=True)], note
