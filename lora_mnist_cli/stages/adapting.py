"""The second stage: adapters learn other digits on a frozen base, one or a whole sweep of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lora_mnist_cli.evaluation import original_study
from lora_mnist_cli.models.methods import mathematics_of
from lora_mnist_cli.models.methods.lora import LoRA
from lora_mnist_cli.registry.artifact import Artifact, check_new_name
from lora_mnist_cli.registry.newest import begun
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import RANK, Grid
from lora_mnist_cli.settings.keep import ALL, Keep
from lora_mnist_cli.settings.keywords import AdapterKeywords, SweepKeywords, adapter_config
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.stages.banks.cut import AdapterRequest
from lora_mnist_cli.stages.banks.keeping import run_keeping
from lora_mnist_cli.stages.banks.members import diverged
from lora_mnist_cli.stages.banks.plan import Plan
from lora_mnist_cli.stages.banks.sweep_request import SweepRequest, request_sweep
from lora_mnist_cli.stages.banks.work import AdapterJobs, plan_jobs
from lora_mnist_cli.stages.records.histories import kept_names
from lora_mnist_cli.stages.records.resolving import adapter_name, find_base, resolve
from lora_mnist_cli.stages.records.results import Rows, results_csv
from lora_mnist_cli.stages.workspace import Workspace, rounds_alike
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.files import machine_errors

if TYPE_CHECKING:
    from typing_extensions import Unpack

RESULTS_FILE = "results.csv"


@stage
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
        name: by default one that says what is inside, as ``lora-5-9-r8``.
        force: train even where the artifact is up to date, and replace one with other settings.
        settings: fields of the config, each in place of the config's own: ``finetune(rank=4, scaling="rslora")``.

    Returns:
        The artifact; the existing one where it is up to date.

    Raises:
        UsageError: where a target layer is none of the base's, or the base knows all digits and none are given.
        ArtifactError: where the base is missing or of another data set, or the name has other settings.
        DataError: where the data set is not available.
        DivergedError: where the loss stops being finite.
        MachineError: where the artifact can't be written.
    """
    jobs = _plan_one(adapter_config(config, settings), base, dataset, workspace or Workspace(), name, force)
    _note_high_rank(jobs)
    return _train_one(jobs)


@stage
def finetune_part(config: AdapterConfig, *, base: str, workspace: Workspace, name: str | None = None) -> Artifact:
    """Train one adapter of a report as :func:`finetune` does, without advice on a rank that no user chose."""
    return _train_one(_plan_one(config, base, None, workspace, name, force=False))


def _plan_one(
    config: AdapterConfig, base: str | None, dataset: str | None, workspace: Workspace, name: str | None, force: bool
) -> AdapterJobs:
    if name is not None:
        check_new_name(name)
    parent = find_base(workspace, base, dataset)
    config = resolve(config, parent)
    request = AdapterRequest(name or adapter_name(parent, config), config)
    return plan_jobs(workspace, parent, [request], force=force, publish_failed=False, named=name is not None)


def _train_one(jobs: AdapterJobs) -> Artifact:
    (adapter,) = jobs.run()
    if reason := adapter.details.get("failed"):
        raise diverged(reason, jobs.requests[0].config)
    return adapter


