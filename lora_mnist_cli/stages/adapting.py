"""The second stage: adapters learn other digits on a frozen base, one or a whole sweep of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import DATASETS, METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.grid import AXES, METHOD, RANK, SEED, Axis, Grid, grid_of, marks
from lora_mnist_cli.settings.keywords import AdapterKeywords, SweepKeywords, adapter_config
from lora_mnist_cli.settings.recipes import recipe_of
from lora_mnist_cli.stages.banks.plan import Plan
from lora_mnist_cli.stages.banks.work import (
    AdapterJobs,
    AdapterRequest,
    adapter_name,
    adapter_settings,
    diverged,
    plan_jobs,
    varied,
)
from lora_mnist_cli.stages.records.results import result_row, results_csv
from lora_mnist_cli.stages.workspace import MAKE_ROOM, Workspace, default_name, environment
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError, UsageError, nearest, refuse_unknown
from lora_mnist_cli.system.files import machine_errors

if TYPE_CHECKING:
    from typing_extensions import Unpack

RESULTS_FILE = "results.csv"


def finetune(
    config: AdapterConfig | None = None, *, base: str | None = None, dataset: str | None = None,
    workspace: Workspace | None = None, name: str | None = None, force: bool = False,
    **settings: Unpack[AdapterKeywords],
) -> Artifact:  # fmt: skip
    """Train one adapter on a frozen base, score it on the test images and publish it.

    Args:
        config: the reference recipe at rank 8 by default. Without digits, it learns those that the base did not.
        base: the base's name; the newest by default.
        dataset: refuse a base of another data set; whatever the base has by default.
        name: by default it says what is inside, as ``lora-5-9-r8``.
        force: train even where the artifact is up to date, and replace one with other settings.
        settings: fields of the config, each in place of the config's own: ``finetune(rank=4, scaling="rslora")``.

    Returns:
        The artifact; the present one where it is up to date.

    Raises:
        UsageError: where a target layer is none of the base's, or the base knows all digits and none are given.
        ArtifactError: where the base is missing or of another data set, or the name has other settings.
        DataError: where the data set can't be had.
        DivergedError: where the loss stops being finite.
        MachineError: where the artifact can't be written.
    """
    workspace = workspace or Workspace()
    if name is not None:
        check_name(name)
    parent = find_base(workspace, base, dataset)
    config = resolve(adapter_config(config, settings), parent)
    wanted = AdapterRequest(name or adapter_name(parent, config), config)
    work = plan_jobs(workspace, parent, [wanted], force=force, publish_failed=False)
    _note_high_rank(work)
    (adapter,) = work.run()
    if reason := adapter.details.get("failed"):
        raise diverged(reason, config)
    return adapter


def sweep(
    ranks: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None,
    grid: Grid | Mapping[str, object] | None = None, config: AdapterConfig | None = None,
    base: str | None = None, dataset: str | None = None, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False, **settings: Unpack[SweepKeywords],
) -> Artifact:  # fmt: skip
    """Train an adapter for each combination of a grid, and publish them and a table of their scores.

    They are trained together, in as many banks as memory asks for. Adapters that are up to date are taken as they are,
    so a sweep that was stopped goes on where it was. One that diverges is published without weights or scores.

    Args:
        ranks: in the table's order; the study's by default.
        seeds: of each combination; the config's own by default.
        grid: more axes, by their plural names: ``{"lrs": [1e-3, 3e-3], "scalings": ["constant", "rslora"]}``. Ranks and
            seeds may be among them.
        config: everything else; the rest as in :func:`finetune`.
        name: the sweep's own; by default ``sweep-5-9``, after the digits. Where the default name of one of its
            adapters has other settings, that adapter is named for the sweep: ``NAME-r8``.
        force: train every adapter again.
        settings: fields of the config, as in :func:`finetune`, but for the rank.

    Returns:
        The sweep's artifact; its ``details["results"]`` has a row an adapter.

    Raises:
        As :func:`finetune`; UsageError also where an axis has no values, one is there twice, or there are more than
        :data:`~lora_mnist_cli.settings.grid.MAX_ADAPTERS` adapters.
    """
    workspace = workspace or Workspace()
    wanted = _wanted_sweep(workspace, ranks, seeds, grid, _shared(config, settings), base, dataset, name)
    name, parent = wanted.name, wanted.base
    if (found := workspace.up_to_date(name, wanted.settings, force)) and _members_are_there(workspace, found):
        return found
    with workspace.registry.staging(name, wanted.settings.parents) as folder:
        start = time.perf_counter()
        with wanted.helpful():
            work = plan_jobs(workspace, parent, wanted.adapters, force=force)
            _note_high_rank(work)
            if work.banks:
                workspace.reporter.notice(str(Plan(name, wanted.grid.lists(), work)))
            adapters = work.run()
        results = [result_row(adapter, wanted.grid.varying) for adapter in adapters]
        with machine_errors(f"can't write {RESULTS_FILE}"):
            (folder / RESULTS_FILE).write_text(results_csv(results), encoding="utf-8")
        listed = tuple(Parent("member", adapter.name, adapter.digest) for adapter in adapters)
        return workspace.registry.publish(
            folder,
            dataclasses.replace(wanted.settings, parents=(*wanted.settings.parents, *listed)),
            scores={},
            details={"results": results, "base_digits": parent.config["digits"]},
            environment=environment(),
            wall_seconds=time.perf_counter() - start,
            force=force,
        )


def plan_sweep(
    ranks: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None,
    grid: Grid | Mapping[str, object] | None = None, config: AdapterConfig | None = None,
    base: str | None = None, dataset: str | None = None, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False, **settings: Unpack[SweepKeywords],
) -> Plan:  # fmt: skip
    """What :func:`sweep` would do with these arguments; nothing is trained or written.

    Raises:
        As :func:`sweep`, for all that can be told beforehand.
    """
    workspace = workspace or Workspace()
    wanted = _wanted_sweep(workspace, ranks, seeds, grid, _shared(config, settings), base, dataset, name)
    found = workspace.registry.up_to_date(wanted.name, wanted.settings, force=force)
    with wanted.helpful():
        work = plan_jobs(workspace, wanted.base, wanted.adapters, force=force)
    _note_high_rank(work)
    return Plan(wanted.name, wanted.grid.lists(), work, up_to_date=found is not None and not work.banks)


@dataclass(frozen=True)
class _WantedSweep:
    """A sweep that is asked for, before anything is done about it.

    Args:
        named: whether the user gave it its name.
    """

    name: str
    named: bool
    grid: Grid
    base: Artifact
    adapters: list[AdapterRequest]
    settings: Settings

    @contextmanager
    def helpful(self) -> Iterator[None]:
        """An adapter's name that has other settings is refused with what helps a sweep."""
        try:
            yield
        except OtherSettingsError as error:
            hint = MAKE_ROOM if self.named else "--name NEW keeps both: its adapters are then named for it"
            raise OtherSettingsError(error.problem, hint=hint, value=error.value) from error


