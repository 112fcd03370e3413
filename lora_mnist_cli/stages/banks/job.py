"""Training one bank as a pure function: its inputs come by value, and its results go back by value.

Any process on any machine can do it with the same bytes as result: it shares no folder and publishes nothing. No torch
is imported before the work begins.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.file_names import DIMENSIONS
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TRAINING_CODE
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet, reporting_sets
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.workspace import environment, made_by
from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.system.work import SCORING, STATISTICS, TRAINING, piece

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.models.densities import ClassStatistics
    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.training.outcomes import Outcome


Split = tuple[float, int]
"""The training images of an adapter: the share that is held out, and the seed that picks it."""

Files = Mapping[str, bytes]
"""Files of statistics, by name."""

Made = dict[tuple[str, Split, bytes | None], Files]
"""Files of statistics by digits, split, and the base's file whose basis they have."""


@dataclass(frozen=True)
class Images:
    """Images as bytes (n × 28 × 28) and their labels: of the digits to learn, and all test images."""

    train: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
    test: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class Job:
    """A bank to train.

    Args:
        title: its name where progress is shown.
        base: the base's weights, as safetensors.
        pixel_stats: mean and standard deviation that inputs are normalised with.
        members: each member's config, as JSON.
        steps: optimiser steps per epoch of the whole bank, for its progress.
        runtime: device and threads.
        statistics: the base's class statistics, as safetensors, where protections or starts of members need them.
        known: statistics files of the members' digits that are there already, by split.
        densities: whether the members get statistics of the digits that they were trained on.
        training_code: the version of the training code of the process that made the job.
        known_digits: the digits that the data set has.
    """

    title: str
    base: bytes
    hidden_sizes: tuple[int, ...]
    base_digits: str
    pixel_stats: tuple[float, float]
    members: tuple[Mapping[str, Any], ...]
    steps: int
    runtime: Runtime
    statistics: bytes | None = None
    known: Mapping[Split, Files] = field(default_factory=dict)
    densities: bool = True
    training_code: int = TRAINING_CODE
    known_digits: str = str(ALL_DIGITS)

    def configs(self) -> list[AdapterConfig]:
        """Return each member's config."""
        return [AdapterConfig.from_json(member) for member in self.members]

    def work(self) -> dict[str, float]:
        """Return about how much work it is, by phase."""
        return costs.of_bank(self.configs(), DigitSet.parse(self.base_digits))


@dataclass(frozen=True)
class Trained:
    """The result of one member.

    Args:
        weights: its file of weights; None where it diverged.
        statistics: its files of statistics of the digits that it was trained on; none where it diverged.
        history: its ``history.csv``.
        failed: why its training ended, where it diverged; else None.
        scores: on the test images, as manifests have them.
        seconds: its share of the bank's time, and the time of its own scores.
    """

    weights: bytes | None
    statistics: Files
    history: str
    failed: str | None
    scores: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Answer:
    """A trained bank: the results of its members in their order, and the environment that they were trained in.

    Args:
        made_by: the processor and the packages that computed them.
    """

    members: list[Trained]
    environment: dict[str, Any]
    made_by: str


