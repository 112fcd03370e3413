"""Adapters that are wanted become artifacts: what is missing is trained together, in banks that fit into memory."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.architecture import member_bytes
from lora_mnist_cli.artifact import LOG_FOLDER, Artifact, Parent, Settings, canonical, sha256
from lora_mnist_cli.config import AdapterConfig, training_images
from lora_mnist_cli.digits import DigitSet, reporting_sets
from lora_mnist_cli.errors import ArtifactError, DivergedError
from lora_mnist_cli.grid import Axis, marks
from lora_mnist_cli.methods import trainable_parameters
from lora_mnist_cli.reporting import Reporter, as_one
from lora_mnist_cli.sources import digit_counts
from lora_mnist_cli.stages.workspace import Workspace, default_name, environment, write_history

if TYPE_CHECKING:
    from lora_mnist_cli.bank_training import Outcome
    from lora_mnist_cli.data import MNISTDataset
    from lora_mnist_cli.model import MNISTModel
    from lora_mnist_cli.stages.models import LoadedModel

MAX_MEMBERS = 256
"""Adapters of one bank: each has a staging folder with an open lock, and a process may have a thousand files open."""


@dataclass(frozen=True)
class Wanted:
    """An adapter that is asked for: the name that it is to have, and its config, with digits and layers filled in."""

    name: str
    config: AdapterConfig


def adapter_name(base: Artifact, config: AdapterConfig, axes: Sequence[Axis] = ()) -> str:
    """An adapter's name where none is given.

    Args:
        axes: what a sweep varies beside rank and seed.
    """
    name = default_name(
        config.method, base.dataset, config.digits, rank=config.rank, marks=marks(config, axes), seed=config.seed
    )
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


def train_adapters(
    workspace: Workspace, base: Artifact, wanted: Sequence[Wanted], *, force: bool = False, publish_failed: bool = True
) -> list[Artifact]:
    """Train, score and publish adapters, those that are up to date excepted.

    Args:
        force: train those that are up to date as well, and replace others of these names.
        publish_failed: publish what diverges, without weights, its figures None and the reason in its details.

    Returns:
        Their artifacts, in the order in which they were asked for.

    Raises:
        ArtifactError: where a name has other settings, or the data set is not the one that the base was trained on.
            Nothing has been trained then.
        DivergedError: where one diverges and is not to be published; those of earlier banks are.
    """
    return survey(workspace, base, wanted, force=force, publish_failed=publish_failed).run()


def survey(
    workspace: Workspace, base: Artifact, wanted: Sequence[Wanted], *, force: bool = False, publish_failed: bool = True
) -> Work:
    """What there is to do for adapters that are wanted, and what is there already; nothing is trained or written.

    Args:
        force: as in :func:`train_adapters`, and so is the rest.

    Raises:
        ArtifactError: where a name has other settings, or the data set is not the one that the base was trained on.
    """
    _check_data(workspace, base)
    settings = {each.name: adapter_settings(base, each.config) for each in wanted}
    done: dict[str, Artifact] = {}
    for each in wanted:
        if found := workspace.registry.up_to_date(each.name, settings[each.name], force=force):
            done[each.name] = found
    return Work(workspace, base, wanted, settings, done, force, publish_failed)


def banks(wanted: Sequence[Wanted], base: Artifact, megabytes: int) -> Iterator[list[Wanted]]:
    """Adapters in groups that can be trained together within a memory budget; those of one seed beside each other."""
    bank: list[Wanted] = []
    used, alike = 0, None

    def order(each: Wanted) -> tuple[object, ...]:
        config = each.config
        return str(config.digits), config.epochs, config.precision, config.alone, config.seed

    for each in sorted(wanted, key=order):  # stable: else as they were given
        need = memory(each.config, base)
        fits = used + need <= megabytes * 2**20 and len(bank) < MAX_MEMBERS and order(each)[:4] == alike
        if bank and not fits:
            yield bank
            bank, used = [], 0
        bank.append(each)
        used, alike = used + need, order(each)[:4]
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
class Work:
    """What there is to do for some adapters on one base. Made by :func:`survey`.

    Args:
        done: name → artifact of those that are there already.
    """

    workspace: Workspace
    base: Artifact
    wanted: Sequence[Wanted]
    settings: dict[str, Settings]
    done: dict[str, Artifact]
    force: bool
    publish_failed: bool

    @cached_property
    def banks(self) -> list[list[Wanted]]:
        """Those that are not done, in banks.

        Where a process was killed while it published a bank, that bank is put together again: sums in another bank are
        added up in another order, and running a command again has to end with the same bytes.
        """
        wanted, done, megabytes = self.wanted, self.done, self.workspace.runtime.bank_megabytes
        if len(done) == len(wanted):
            return []
        bank_of = {name: artifact.details.get("bank") for name, artifact in done.items()}
        for mark in sorted({mark for mark in bank_of.values() if mark}):
            there = [each for each in wanted if bank_of.get(each.name) == mark]
            if self.mark(next(banks(there, self.base, 2**20))) == mark:
                continue  # nothing of it is missing
            together = [each for each in wanted if each.name not in done or bank_of[each.name] == mark]
            cut = [
                bank for bank in banks(together, self.base, megabytes) if any(each.name not in done for each in bank)
            ]
            if any(self.mark(bank) == mark for bank in cut):
                return cut
        return list(banks([each for each in wanted if each.name not in done], self.base, megabytes))

    def mark(self, bank: Sequence[Wanted]) -> str:
        """What tells a bank from any other: who was trained in it, in which order."""
        return sha256(canonical([self._fingerprints[each.name] for each in bank]))

    @cached_property
    def _fingerprints(self) -> dict[str, str]:
        return {name: settings.fingerprint() for name, settings in self.settings.items()}

    def run(self) -> list[Artifact]:
        """Train what is not done, and publish it; returns all artifacts in the order in which they were asked for.

        Raises:
            DivergedError: as :func:`train_adapters`.
        """
        for each in self.wanted:
            if found := self.done.get(each.name):
                self.workspace.tell_up_to_date(found)
                if reason := found.details.get("failed"):
                    self.workspace.reporter.warn(f"{each.name} diverged when it was trained: {reason}")
        made = dict(self.done)
        steps = self._steps()
        title = f"{sum(map(len, self.banks))} adapters on {self.wanted[0].config.digits}"
        told = self.workspace.reporter
        with as_one(told, title, steps) if len(steps) > 1 else nullcontext(told) as reporter:
            for bank in self.banks:
                made |= self._train(bank, reporter)
        return [made[each.name] for each in self.wanted]

    def steps_an_epoch(self, config: AdapterConfig) -> int:
        """Optimiser steps of one adapter on the base's data set.

        Raises:
            DataError: where the data set can't be had.
        """
        assert config.digits is not None
        images = sum(self._digit_counts[digit] for digit in config.digits.members)
        return math.ceil(training_images(images, config.val_split) / config.batch_size)

    @cached_property
    def _digit_counts(self) -> list[int]:
        return digit_counts(self.base.dataset, "train", self.workspace.data_dir)

    def _steps(self) -> list[int]:
        """Optimiser steps an epoch of each training, where several follow each other; else nothing.

        A bank is one training; what a bank can't train has one an adapter.
        """
        if len(self.banks) < 2 and not (self.banks and self.banks[0][0].config.alone):
            return []
        from lora_mnist_cli.bank_training import cohorts

        steps = []
        for bank in self.banks:
            configs = [each.config for each in bank]
            alone = configs[0].alone
            firsts = configs if alone else [configs[members[0]] for members, _ in cohorts(configs)]
            own = [self.steps_an_epoch(config) for config in firsts]
            steps += own if alone else [sum(own)]
        return steps

    def _train(self, bank: Sequence[Wanted], reporter: Reporter) -> dict[str, Artifact]:
        """Train one bank and publish its members, but for those that are there; returns them by name."""
        with ExitStack() as stack:
            staging = self.workspace.registry.staging
            folders = [stack.enter_context(staging(each.name, self.settings[each.name].parents)) for each in bank]
            from lora_mnist_cli.bank_training import fit_bank
            from lora_mnist_cli.stages.models import load_model, twin

            start = time.perf_counter()
            loaded = load_model(self.workspace.registry, self.base)
            # Both before the training: what is damaged is found out before the work, not after it.
            train, test = self._images(bank[0].config.digits, loaded)
            models = [twin(loaded.model, each.config) for each in bank]
            title = bank[0].name if len(bank) == 1 else f"{len(bank)} adapters on {bank[0].config.digits}"
            outcomes = fit_bank(
                models, train, [each.config for each in bank], runtime=self.workspace.runtime,
                reporter=reporter, title=title, log_folders=[folder / LOG_FOLDER for folder in folders],
            )  # fmt: skip
            for each, outcome in zip(bank, outcomes, strict=True):
                if outcome.failed and not self.publish_failed:
                    raise diverged(outcome.failed, each.config)
            # What a member cost is its share of the bank's time.
            share = (time.perf_counter() - start) / len(bank)
            return {
                each.name: self._publish(each, model, outcome, folder, loaded, test, share, self.mark(bank))
                for each, model, outcome, folder in zip(bank, models, outcomes, folders, strict=True)
            }

    def _images(self, digits: DigitSet | None, loaded: LoadedModel) -> tuple[MNISTDataset, MNISTDataset]:
        """The training images of the digits to learn, and all test images."""
        from lora_mnist_cli.data import MNISTDataset

        assert digits is not None
        train = MNISTDataset.load(
            "train", digits, dataset=self.base.dataset, data_dir=self.workspace.data_dir,
            pixel_stats=loaded.pixel_stats,
        )  # fmt: skip
        return train, self.workspace.test_images(self.base, loaded.pixel_stats)

    def _publish(
        self, each: Wanted, model: MNISTModel, outcome: Outcome, folder: Path, loaded: LoadedModel,
        test: MNISTDataset, share: float, mark: str,
    ) -> Artifact:  # fmt: skip
        from lora_mnist_cli.checkpoint import save_adapter
        from lora_mnist_cli.evaluation import no_scores, predict, scores

        start = time.perf_counter()
        config = each.config
        assert config.digits is not None
        assert config.target_layers is not None
        subsets = reporting_sets(loaded.base_config.digits, config.digits)
        layers = {layer: self.base.details["layers"][layer] for layer in config.target_layers}
        details: dict[str, Any] = {
            "trainable_parameters": trainable_parameters(config, layers),
            "base_digits": str(loaded.base_config.digits),
            "bank": mark,
        }
        write_history(outcome.history, folder)
        if outcome.failed:
            details["failed"] = outcome.failed
            reached = no_scores(test.labels, subsets)
            self.workspace.reporter.warn(f"{each.name} diverged, and is published as failed: {outcome.failed}")
        else:
            save_adapter(model, config, folder)
            reached = scores(predict(model, test.images), test.labels, subsets)
        return self.workspace.registry.publish(
            folder,
            self.settings[each.name],
            scores=reached,
            details=details,
            environment=environment(self.workspace.runtime),
            wall_seconds=share + time.perf_counter() - start,
            force=self.force,
        )
