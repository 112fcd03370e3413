"""A sweep as a user asks for it, before any work: its grid, its adapters, and all their names and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_new_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.grid import AXES, METHOD, RANK, SEED, Axis, Grid, grid_of, marks
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
    config: AdapterConfig, base: str | None, dataset: str | None, name: str | None, *, own_names: bool = False,
) -> SweepRequest:  # fmt: skip
    """Work out a sweep's adapters with all their names and settings, and refuse all that can be told beforehand.

    The arguments are those of :func:`lora_mnist_cli.stages.adapting.sweep`; the config is what all adapters share.
    """
    if name is not None:
        check_new_name(name)
    elif own_names:
        raise UsageError("adapters are named for a sweep that has a name of its own", hint="--name NEW gives one")
    grid = _whole_grid(ranks, seeds, grid, config)
    members = grid.members(config)
    parent = find_base(workspace, base, dataset)
    members = [resolve(member, parent) for member in members]
    parents = (Parent("base", parent.name, parent.digest),)
    settings = Settings("sweep", _shared_settings(members, grid, config), parent.settings.dataset, parents)
    names = _member_names(workspace, parent, members, grid.varying, name, own_names)
    adapters = [AdapterRequest(*each) for each in zip(names, members, strict=True)]
    first = members[0]
    differences = [*_shared_marks(members), *first.protect]
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


def _member_names(
    workspace: Workspace, base: Artifact, members: Sequence[AdapterConfig], axes: Sequence[Axis],
    sweep_name: str | None, own_names: bool,
) -> list[str]:  # fmt: skip
    """Return the adapters' default names; where other settings have one of them, all are named for the sweep."""
    names = [adapter_name(base, member) for member in members]
    taken = (
        (there := workspace.registry.readable(name)) is not None
        and there.fingerprint != adapter_settings(base, member).fingerprint()
        for name, member in zip(names, members, strict=True)
    )
    if sweep_name is None or not (own_names or any(taken)):
        return names
    shared, methods = _shared_marks(members), METHOD in axes
    return [
        "-".join([
            sweep_name, *([member.method] if methods else []), *([f"r{member.rank}"] if member.rank else []),
            *(mark for mark in marks(member) if mark not in shared), *([f"s{member.seed}"] if member.seed else []),
        ])
        for member in members
    ]  # fmt: skip


def _shared_marks(members: Sequence[AdapterConfig]) -> list[str]:
    """Return what the names of all members say of their settings."""
    first, *others = map(marks, members)
    return [mark for mark in first if all(mark in other for other in others)]