def train_bank(job: Job, images: Images, reporter: Reporter | None = None, made: Made | None = None) -> Answer:
    """Train a bank and score its members.

    Args:
        made: the statistics that a bank of the same base has just made in this process; replaced by this bank's.

    Raises:
        UsageError: where the accelerator is not available.
        MachineError: where this machine has another version of the training code than the job.
        KeyboardInterrupt: on Ctrl-C.
    """
    if job.training_code != TRAINING_CODE:
        raise MachineError(
            f"training code {TRAINING_CODE} is installed where the bank is trained, and {job.training_code} where it "
            "is asked for",
            hint="install the same version of lora-mnist on all machines",
            value=TRAINING_CODE,
        )
    import safetensors.torch

    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.models.densities import ClassStatistics
    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.stages.records.loading import twin
    from lora_mnist_cli.training.bank.trainer import fit_bank
    from lora_mnist_cli.training.objective import ProtectionContext
    from lora_mnist_cli.training.protections import make_objective
    from lora_mnist_cli.training.starts import begin

    start, reporter = time.perf_counter(), reporter or Silent()
    configs = job.configs()
    work = costs.of_bank(configs, DigitSet.parse(job.base_digits))
    base = MNISTModel(job.hidden_sizes)
    base.load_state_dict(safetensors.torch.load(job.base))
    models = [twin(base, config) for config in configs]
    train = MNISTDataset.from_pixels(*images.train, job.pixel_stats)
    old = None if job.statistics is None else ClassStatistics.from_bytes(job.statistics)
    context = ProtectionContext(base, DigitSet.parse(job.base_digits), configs[0], train, job.pixel_stats, old)
    begin(models, configs, context)
    objective = make_objective(context)
    test = MNISTDataset.from_pixels(*images.test, job.pixel_stats)
    reporter.phase(TRAINING, work[TRAINING], "", configs[0].epochs * job.steps)
    outcomes = fit_bank(
        models, objective, configs, runtime=job.runtime, reporter=reporter, title=job.title, test=test
    )  # fmt: skip
    del objective, context  # for the memory
    present = [config for config, outcome in zip(configs, outcomes, strict=True) if not outcome.failed]
    made = {} if made is None else made
    statistics = _statistics(
        train, present if job.densities else [], old, job, made, reporter, work[STATISTICS]
    )  # fmt: skip
    del train
    # The cost of a member is its share of the bank's time.
    share = (time.perf_counter() - start) / len(configs)
    members = []
    for number, (model, config, outcome) in enumerate(zip(models, configs, outcomes, strict=True), start=1):
        reporter.phase(SCORING, work[SCORING] / len(configs), piece(number, len(configs)))
        members.append(_trained(job, model, config, outcome, statistics, test, share))
    return Answer(members, environment(job.runtime, trained=True), made_by())


def _trained(
    job: Job, model: MNISTModel, config: AdapterConfig, outcome: Outcome, statistics: Mapping[Split, Files],
    test: MNISTDataset, seconds: float,
) -> Trained:  # fmt: skip
    """Score a member and put its results into files."""
    from lora_mnist_cli.evaluation.logits import no_scores, predict, scores
    from lora_mnist_cli.evaluation.scores import digit_means, scores_of_digits
    from lora_mnist_cli.models.architecture import CLASSES
    from lora_mnist_cli.registry.checkpoint import adapter_bytes
    from lora_mnist_cli.training.trainer import history_csv

    start = time.perf_counter()
    assert config.digits is not None
    subsets = reporting_sets(DigitSet.parse(job.base_digits), config.digits, DigitSet.parse(job.known_digits))
    history = history_csv(outcome.history)
    if outcome.failed:
        reached = no_scores(test.labels, subsets)
        return Trained(None, {}, history, outcome.failed, reached, seconds + time.perf_counter() - start)
    weights = adapter_bytes(model)
    if outcome.test is None:
        reached = scores(predict(model, test.images), test.labels, subsets)
    else:
        counts = test.labels.bincount(minlength=CLASSES).tolist()
        reached = scores_of_digits(digit_means(counts, outcome.test.hits, outcome.test.losses), subsets)
    seconds += time.perf_counter() - start
    return Trained(weights, statistics.get(split_of(config), {}), history, None, reached, seconds)


def split_of(config: AdapterConfig) -> Split:
    """Return what picks the training images of an adapter."""
    return config.val_split, config.seed_of("split")


def _statistics(
    train: MNISTDataset,
    configs: Sequence[AdapterConfig],
    old: ClassStatistics | None,
    job: Job,
    made: Made,
    reporter: Reporter,
    work: float,
) -> dict[Split, Files]:
    """Return the statistics files of each training split among the adapters; most share one.

    The work of all of them is told to the reporter.
    Those of pixels are in the basis of the ``old`` ones that protect the adapters, so that a merged base can have both.
    """
    from lora_mnist_cli.data.dataset import split_rows
    from lora_mnist_cli.registry.checkpoint import fit_statistics

    files = dict(job.known)
    keys = {split_of(config): (str(config.digits), split_of(config), job.statistics) for config in configs}
    for number, (split, key) in enumerate(keys.items(), start=1):
        reporter.phase(STATISTICS, work / len(keys), piece(number, len(keys)))
        if key in made:
            files[split] = made[key]
        elif files.get(split, {}).keys() != DIMENSIONS.keys():
            rows, _ = split_rows(len(train), *split)
            files[split] = fit_statistics(*train[rows], like=old, known=files.get(split))
    made.clear()
    made.update({key: files[split] for split, key in keys.items()})
    return files