def _shared(config: AdapterConfig | None, settings: SweepKeywords) -> AdapterConfig:
    """What all adapters of a sweep have.

    Raises:
        UsageError: as the config; also for a rank, which a sweep has several of.
    """
    if RANK.field in settings:
        raise UsageError("a sweep has several ranks", hint="ranks=[1, 2, 4]", value=settings)
    return adapter_config(config, settings)


def _wanted_sweep(
    workspace: Workspace, ranks: Sequence[int] | None, seeds: Sequence[int] | None,
    grid: Grid | Mapping[str, object] | None, config: AdapterConfig, base: str | None, dataset: str | None,
    name: str | None,
) -> _WantedSweep:  # fmt: skip
    if name is not None:
        check_name(name)
    grid = _whole_grid(ranks, seeds, grid, config)
    members = grid.members(config)
    parent = find_base(workspace, base, dataset)
    members = [resolve(member, parent) for member in members]
    first = members[0]
    listed = {axis.field for axis in (RANK, SEED, *grid.varying)}
    # What the methods of a sweep share is what the most settings of one of them mean something to.
    fullest = max(members, key=lambda member: -len(METHODS[member.method].unused))
    shared = {key: value for key, value in fullest.to_json().items() if key not in listed}
    if len({member.target_layers for member in members}) > 1:
        shared["target_layers"] = None if config.target_layers is None else list(config.target_layers)
    lineage = (Parent("base", parent.name, parent.digest),)
    settings = Settings("sweep", shared | grid.lists(), parent.settings.dataset, lineage)
    adapters = [
        AdapterRequest(_member_name(workspace, parent, member, grid.varying, name), member) for member in members
    ]
    by_recipe = [mark for mark in (recipe_of(first),) if mark and not grid.varying]
    by_recipe += first.protect
    named_for = "sweep" if METHOD in grid.varying or first.method == "lora" else f"sweep-{first.method}"
    own = name or default_name(named_for, parent.dataset, first.digits, marks=by_recipe) + varied(first)
    return _WantedSweep(own, name is not None, grid, parent, adapters, settings)


def _whole_grid(
    ranks: Sequence[int] | None, seeds: Sequence[int] | None, grid: Grid | Mapping[str, object] | None,
    config: AdapterConfig,
) -> Grid:  # fmt: skip
    """A grid with ranks and seeds in it, wherever they were given.

    Args:
        config: has the method and the seed of all adapters, where the grid has none.

    Raises:
        UsageError: where something is given twice, or ranks to methods that have none.
    """
    more = grid if isinstance(grid, Grid) else grid_of(grid or {})
    given: dict[str, object] = {axis.plural: more.values[axis.field] for axis in AXES if axis.field in more.values}
    methods = [str(name) for name in more.values.get(METHOD.field, (config.method,))]
    ranked = any(name not in METHODS or METHODS[name].ranked for name in methods)
    if not ranked and (ranks is not None or RANK.plural in given):
        raise UsageError(
            f"{' and '.join(methods)} {'has' if len(methods) == 1 else 'have'} no rank",
            hint="leave the ranks out, or add a method that has one",
            value=ranks or given[RANK.plural],
        )
    for axis, values, default in (
        (RANK, ranks, original_study.RANKS if ranked else (0,)),
        (SEED, seeds, (config.seed,)),
    ):
        if values is not None and axis.plural in given:
            raise UsageError(f"{axis.plural} are given twice, in the grid too", value=values)
        given.setdefault(axis.plural, default if values is None else values)
    return grid_of(given)