@stage
def sweep(
    ranks: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None,
    grid: Grid | Mapping[str, object] | None = None, config: AdapterConfig | None = None,
    base: str | None = None, dataset: str | None = None, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False, keep: str = ALL, own_names: bool = False, **settings: Unpack[SweepKeywords],
) -> Artifact:  # fmt: skip
    """Train an adapter for each combination of a grid, and publish them and a table of their scores.

    The adapters are trained together, in as many banks as memory requires. Those that are up to date are taken as they
    are, so the same call continues a sweep that was stopped. One that diverges is published without weights or scores.

    Args:
        ranks: in the table's order; the study's by default.
        seeds: of each combination; the config's own by default.
        grid: more axes, by their plural names: ``{"lrs": [1e-3, 3e-3], "scalings": ["constant", "rslora"]}``. Ranks and
            seeds may be among them.
        config: everything else; the rest as in :func:`finetune`.
        name: the sweep's own; by default ``sweep-5-9``, after the digits. Where the default name of one of its
            adapters has other settings, that adapter is named for the sweep: ``NAME-r8``.
        force: train every adapter again, in the place of the sweep of that name and of its adapters.
        keep: whose weights are published: ``all``, ``best:N`` on validation images, ``none``, or one adapter's name.
            What the sweep kept before stays.
        own_names: name the adapters for the sweep also where their default names are free.
        settings: fields of the config, as in :func:`finetune`, but for the rank.

    Returns:
        The sweep's artifact; its ``details["results"]`` has a row per adapter, kept or not.

    Raises:
        As :func:`finetune`; UsageError also where an axis has no values, one is there twice, there are more than
        :data:`~lora_mnist_cli.settings.grid.MAX_ADAPTERS` adapters, or what is to be kept can't be chosen.
    """
    workspace = workspace or Workspace()
    shared = _shared(config, settings)
    request = request_sweep(workspace, ranks, seeds, grid, shared, base, dataset, name, own_names=own_names)
    if force:
        _make_room(workspace.registry, request.name)
    kept = _check_keep(keep, request)
    there = workspace.up_to_date(request.name, request.settings, force)
    if there is not None:
        kept = _at_least(kept, there)
        if _members_are_there(workspace, there, kept):
            return there
    with workspace.making(request.name, request.settings, force=force) as making:
        with request.helpful():
            jobs, known = _plan(workspace, request, kept, there, force)
            if request.grid.values[RANK.field] != original_study.RANKS:
                _note_high_rank(jobs)
            if jobs.banks:
                workspace.reporter.notice(str(Plan(request.name, request.grid.lists(), jobs)))
            results, members = run_keeping(jobs, kept, request.grid.varying, known)
        with machine_errors(f"can't write {RESULTS_FILE}"):
            (making.folder / RESULTS_FILE).write_text(results_csv(results), encoding="utf-8", newline="\n")
        details = {"results": results, "base_digits": request.base.config["digits"]}
        if not kept.everything:
            details |= {"keep": str(kept)} if there is None else {"keep": str(kept), "since": begun(there)}
        # The same results with more adapters kept take the place of those with fewer.
        more = there is not None and kept_names(there) != {member.name for member in members}
        complete = replace(making, force=force or more)
        return complete.publish(scores={}, details=details, members=members)


@stage
def plan_sweep(
    ranks: Sequence[int] | None = None, *, seeds: Sequence[int] | None = None,
    grid: Grid | Mapping[str, object] | None = None, config: AdapterConfig | None = None,
    base: str | None = None, dataset: str | None = None, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False, keep: str = ALL, own_names: bool = False, **settings: Unpack[SweepKeywords],
) -> Plan:  # fmt: skip
    """Plan what :func:`sweep` would do with these arguments, and refuse what it would; publish nothing."""
    workspace = workspace or Workspace()
    shared = _shared(config, settings)
    request = request_sweep(workspace, ranks, seeds, grid, shared, base, dataset, name, own_names=own_names)
    kept = _check_keep(keep, request)
    there = workspace.registry.up_to_date(request.name, request.settings, force=force)
    kept = kept if there is None else _at_least(kept, there)
    with request.helpful():
        jobs, _ = _plan(workspace, request, kept, there, force)
    if request.grid.values[RANK.field] != original_study.RANKS:
        _note_high_rank(jobs)
    return Plan(request.name, request.grid.lists(), jobs, up_to_date=there is not None and not jobs.banks, measure=True)


def _shared(config: AdapterConfig | None, settings: SweepKeywords) -> AdapterConfig:
    """Return the config that all adapters of a sweep share; it has no rank, because a sweep has several."""
    if RANK.field in settings:
        raise UsageError("a sweep has several ranks", hint="ranks=[1, 2, 4]", value=settings)
    return adapter_config(config, settings)


