"""What a picture shows, in words: method, digits and rank in its title; the artifact and its recipe below."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lora_mnist_cli.plots.lettering import elide
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS, STARTS
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig
from lora_mnist_cli.settings.grid import METHOD, Value, closest_recipe, in_words, short, varying_axes
from lora_mnist_cli.settings.lists import as_ranges
from lora_mnist_cli.settings.recipes import RECIPES
from lora_mnist_cli.stages.records.results import first_config, method_of
from lora_mnist_cli.stages.workspace import Workspace

_NO_RECIPE = frozenset({
    "digits", "rank", "seed", "target_layers", "method", "protect", "dataset", "combined", "combined_weights",
    "combined_density", "imported",
})  # fmt: skip
"""Settings that are no part of a recipe, or are told in their own words."""

_SPECTRA = {
    "pissa": "PiSSA's ΔW is a difference of two products of its rank, and has up to twice as many values",
    "dora": "DoRA rescales every row, so its ΔW has full rank",
    "randlora": "RandLoRA adds products of its rank until their sum has full rank",
    "lokr": "LoKr multiplies the ranks of two matrices, so its ΔW has more values than its rank",
    "hra": "HRA reflects twice for each rank, so its ΔW has up to twice as many values",
    "ia3": "(IA)³ rescales every input, so its ΔW has full rank",
    "bitfit": "BitFit changes biases alone, so its ΔW is zero",
}
"""Method → why its changes have more singular values than its rank."""


def title_of(artifact: Artifact, alpha: float | None = None) -> str:
    """Name a base by its digits, an adapter by method, digits, rank and an alpha that is not the trained one."""
    if artifact.kind == "base":
        return f"Base on {artifact.config['digits']}"
    config = AdapterConfig.from_json(artifact.config)
    method = METHODS[config.method].title if config.combined is None else f"Combined ({config.combined})"
    rank = f", rank {config.rank}" if config.rank else ""
    return f"{method} on {config.digits}{rank}{'' if alpha is None else f' at alpha {alpha:g}'}"


def title_of_several(artifact: Artifact, where: Mapping[str, Value]) -> str:
    """Name a sweep by method and digits, and an adapter as :func:`title_of` does."""
    if artifact.kind == "adapter":
        return title_of(artifact)
    methods = [str(where[METHOD.field])] if METHOD.field in where else artifact.config.get(METHOD.plural, ())
    name = METHODS[methods[0] if methods else method_of(artifact)].title if len(methods) < 2 else "Several methods"
    return f"{name} on {artifact.config['digits']}"


def subtitle_of(artifact: Artifact, where: Mapping[str, Value] | None = None) -> str:
    """Name an artifact, its base, what was chosen of a sweep, its recipe with what differs from it, and its seeds."""
    where = where or {}
    bases = [parent.name for parent in artifact.parents if parent.role == "base"]
    parts = [elide(artifact.name) + "".join(f" on {elide(base)}" for base in bases)]
    if artifact.dataset != "mnist":
        parts.append(artifact.dataset)
    parts += [f"{in_words(name)} {short(value)}" for name, value in where.items()]
    if artifact.kind == "base":
        config: TrainingConfig = BaseConfig.from_json(artifact.config)
        parts += [_recipe(config, "reference", RECIPES["reference"].base), f"seed {config.seed}"]
        return "; ".join(parts)
    adapter = first_config(artifact, where) if artifact.kind == "sweep" else AdapterConfig.from_json(artifact.config)
    if adapter.combined or adapter.imported:
        return "; ".join([*parts, f"combined by {adapter.combined}" if adapter.combined else "imported"])
    name, _ = closest_recipe(adapter)
    listed = {axis.field for axis in varying_axes(artifact.config)}
    parts.append(_recipe(adapter, name, RECIPES[name].adapter, {*where, *listed, *METHODS[adapter.method].unused}))
    if adapter.protect:
        parts.append(f"protected by {', '.join(adapter.protect)}")
    seeds = artifact.config["seeds"] if artifact.kind == "sweep" else [adapter.seed]
    parts.append(f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds ({as_ranges(seeds)})")
    return "; ".join(parts)


def _recipe(config: TrainingConfig, name: str, known: TrainingConfig, told: Collection[str] = ()) -> str:
    """Name a recipe, with the settings that differ from it and are not told elsewhere."""
    names = [field.name for field in fields(config) if field.name not in _NO_RECIPE.union(told)]
    values: dict[str, Any] = {n: getattr(config, n) for n in names if getattr(config, n) != getattr(known, n)}
    return ", ".join([f"{name} recipe", *(f"{in_words(n)} {_written(value)}" for n, value in values.items())])


def _written(value: Any) -> str:
    return " and ".join(map(short, value)) if isinstance(value, tuple) else short(value)


def lonely(workspace: Workspace, what: str, more: str) -> str:
    """Report that a picture is a single point, and what would draw more; return the same words for the picture."""
    words = f"{what}: a single point; {more} draws a line"
    workspace.reporter.notice(words)
    return words


def values_beyond_ranks(adapters: Sequence[Artifact]) -> list[str]:
    """Say of methods and starts why their changes have more singular values than their rank."""
    methods = {method_of(adapter) for adapter in adapters}
    starts = {adapter.config.get("init") for adapter in adapters}
    notes = [note for method, note in _SPECTRA.items() if method in methods]
    if moved := [name for name, start in STARTS.items() if start.moves_weight and name in starts]:
        note = "ΔW is the product less its start, and has up to twice as many values as the rank"
        notes.append(f"with init {', '.join(moved)} {note}")
    return notes
