"""Adapters that a stage wants become artifacts: plan, train what is missing in banks, publish."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property

from lora_mnist_cli.data.sources import digit_counts, load_digits, load_split, read_ahead
from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.registry.digests import canonical, sha256
from lora_mnist_cli.registry.newest import same_settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig, training_images
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import counted, some
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.banks.backend import CombinedProgress, Lost, Task
from lora_mnist_cli.stages.banks.backends import about_backend, check_backend, make_backend
from lora_mnist_cli.stages.banks.cut import AdapterRequest, Bank, title_of, unfinished_banks
from lora_mnist_cli.stages.banks.engines import check_engine, trained_together
from lora_mnist_cli.stages.banks.job import Files, Images, Job, Made, Split, split_of
from lora_mnist_cli.stages.banks.members import Finished, diverged, members_of, publish_members
from lora_mnist_cli.stages.records.loggers import check_logger
from lora_mnist_cli.stages.records.resolving import adapter_settings
from lora_mnist_cli.stages.workspace import Making, Workspace, made_by
from lora_mnist_cli.system.errors import ArtifactError, MachineError, UsageError
from lora_mnist_cli.system.progress import as_one
from lora_mnist_cli.system.work import IMAGES, LOADING, in_turn

Stage = Callable[[Bank], AbstractContextManager[list[Making]]]
"""Makes what is needed to publish the members of a bank."""
Trainings = Generator[tuple[list[Finished], list[Making]], None, None]
"""The members of each bank, with what was made to publish them."""


def plan_jobs(
    workspace: Workspace, base: Artifact, requests: Sequence[AdapterRequest], *, force: bool = False,
    publish_failed: bool = True, named: bool = False,
) -> AdapterJobs:  # fmt: skip
    """Find out which of some adapters are there already, and what is to be trained. Train and write nothing.

    Args:
        force: train those that are up to date as well, and replace others of these names.
        publish_failed: publish an adapter that diverges, without weights or figures, the reason in its details.
        named: whether the user chose the names. Otherwise what is there under another name is copied, not trained.

    Raises:
        UsageError: where one was imported, because nothing here trains it.
        ArtifactError: where a name has other settings, or the data set is not the one that the base was trained on.
    """
    if any(request.config.imported is not None for request in requests):
        raise UsageError("what was imported is not trained here", hint="import_adapter publishes it")
    # To tell whether the files are the base's, all of them are read.
    if workspace.dataset_settings(base.dataset) != base.settings.dataset:
        problem = f"the files of {base.dataset} in {workspace.data_dir} are not those that '{base.name}' was trained on"
        raise ArtifactError(problem, hint="give the right --data-dir, or train the base again", value=base.name)
    settings = {request.name: adapter_settings(base, request.config) for request in requests}
    there = {name: workspace.registry.up_to_date(name, wanted, force=force) for name, wanted in settings.items()}
    done = {name: artifact for name, artifact in there.items() if artifact is not None}
    missing = {name: wanted.fingerprint() for name, wanted in settings.items() if name not in done}
    if missing and not force and not named:
        elsewhere = same_settings(workspace.runs_dir, "adapter", set(missing.values()))
        done |= {name: elsewhere[mark] for name, mark in missing.items() if mark in elsewhere}
    return AdapterJobs(workspace, base, requests, settings, done, force, publish_failed)


@dataclass
class AdapterJobs:
    """The work to do for some adapters on one base, made by :func:`plan_jobs`; ``done`` are those that are there."""

    workspace: Workspace
    base: Artifact
    requests: Sequence[AdapterRequest]
    settings: dict[str, Settings]
    done: dict[str, Artifact]
    force: bool
    publish_failed: bool
    wanted: set[str] | None = None
    """Those that are to be trained, where not all that are missing."""
    densities: bool = True
    """Whether anything is published, with the densities of its digits."""
    _images_of: dict[DigitSet, Images] = field(default_factory=dict)

    @cached_property
    def banks(self) -> list[Bank]:
        """The adapters to train, in banks (:mod:`.cut`); what the engine can't train is refused by a UsageError."""
        bank_of = {name: artifact.details.get("bank") for name, artifact in self.done.items()}
        runtime = self.workspace.runtime
        banks = unfinished_banks(self.requests, self.base, runtime, bank_of, self._mark)
        missing = set(self.missing)
        # What is trained alone has the same bytes whatever else is in its bank.
        banks = [
            [member for member in bank if member.name in missing or not member.config.alone]
            for bank in banks if any(member.name in missing for member in bank)
        ]  # fmt: skip
        check_engine(runtime, banks, self._base_config.hidden_sizes)
        return banks

    @property
    def missing(self) -> list[str]:
        """Names of the adapters that are to be trained."""
        names = [request.name for request in self.requests if request.name not in self.done]
        return names if self.wanted is None else [name for name in names if name in self.wanted]

    def _mark(self, bank: Sequence[AdapterRequest]) -> str:
        """Return what tells a bank from any other: the settings of its members, in their order."""
        return sha256(canonical([self._fingerprints[member.name] for member in bank]))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: settings.fingerprint() for name, settings in self.settings.items()}

    def steps_per_epoch(self, config: AdapterConfig) -> int:
        """Return the optimiser steps of one adapter on the base's data set.

        Raises:
            DataError: where the data set is not available.
        """
        assert config.digits is not None
        images = sum(self._digit_counts[digit] for digit in config.digits.members)
        sampled = sum(config.sample_counts(images, self._base_config.digits))
        rows = training_images(images, config.val_split) + training_images(sampled, config.val_split)
        return math.ceil(rows / config.batch_size)

    def _training_steps(self, bank: Bank) -> list[int]:
        """Return the steps per epoch of each training of a bank: one, or one per adapter where each trains alone."""
        configs = [member.config for member in bank]
        if configs[0].alone:
            return [self.steps_per_epoch(config) for config in configs]
        groups = trained_together(configs, self.workspace.runtime, self._base_config.hidden_sizes)
        return [sum(self.steps_per_epoch(configs[members[0]]) for members in groups)]

    @cached_property
    def _base_config(self) -> BaseConfig:
        return BaseConfig.from_json(self.base.config)

    @cached_property
    def _digit_counts(self) -> list[int]:
        return digit_counts(self.base.dataset, "train", self.workspace.data_dir)

    def run(self) -> list[Artifact]:
        """Train and publish the adapters that are not there; return all artifacts in the order of the requests.

        Raises:
            DivergedError: where one diverges and is not to be published; those of earlier banks are published.
            MachineError: where banks were lost with their processes, after all others were published.
        """
        adapters = {request.name: self.taken(request.name) for request in self.requests if request.name in self.done}
        with closing(self.train(self.stage)) as trainings:
            for finished, making in trainings:
                for each in finished:
                    if each.trained.failed and not self.publish_failed:
                        raise diverged(each.trained.failed, each.config)
                adapters |= self.publish(finished, making)
        return [adapters[request.name] for request in self.requests]

    def taken(self, name: str) -> Artifact:
        """Return an adapter that is there, or publish it under this name too where it has another; say so."""
        artifact = self.done[name]
        if artifact.name != name:
            artifact = self.done[name] = self.workspace.copied(artifact, name)
        else:
            self.workspace.tell_up_to_date(artifact)
        if reason := artifact.details.get("failed"):
            self.workspace.reporter.warn(f"{name} diverged when it was trained: {reason}")
        return artifact

    def train(self, stage: Stage) -> Trainings:
        """Train the banks; yield each bank's members when it is done.

        Args:
            stage: makes what is needed to publish a bank; what it gives comes with the members.

        Raises:
            MachineError: where banks were lost with their processes, after all others were yielded.
        """
        runtime = self.workspace.runtime
        if not self.banks:
            return
        check_backend(runtime)
        check_logger(runtime)
        size = f"{counted(sum(map(len, self.banks)), 'adapter')} in {counted(len(self.banks), 'bank')}"
        about = f"engine {runtime.engine_taken}, {about_backend(runtime, len(self.banks))}"
        self.workspace.reporter.detail(f"training {size}: {about}")
        yield from self._train_here(stage) if runtime.backend == "local" else self._train_elsewhere(stage)

    def _train_here(self, stage: Stage) -> Trainings:
        """Train the banks in this process, one after the other; each is staged before it is trained."""
        reporter = self.workspace.reporter
        works = [self.work(bank) for bank in self.banks]
        turns = in_turn(reporter, [{LOADING: costs.loading()}, *works])
        next(turns).phase(LOADING, costs.loading())
        read_ahead(self.base.dataset, self.workspace.data_dir, "train", "test")
        import torch  # noqa: F401 - the images are unpacked meanwhile

        from lora_mnist_cli.stages.banks.job import train_bank

        steps = [count for bank in self.banks for count in self._training_steps(bank)]
        made: Made = {}  # banks of one split often come one after the other
        with as_one(reporter, self._title_of_all, steps) if len(steps) > 1 else nullcontext(reporter) as reporter:
            for bank in self.banks:
                next(turns).phase(IMAGES, costs.READING)
                with stage(bank) as making:
                    yield members_of(bank, train_bank(*self.task(bank), reporter, made), self._mark(bank)), making

    def _train_elsewhere(self, stage: Stage) -> Trainings:
        """Have the banks trained by a backend, and yield each when its answer comes."""
        reporter = self.workspace.reporter
        backend = make_backend(self.workspace.runtime, len(self.banks))
        tasks = [self.task(bank) for bank in self.banks]
        epochs = self.banks[0][0].config.epochs
        works = [job.work() for job, _ in tasks]
        progress = CombinedProgress(reporter, self._title_of_all, epochs, [job.steps for job, _ in tasks], works)
        lost: list[tuple[int, Lost]] = []
        progress.begin()
        try:
            with closing(backend.run(tasks, progress)) as answers:
                for number, answer in answers:
                    if isinstance(answer, Lost):
                        lost.append((number, answer))
                        continue
                    with stage(self.banks[number]) as making:
                        yield members_of(self.banks[number], answer, self._mark(self.banks[number])), making
        finally:
            reporter.end()
        if lost:
            names = [member.name for number, _ in lost for member in self.banks[number] if member.name not in self.done]
            problem = f"{some(names)} could not be trained: {lost[0][1].cause}"
            hint = "all others are published, and the same command trains what is missing; fewer --workers may help"
            raise MachineError(problem, hint=hint, value=names)

    def work(self, bank: Bank) -> dict[str, float]:
        """Return about how much work a bank is, by phase."""
        return costs.of_bank([member.config for member in bank], self._base_config.digits)

    @property
    def _title_of_all(self) -> str:
        return title_of([member for bank in self.banks for member in bank])

    def stage(self, bank: Bank) -> AbstractContextManager[list[Making]]:
        """Begin the artifact of each member; their staging folders are there as long as the context is open."""
        return self.workspace.making_all({each.name: self.settings[each.name] for each in bank}, force=self.force)

    def task(self, bank: Bank) -> Task:
        """Return all that training a bank needs, by value. Damaged files are found here, before the work."""
        base_config, (mean, std) = self._base_config, self.base.details["pixel_stats"]
        config = bank[0].config
        assert config.digits is not None
        job = Job(
            title=title_of(bank), base=self._weights, hidden_sizes=base_config.hidden_sizes,
            base_digits=str(base_config.digits), pixel_stats=(mean, std), steps=sum(self._training_steps(bank)),
            members=tuple(member.config.to_json() for member in bank),
            runtime=replace(self.workspace.runtime, backend="local", workers=None, address=None),
            statistics=self._statistics if config.needs_statistics else None, densities=self.densities,
            known=self._known(bank) if self.densities else {}, known_digits=str(self.base.known_digits),
        )  # fmt: skip
        return job, self._images(config.digits)

    @cached_property
    def _weights(self) -> bytes:
        """The base's file of weights, checked."""
        from lora_mnist_cli.registry.weights import BASE_FILE, check_header

        self.base.check_files()
        check_header(self.base, self.base)
        return self.base.read(BASE_FILE)

    @cached_property
    def _statistics(self) -> bytes:
        """The base's file of class statistics, checked."""
        from lora_mnist_cli.registry.checkpoint import load_statistics
        from lora_mnist_cli.registry.file_names import STATISTICS_FILE

        self.base.check_files()
        load_statistics(self.base)
        return self.base.read(STATISTICS_FILE)

    def _known(self, bank: Bank) -> dict[Split, Files]:
        """Return the statistics that other artifacts share, by the splits of a bank; none from another machine."""
        from lora_mnist_cli.registry.file_names import DIMENSIONS
        from lora_mnist_cli.registry.shared_statistics import find_statistics

        if self.workspace.runtime.backend == "ray":
            return {}
        root, here = self.workspace.runs_dir, made_by()
        found: dict[Split, Files] = {}
        for split, config in {split_of(member.config): member.config for member in bank}.items():
            contents = {
                file: find_statistics(root, self._recipe(config, here, file), dimensions)
                for file, dimensions in DIMENSIONS.items()
            }
            found[split] = {file: content for file, content in contents.items() if content is not None}
        return found

    def _recipe(self, config: AdapterConfig, maker: str, file: str) -> str:
        """Return what a file of statistics of an adapter's digits depends on."""
        from lora_mnist_cli.registry.file_names import FEATURES_FILE
        from lora_mnist_cli.registry.shared_statistics import statistics_recipe

        features = file == FEATURES_FILE
        mean, std = self.base.details["pixel_stats"]
        return statistics_recipe(
            self.base.settings.dataset, str(config.digits), (mean, std), split_of(config),
            like=self._statistics if config.needs_statistics and not features else None, made_by=maker,
            features=features,
        )  # fmt: skip

    def _images(self, digits: DigitSet) -> Images:
        """Return the training images of some digits and all test images; the same object for the same digits."""
        if digits not in self._images_of:
            dataset, data_dir = self.base.dataset, self.workspace.data_dir
            self._images_of[digits] = Images(
                load_digits(dataset, "train", digits, data_dir), load_split(dataset, "test", data_dir)
            )
        return self._images_of[digits]

    def publish(self, finished: Sequence[Finished], making: Sequence[Making]) -> dict[str, Artifact]:
        """Publish trained adapters, each in its staging folder; return them by name."""
        adapters = publish_members(finished, making, self.base, self._recipe_of)
        return {each.name: adapter for each, adapter in zip(finished, adapters, strict=True)}

    def _recipe_of(self, finished: Finished, file: str) -> str:
        return self._recipe(finished.config, finished.made_by, file)