def _make_room(registry: Registry, name: str) -> None:
    """Remove the sweep that is to be made again, which needs the adapters that are replaced; unless others need any."""
    there = registry.readable(name)
    if there is None or there.kind != "sweep":
        return
    needed = {parent.digest for entry in registry.scan()[0] if entry.name != name for parent in entry.parents}
    if needed.isdisjoint([there.digest, *(parent.digest for parent in there.parents if parent.role == "member")]):
        registry.remove(name)


def _check_keep(keep: str, request: SweepRequest) -> Keep:
    """Return what a sweep is to keep; refuse what it can't."""
    kept = Keep.parse(keep)
    kept.check([adapter.name for adapter in request.adapters], request.adapters[0].config.val_split)
    return kept


def _at_least(keep: Keep, there: Artifact) -> Keep:
    """Return what is to be kept of a sweep that is there: one that kept all, as earlier ones did, stays so."""
    return keep if "keep" in there.details else Keep()


def _plan(
    workspace: Workspace, request: SweepRequest, keep: Keep, there: Artifact | None, force: bool
) -> tuple[AdapterJobs, Rows]:
    """Return the work of a sweep, and the rows that are known where it is there and only lacks some of its adapters."""
    jobs = plan_jobs(workspace, request.base, request.adapters, force=force)
    jobs.densities = keep.best != 0
    if there is None or keep.everything:
        return jobs, []
    known: Rows = there.details["results"]
    if [row["artifact"] for row in known] != [adapter.name for adapter in request.adapters]:
        return jobs, []  # its adapters were named for what else there was
    jobs.wanted = keep.choose(known) | kept_names(there)
    return jobs, known


def _members_are_there(workspace: Workspace, sweep: Artifact, keep: Keep) -> bool:
    """Return whether what is to be kept of a sweep is there and sound; warn of members without this logger."""
    if not_there := keep.choose(sweep.details["results"]) - kept_names(sweep):
        which = some(sorted(not_there))
        alike = rounds_alike(sweep, workspace.runtime)
        how = "the same bytes" if alike else "another engine, threads or memory of banks"
        workspace.reporter.notice(f"{sweep.name} did not keep {which}: trained again, with {how}")
        return False
    lacking = []
    for parent in (parent for parent in sweep.parents if parent.role == "member"):
        name_now = workspace.registry.locate(parent.name, parent.digest)
        if name_now is None:
            workspace.reporter.notice(f"{sweep.name} lacks {parent.name}, which is trained again")
            return False
        member = workspace.registry.get(name_now)
        member.check_files()
        if workspace.lacks_log(member):
            lacking.append(member.name)
    if lacking:
        which = f"{lacking[0]} was" if len(lacking) == 1 else f"{lacking[0]} and {len(lacking) - 1} more were"
        logger = workspace.runtime.logger
        workspace.reporter.warn(f"{which} trained without --logger {logger}; --force trains all again")
    return True


def _note_high_rank(jobs: AdapterJobs) -> None:
    """Say once that a rank is above a layer's smaller side: it adds parameters, but no more than full rank.

    Methods whose change is not one product of that rank can use more: VeRA scales more random directions. Whoever takes
    rsLoRA, which is made for high ranks, knows; and so does the reader of the study's seven ranks.
    """
    shapes = jobs.base.details["layers"]
    for config in (request.config for request in jobs.requests if request.name not in jobs.done):
        ranks = {layer: config.for_layer(layer).rank for layer in config.target_layers or ()}
        spare, layer = min((min(shapes[layer]) - rank, layer) for layer, rank in ranks.items())
        if spare < 0 and config.scaling != "rslora" and isinstance(mathematics_of(config), LoRA):
            fan_in, fan_out = shapes[layer]
            smallest = min(fan_in, fan_out)
            jobs.workspace.reporter.notice(
                f"rank {ranks[layer]} is more than {layer} ({fan_in} → {fan_out}) can use, which changes by rank "
                f"{smallest} at most: no error, the rest of the rank is idle there"
            )
            return