def find_base(workspace: Workspace, name: str | None, dataset: str | None) -> Artifact:
    """The base of that name, or the newest of the data set.

    Raises:
        UsageError: where there is no such data set.
        ArtifactError: where there is no such base, or it is of another data set.
    """
    if dataset is not None:
        refuse_unknown("data set", dataset, DATASETS, "data sets:")
    registry = workspace.registry
    base = workspace.latest("base", dataset=dataset) if name is None else registry.get(name, "base")
    if dataset not in (None, base.dataset):
        raise ArtifactError(
            f"the base '{base.name}' was trained on {base.dataset}, not on {dataset}",
            hint=f"lora-mnist train-base --dataset {dataset}",
            value=base.name,
        )
    return base


def resolve(config: AdapterConfig, base: Artifact) -> AdapterConfig:
    """The config with what depends on the base filled in: the digits to learn, and the names of its layers.

    Raises:
        UsageError: where there are no digits left to learn, or a layer is none of the base's.
    """
    digits = config.digits or BaseConfig.from_json(base.config).digits.complement()
    if digits is None:
        raise UsageError(f"the base '{base.name}' knows all ten digits", hint="say which to learn: --digits 5-9")
    if config.protect and all(digit in digits for digit in BaseConfig.from_json(base.config).digits):
        raise UsageError(
            f"the base '{base.name}' knows no other digits than {digits}, so there is none to protect",
            hint="leave --protect out, or learn other --digits",
            value=str(digits),
        )
    layers = list(base.details["layers"])
    for layer in config.target_layers or ():
        if layer not in layers:
            hint = nearest(layer, layers) or f"layers: {', '.join(layers)}"
            raise UsageError(f"the base '{base.name}' has no layer '{layer}'", hint=hint, value=layer)
    if METHODS[config.method].last_layer_only:
        if config.target_layers not in (None, (layers[-1],)):
            raise UsageError(
                f"{config.method} trains the last layer, {layers[-1]}, not {', '.join(config.target_layers or ())}",
                hint="leave --target-layers out, or train these layers with --method full",
                value=config.target_layers,
            )
        layers = layers[-1:]
    # In the base's order, so that fc3,fc1 and fc1,fc3 are the same settings.
    chosen = tuple(layer for layer in layers if config.target_layers is None or layer in config.target_layers)
    return dataclasses.replace(config, digits=digits, target_layers=chosen)


def _members_are_there(workspace: Workspace, sweep: Artifact) -> bool:
    """Whether a sweep's adapters are all there; one that is damaged is an error of its own.

    Says which were trained without the logger that is asked for now.
    """
    lacking = []
    for parent in sweep.parents:
        if parent.role == "member":
            here = workspace.registry.locate(parent.name, parent.digest)
            if here is None:
                workspace.reporter.notice(f"{sweep.name} lacks {parent.name}, which is trained again")
                return False
            member = workspace.registry.get(here)
            member.check_files()
            if workspace.lacks_log(member):
                lacking.append(member.name)
    if lacking:
        which = f"{lacking[0]} was" if len(lacking) == 1 else f"{lacking[0]} and {len(lacking) - 1} more were"
        logger = workspace.runtime.logger
        workspace.reporter.warn(f"{which} trained without --logger {logger}; --force trains all again")
    return True


def _member_name(
    workspace: Workspace, base: Artifact, config: AdapterConfig, axes: Sequence[Axis], sweep_name: str | None
) -> str:
    """An adapter's default name; one after the sweep, if that has a name, where other settings have the default."""
    name = adapter_name(base, config, axes)
    found = workspace.registry.readable(name)
    same = found is None or found.fingerprint == adapter_settings(base, config).fingerprint()
    if same or sweep_name is None:
        return name
    rank = [f"r{config.rank}"] if config.rank else []
    parts = [sweep_name, *([config.method] if METHOD in axes else []), *rank, *marks(config, axes)]
    return "-".join([*parts, f"s{config.seed}"] if config.seed else parts)


def _note_high_rank(work: AdapterJobs) -> None:
    """Say once, of what is to be trained, that ranks above a layer's smaller side are allowed and add parameters, but
    no more than full rank.
    """
    missing = [each.config for each in work.wanted if each.name not in work.done]
    shapes = work.base.details["layers"]
    for config in missing:
        smallest, layer = min((min(shapes[layer]), layer) for layer in config.target_layers or ())
        if config.rank > smallest:
            fan_in, fan_out = shapes[layer]
            # In the same words whatever the rank is, so that a report which trains several says it once.
            work.workspace.reporter.notice(
                f"ranks above {smallest}, the smaller side of {layer} ({fan_in} → {fan_out}), are allowed, as in the "
                "study, but the product there can't exceed it"
            )
            return
