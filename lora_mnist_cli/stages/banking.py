"""Adapters that are wanted become artifacts: what is missing is trained together, in banks that fit into memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.artifact import LOG_FOLDER, Artifact, Parent, Settings, canonical, sha256
from lora_mnist_cli.config import AdapterConfig
from lora_mnist_cli.digits import DigitSet, reporting_sets
from lora_mnist_cli.errors import ArtifactError, DivergedError
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


def adapter_name(base: Artifact, config: AdapterConfig) -> str:
    """An adapter's name where none is given."""
    name = default_name("adapter", base.dataset, config.digits, rank=config.rank, seed=config.seed)
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
    _check_data(workspace, base)
    settings = {each.name: adapter_settings(base, each.config) for each in wanted}
    done: dict[str, Artifact] = {}
    for each in wanted:
        if found := workspace.up_to_date(each.name, settings[each.name], force):
            done[each.name] = found
            if reason := found.details.get("failed"):
                workspace.reporter.warn(f"{each.name} diverged when it was trained: {reason}")
    if len(done) < len(wanted):
        work = _Work(workspace, base, settings, force, publish_failed)
        for bank in work.banks(wanted, done):
            done |= work.train(bank)
    return [done[each.name] for each in wanted]


def banks(wanted: Sequence[Wanted], base: Artifact, megabytes: int) -> Iterator[list[Wanted]]:
    """Adapters in groups that can be trained together within a memory budget; those of one seed beside each other."""
    from lora_mnist_cli.bank import member_bytes

    shapes = [tuple(shape) for shape in base.details["layers"].values()]
    bank: list[Wanted] = []
    used, alike = 0, None

    def order(each: Wanted) -> tuple[object, ...]:
        config = each.config
        return str(config.digits), config.epochs, config.precision, config.seed

    for each in sorted(wanted, key=order):  # stable: else as they were given
        need = member_bytes(shapes, each.config.rank, each.config.batch_size, 8 if "64" in each.config.precision else 4)
        fits = used + need <= megabytes * 2**20 and len(bank) < MAX_MEMBERS and order(each)[:3] == alike
        if bank and not fits:
            yield bank
            bank, used = [], 0
        bank.append(each)
        used, alike = used + need, order(each)[:3]
    yield bank


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
class _Work:
    """What all banks of a stage have in common."""

    workspace: Workspace
    base: Artifact
    settings: dict[str, Settings]
    force: bool
    publish_failed: bool

    def banks(self, wanted: Sequence[Wanted], done: Mapping[str, Artifact]) -> list[list[Wanted]]:
        """Those that are not done, in banks.

        Where a process was killed while it published a bank, that bank is put together again: sums in another bank are
        added up in another order, and running a command again has to end with the same bytes.
        """
        megabytes = self.workspace.runtime.bank_megabytes
        marks = {name: artifact.details.get("bank") for name, artifact in done.items()}
        for mark in sorted({mark for mark in marks.values() if mark}):
            together = [each for each in wanted if each.name not in done or marks[each.name] == mark]
            cut = [
                bank for bank in banks(together, self.base, megabytes) if any(each.name not in done for each in bank)
            ]
            if any(self.mark(bank) == mark for bank in cut):
                return cut
        return list(banks([each for each in wanted if each.name not in done], self.base, megabytes))

    def mark(self, bank: Sequence[Wanted]) -> str:
        """What tells a bank from any other: who was trained in it, in which order."""
        return sha256(canonical([self.settings[each.name].fingerprint() for each in bank]))

    def train(self, bank: Sequence[Wanted]) -> dict[str, Artifact]:
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
                reporter=self.workspace.reporter, title=title, log_folders=[folder / LOG_FOLDER for folder in folders],
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
        from lora_mnist_cli.lora import trainable_parameters

        start = time.perf_counter()
        config = each.config
        assert config.digits is not None
        assert config.target_layers is not None
        subsets = reporting_sets(loaded.base_config.digits, config.digits)
        shapes = {layer: tuple(self.base.details["layers"][layer]) for layer in config.target_layers}
        details: dict[str, Any] = {
            "trainable_parameters": trainable_parameters(shapes, config.rank),
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
