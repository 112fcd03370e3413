"""A sweep as a user asks for it, before any work: its grid, its adapters, and all their names and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import AXES, METHOD, RANK, SEED, Axis, Grid, grid_of, marks
from lora_mnist_cli.settings.recipes import recipe_of
from lora_mnist_cli.stages.banks.cut import AdapterRequest
from lora_mnist_cli.stages.records.resolving import (
    adapter_name,
    adapter_settings,
    default_name,
    find_base,
    resolve,
    varied,
)
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace, advising
from lora_mnist_cli.system.errors import UsageError

GridLike = Grid | Mapping[str, object]


@dataclass(frozen=True)
class SweepRequest:
    """A sweep that a user asks for, and ``named`` if the user gave it its name."""

    name: str
    named: bool
    grid: Grid
    base: Artifact
    adapters: list[AdapterRequest]
    settings: Settings

    def helpful(self) -> AbstractContextManager[None]:
        """Give the refusal of an adapter's name, which has other settings, the hint that helps a sweep."""
        return advising(MAKE_ROOM if self.named else "--name NEW keeps both: its adapters are then named for it")


def request_sweep(
    workspace: Workspace, ranks: Sequence[int] | None, seeds: Sequence[int] | None, grid: GridLike | None,
    config: AdapterConfig, base: str | None, dataset: str | None, name: str | None,
) -> SweepRequest:  # fmt: skip
    """Work out a sweep's adapters with all their names and settings, and refuse all that can be told beforehand.

    The arguments are those of :func:`lora_mnist_cli.stages.adapting.sweep`; the config is what all adapters share.
    """
    if name is not None:
        check_name(name)
    grid = _whole_grid(ranks, seeds, grid, config)
    members = grid.members(config)
    parent = find_base(workspace, base, dataset)
    members = [resolve(member, parent) for member in members]
    parents = (Parent("base", parent.name, parent.digest),)
    settings = Settings("sweep", _shared_settings(members, grid, config), parent.settings.dataset, parents)
    adapters = [
        AdapterRequest(_member_name(workspace, parent, member, grid.varying, name), member) for member in members
    ]
    first = members[0]
    recipe = recipe_of(first)
    differences = [*([recipe] if recipe and not grid.varying else []), *first.protect]
    kind = "sweep" if METHOD in grid.varying or first.method == "lora" else f"sweep-{first.method}"
    name_of_sweep = name or default_name(kind, parent.dataset, first.digits, marks=differences) + varied(first)
    return SweepRequest(name_of_sweep, name is not None, grid, parent, adapters, settings)


def _shared_settings(members: Sequence[AdapterConfig], grid: Grid, config: AdapterConfig) -> dict[str, object]:
    """Return the settings of a sweep: the values that its grid lists, and what all members have in common."""
    listed = {axis.field for axis in (RANK, SEED, *grid.varying)}
    # Methods ignore different settings. The one that ignores the fewest has all that the methods share.
    fullest = max(members, key=lambda member: -len(METHODS[member.method].unused))
    shared: dict[str, object] = {key: value for key, value in fullest.to_json().items() if key not in listed}
    if len({member.target_layers for member in members}) > 1:
        shared["target_layers"] = None if config.target_layers is None else list(config.target_layers)
    return shared | grid.lists()


def _whole_grid(
    ranks: Sequence[int] | None, seeds: Sequence[int] | None, grid: GridLike | None, config: AdapterConfig
) -> Grid:
    """Return a grid that has ranks and seeds among its axes, wherever they were given; else the config's seed."""
    more = grid if isinstance(grid, Grid) else grid_of(grid or {})
    given: dict[str, object] = {axis.plural: more.values[axis.field] for axis in AXES if axis.field in more.values}
    methods = [str(name) for name in more.values.get(METHOD.field, (config.method,))]
    ranked = any(name not in METHODS or METHODS[name].ranked for name in methods)
    if not ranked and (ranks is not None or RANK.plural in given):
        problem = f"{' and '.join(methods)} {'has' if len(methods) == 1 else 'have'} no rank"
        hint = "leave the ranks out, or add a method that has one"
        raise UsageError(problem, hint=hint, value=ranks or given[RANK.plural])
    for axis, values, default in (
        (RANK, ranks, original_study.RANKS if ranked else (0,)),
        (SEED, seeds, (config.seed,)),
    ):
        if values is not None and axis.plural in given:
            raise UsageError(f"{axis.plural} are given twice, in the grid too", value=values)
        given.setdefault(axis.plural, default if values is None else values)
    return grid_of(given)


def _member_name(
    workspace: Workspace, base: Artifact, config: AdapterConfig, axes: Sequence[Axis], sweep_name: str | None
) -> str:
    """Return an adapter's default name; if an artifact with other settings has it, one after the sweep's name."""
    name = adapter_name(base, config, axes)
    artifact = workspace.registry.readable(name)
    same = artifact is None or artifact.fingerprint == adapter_settings(base, config).fingerprint()
    if same or sweep_name is None:
        return name
    rank = [f"r{config.rank}"] if config.rank else []
    parts = [sweep_name, *([config.method] if METHOD in axes else []), *rank, *marks(config, axes)]
    return "-".join([*parts, f"s{config.seed}"] if config.seed else parts)
