"""Adapters that are wanted become artifacts: what is missing is trained together, in banks that fit into memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from lora_mnist_cli.data.sources import digit_counts, load_digits, load_split
from lora_mnist_cli.models.architecture import member_bytes
from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.registry.digests import canonical, sha256
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig, training_images
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import Axis, marks
from lora_mnist_cli.settings.recipes import recipe_of
from lora_mnist_cli.stages.banks.backends import Ear, Lost, about_backend, alone, check_backend, make_backend
from lora_mnist_cli.stages.banks.job import Answer, Images, Job, Trained
from lora_mnist_cli.stages.records.histories import parse_history
from lora_mnist_cli.stages.records.loggers import Run, check_logger, log_beside, log_into
from lora_mnist_cli.stages.workspace import Workspace, default_name, write_history
from lora_mnist_cli.system.errors import ArtifactError, DivergedError, MachineError, UsageError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.progress import Reporter, as_one
from lora_mnist_cli.training.bank.grouping import cohorts

MAX_MEMBERS = 256
"""Adapters of one bank: each has a staging folder with an open lock, and a process may have a thousand files open."""

ENOUGH = 64
"""Adapters times epochs from which on a bank is worth a process: some seconds of work. To cut seventy
adapters into five banks costs no more than their times differ from run to run."""


@dataclass(frozen=True)
class AdapterRequest:
    """An adapter that is asked for: the name that it is to have, and its config, with digits and layers filled in."""

    name: str
    config: AdapterConfig


def adapter_name(base: Artifact, config: AdapterConfig, axes: Sequence[Axis] = ()) -> str:
    """An adapter's name where none is given.

    Args:
        axes: what a sweep varies beside rank and seed.
    """
    said = [*([mark for mark in (recipe_of(config),) if mark] or marks(config, axes)), *config.protect]
    name = default_name(config.method, base.dataset, config.digits, rank=config.rank, marks=said, seed=config.seed)
    return name + varied(config)


def varied(config: AdapterConfig) -> str:
    """What a name ends in where the seed varies one stream alone: ``-init``, or ``-init-h7`` where 7 is held."""
    held = f"-h{config.held_seed}" if config.held_seed else ""
    return "" if config.vary == "all" else f"-{config.vary}{held}"


def diverged(reason: str, config: AdapterConfig) -> DivergedError:
    """The error that says so."""
    return DivergedError(
        f"training diverged: {reason}", hint=f"a lower --lr than {config.lr:g} may help", value=config.lr
    )


def plan_jobs(
    workspace: Workspace,
    base: Artifact,
    wanted: Sequence[AdapterRequest],
    *,
    force: bool = False,
    publish_failed: bool = True,
) -> AdapterJobs:
    """What there is to do for adapters that are wanted, and what is there already; nothing is trained or written.

    Args:
        force: train those that are up to date as well, and replace others of these names.
        publish_failed: publish what diverges, without weights, its figures None and the reason in its details.

    Raises:
        UsageError: where one was imported: nothing here trains it.
        ArtifactError: where a name has other settings, or the data set is not the one that the base was trained on.
    """
    if any(each.config.imported is not None for each in wanted):
        raise UsageError("what was imported is not trained here", hint="import_adapter publishes it")
    _check_data(workspace, base)
    settings = {each.name: adapter_settings(base, each.config) for each in wanted}
    done: dict[str, Artifact] = {}
    for each in wanted:
        if found := workspace.registry.up_to_date(each.name, settings[each.name], force=force):
            done[each.name] = found
    return AdapterJobs(workspace, base, wanted, settings, done, force, publish_failed)


def banks(wanted: Sequence[AdapterRequest], base: Artifact, megabytes: int) -> Iterator[list[AdapterRequest]]:
    """Adapters in groups that can be trained together within a memory budget; those of one seed beside each other.

    A bank ends with a cohort, as soon as it has work for some seconds, so that several processes can share a grid. How
    many there are makes no difference to how it is cut: that would change the results in their last places.
    """

    def alike(each: AdapterRequest) -> tuple[Any, ...]:
        config = each.config
        return str(config.digits), config.epochs, config.precision, config.alone, config.objective

    in_order = sorted(wanted, key=lambda each: (alike(each), each.config.seed))  # stable: else as they were given
    for (_, epochs, *_), group in groupby(in_order, alike):
        members = list(group)
        bank: list[AdapterRequest] = []
        used = 0
        for places, _ in cohorts([each.config for each in members]):
            for each in (members[place] for place in sorted(places)):
                need = memory(each.config, base)
                if bank and (used + need > megabytes * 2**20 or len(bank) == MAX_MEMBERS):
                    yield bank
                    bank, used = [], 0
                bank.append(each)
                used += need
            if len(bank) * epochs >= ENOUGH:
                yield bank
                bank, used = [], 0
        if bank:
            yield bank


def memory(config: AdapterConfig, base: Artifact) -> int:
    """About how many bytes an adapter takes in training."""
    shapes = [(fan_in, fan_out) for fan_in, fan_out in base.details["layers"].values()]
    # What has no rank trains as many numbers as a full one at most.
    rank = config.rank or max(min(shape) for shape in shapes)
    return member_bytes(shapes, rank, config.batch_size, 8 if "64" in config.precision else 4)


def adapter_settings(base: Artifact, config: AdapterConfig) -> Settings:
    """All that decides what an adapter becomes; it learns from the data set that its base learned from."""
    return Settings("adapter", config.to_json(), base.settings.dataset, (Parent("base", base.name, base.digest),))


def _check_data(workspace: Workspace, base: Artifact) -> None:
    """Refuse files that are not those that the base was trained on. To tell, all of them are read."""
    if workspace.dataset_settings(base.dataset) != base.settings.dataset:
        raise ArtifactError(
            f"the files of {base.dataset} in {workspace.data_dir} are not those that '{base.name}' was trained on",
            hint="give the right --data-dir, or train the base again",
            value=base.name,
        )


@dataclass
class AdapterJobs:
    """What there is to do for some adapters on one base. Made by :func:`plan_jobs`.

    Args:
        done: name → artifact of those that are there already.
    """

    workspace: Workspace
    base: Artifact
    wanted: Sequence[AdapterRequest]
    settings: dict[str, Settings]
    done: dict[str, Artifact]
    force: bool
    publish_failed: bool
    _known_images: dict[DigitSet, Images] = field(default_factory=dict)

    @cached_property
    def banks(self) -> list[list[AdapterRequest]]:
        """Those that are not done, in banks.

        Banks of the whole grid stay as they are, whichever of them are done, because sums in another bank are added up
        in another order, and running a command again has to end with the same bytes. So a bank is put together again as
        well where a process was killed while it published it. What is left of banks that were mixed with adapters from
        elsewhere is put into banks of its own.
        """
        if len(self.done) == len(self.wanted):
            return []
        bank_of = {name: artifact.details.get("bank") for name, artifact in self.done.items()}
        cut: list[list[AdapterRequest]] = []
        rest: list[AdapterRequest] = []
        for bank in banks(self.wanted, self.base, self.workspace.runtime.bank_megabytes):
            missing = [each for each in bank if each.name not in bank_of]
            if missing and {bank_of[each.name] for each in bank if each.name in bank_of} <= {self.mark(bank)}:
                cut.append(bank)
            else:
                rest += missing
        return [*cut, *self._again({each.name for each in rest}, bank_of)] if rest else cut

    def _again(self, missing: set[str], bank_of: Mapping[str, str | None]) -> list[list[AdapterRequest]]:
        """Those that are missing in banks: one that was published in part is put together again."""
        megabytes = self.workspace.runtime.bank_megabytes
        for mark in sorted({mark for mark in bank_of.values() if mark}):
            there = [each for each in self.wanted if bank_of.get(each.name) == mark]
            if self.mark(next(banks(there, self.base, 2**20))) == mark:
                continue  # nothing of it is missing
            together = [each for each in self.wanted if each.name in missing or bank_of.get(each.name) == mark]
            cut = [bank for bank in banks(together, self.base, megabytes) if any(each.name in missing for each in bank)]
            if any(self.mark(bank) == mark for bank in cut):
                return cut
        return list(banks([each for each in self.wanted if each.name in missing], self.base, megabytes))

    def mark(self, bank: Sequence[AdapterRequest]) -> str:
        """What tells a bank from any other: who was trained in it, in which order."""
        return sha256(canonical([self._fingerprints[each.name] for each in bank]))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: settings.fingerprint() for name, settings in self.settings.items()}

    def run(self) -> list[Artifact]:
        """Train what is not done, and publish it; returns all artifacts in the order in which they were asked for.

        Raises:
            DivergedError: where one diverges and is not to be published; those of earlier banks are.
            MachineError: where other processes that were to train were lost.
        """
        for each in self.wanted:
            if found := self.done.get(each.name):
                self.workspace.tell_up_to_date(found)
                if reason := found.details.get("failed"):
                    self.workspace.reporter.warn(f"{each.name} diverged when it was trained: {reason}")
        made = dict(self.done)
        if self.banks:
            runtime, told = self.workspace.runtime, self.workspace.reporter
            check_backend(runtime)
            check_logger(runtime)
            told.detail(self._about(self.banks))
            if runtime.backend == "local":
                steps = self._steps()
                title = f"{sum(map(len, self.banks))} adapters on {self.wanted[0].config.digits}"
                with as_one(told, title, steps) if len(steps) > 1 else nullcontext(told) as reporter:
                    for bank in self.banks:
                        made |= self._train_here(bank, reporter)
            else:
                made |= self._train_apart(self.banks)
        return [made[each.name] for each in self.wanted]

    def steps_an_epoch(self, config: AdapterConfig) -> int:
        """Optimiser steps of one adapter on the base's data set.

        Raises:
            DataError: where the data set can't be had.
        """
        assert config.digits is not None
        images = sum(self._digit_counts[digit] for digit in config.digits.members)
        sampled = sum(config.sample_counts(images, self._base_config.digits))
        rows = training_images(images, config.val_split) + training_images(sampled, config.val_split)
        return math.ceil(rows / config.batch_size)

    @cached_property
    def _base_config(self) -> BaseConfig:
        return BaseConfig.from_json(self.base.config)

    @cached_property
    def _digit_counts(self) -> list[int]:
        return digit_counts(self.base.dataset, "train", self.workspace.data_dir)

    def _steps(self) -> list[int]:
        """Optimiser steps an epoch of each training, where several follow each other; else nothing.

        A bank is one training; what a bank can't train has one an adapter.
        """
        if len(self.banks) < 2 and not (self.banks and self.banks[0][0].config.alone):
            return []
        steps = []
        for bank in self.banks:
            configs = [each.config for each in bank]
            alone = configs[0].alone
            firsts = configs if alone else [configs[members[0]] for members, _ in cohorts(configs)]
            own = [self.steps_an_epoch(config) for config in firsts]
            steps += own if alone else [sum(own)]
        return steps

    def _about(self, cut: Sequence[Sequence[AdapterRequest]]) -> str:
        """What is trained, and by what."""
        runtime, adapters = self.workspace.runtime, sum(map(len, cut))
        what = f"{adapters} adapter{'s' if adapters != 1 else ''} in {len(cut)} bank{'s' if len(cut) != 1 else ''}"
        return f"training {what}: {about_backend(runtime, len(cut))}"

    def _train_here(self, bank: Sequence[AdapterRequest], reporter: Reporter) -> dict[str, Artifact]:
        """Train one bank in this process; its staging folders are made before."""
        with ExitStack() as stack:
            folders = self._stage(bank, stack)
            from lora_mnist_cli.stages.banks.job import train_bank

            answer = train_bank(*self._task(bank), reporter)
            return self._publish(bank, answer, folders)

    def _train_apart(self, cut: Sequence[Sequence[AdapterRequest]]) -> dict[str, Artifact]:
        """Train banks elsewhere, and publish each when its answer is there.

        Raises:
            MachineError: where banks were lost, after all others were published.
        """
        reporter = self.workspace.reporter
        backend = make_backend(self.workspace.runtime, len(cut))
        tasks = [self._task(bank) for bank in cut]
        ear = Ear(reporter, self._title([each for bank in cut for each in bank]), tasks)
        done: dict[str, Artifact] = {}
        lost: list[tuple[int, Lost]] = []
        ear.begin()
        try:
            with closing(backend.run(tasks, ear)) as answers:
                for number, answer in answers:
                    if isinstance(answer, Lost):
                        lost.append((number, answer))
                        continue
                    with ExitStack() as stack:
                        done |= self._publish(cut[number], answer, self._stage(cut[number], stack))
        finally:
            reporter.end()
        if lost:
            names = [each.name for number, _ in lost for each in cut[number] if each.name not in self.done]
            listed = ", ".join(names[:3]) + (f" and {len(names) - 3} others" if len(names) > 3 else "")
            raise MachineError(
                f"{listed} could not be trained: {lost[0][1].how}",
                hint="all others are published, and the same command trains what is missing; fewer --workers may help",
                value=names,
            )
        return done

    def _stage(self, bank: Sequence[AdapterRequest], stack: ExitStack) -> list[Path]:
        """A staging folder for each member, as long as the stack is open."""
        staging = self.workspace.registry.staging
        return [stack.enter_context(staging(each.name, self.settings[each.name].parents)) for each in bank]

    @staticmethod
    def _title(wanted: Sequence[AdapterRequest]) -> str:
        return wanted[0].name if len(wanted) == 1 else f"{len(wanted)} adapters on {wanted[0].config.digits}"

    def _task(self, bank: Sequence[AdapterRequest]) -> tuple[Job, Images]:
        """All that is needed to train a bank, by value. What is damaged is found out here, before the work."""
        base_config, (mean, std) = self._base_config, self.base.details["pixel_stats"]
        digits = bank[0].config.digits
        assert digits is not None
        job = Job(
            title=self._title(bank),
            base=self._weights,
            hidden_sizes=base_config.hidden_sizes,
            base_digits=str(base_config.digits),
            pixel_stats=(mean, std),
            members=tuple(each.config.to_json() for each in bank),
            runtime=alone(self.workspace.runtime),
            statistics=self._statistics if bank[0].config.needs_statistics else None,
        )
        return job, self._images(digits)

    @cached_property
    def _weights(self) -> bytes:
        """The base's file of weights, checked."""
        from lora_mnist_cli.registry.weights import BASE_FILE, check_header

        self.base.check_files()
        check_header(self.base, self.base)
        return self.base.read(BASE_FILE)

    @cached_property
    def _statistics(self) -> bytes:
        """The base's file of class statistics, checked.

        Raises:
            ArtifactError: where it has none, or they make no sense.
        """
        from lora_mnist_cli.registry.checkpoint import load_statistics
        from lora_mnist_cli.registry.weights import STATISTICS_FILE

        self.base.check_files()
        load_statistics(self.base)
        return self.base.read(STATISTICS_FILE)

    def _images(self, digits: DigitSet) -> Images:
        """The training images of the digits to learn, and all test images; the same object for the same digits."""
        if digits not in self._known_images:
            dataset, data_dir = self.base.dataset, self.workspace.data_dir
            self._known_images[digits] = Images(
                load_digits(dataset, "train", digits, data_dir), load_split(dataset, "test", data_dir)
            )
        return self._known_images[digits]

    def _publish(self, bank: Sequence[AdapterRequest], answer: Answer, folders: Sequence[Path]) -> dict[str, Artifact]:
        """Publish what became of a bank's members, but for those that are there."""
        for each, trained in zip(bank, answer.members, strict=True):
            if trained.failed and not self.publish_failed:
                raise diverged(trained.failed, each.config)
        return {
            each.name: self._publish_one(each, trained, answer.environment, folder, self.mark(bank))
            for each, trained, folder in zip(bank, answer.members, folders, strict=True)
        }

    def _publish_one(
        self, each: AdapterRequest, trained: Trained, environment: dict[str, Any], folder: Path, mark: str
    ) -> Artifact:
        from lora_mnist_cli.registry.weights import write_adapter, write_statistics

        start = time.perf_counter()
        config = each.config
        layers = {layer: self.base.details["layers"][layer] for layer in config.target_layers or ()}
        details: dict[str, Any] = {
            "trainable_parameters": trainable_parameters(config, layers),
            "base_digits": self.base.config["digits"],
            "bank": mark,
        }
        write_history(trained.history, folder)
        runtime, reporter = self.workspace.runtime, self.workspace.reporter
        kept = {
            "kind": "adapter",
            "base": self.base.name,
            "dataset": self.base.dataset,
            **self.settings[each.name].config,
        }
        run = Run(
            each.name, {**kept, "trainable_parameters": details["trainable_parameters"]},
            parse_history(trained.history), trained.scores, trained.failed, self.workspace.note,
        )  # fmt: skip
        with machine_errors(f"can't write to {folder}"):
            log_into(folder, runtime, run)
        if trained.weights is None:
            details["failed"] = trained.failed
            reporter.warn(f"{each.name} diverged, and is published as failed: {trained.failed}")
        else:
            write_adapter(trained.weights, config, sorted(layers), folder)
        if trained.statistics is not None:
            write_statistics(trained.statistics, folder)
        artifact = self.workspace.registry.publish(
            folder,
            self.settings[each.name],
            scores=trained.scores,
            details=details,
            environment=environment,
            wall_seconds=trained.seconds + time.perf_counter() - start,
            force=self.force,
        )
        log_beside(artifact, runtime, reporter, run)
        return artifact
