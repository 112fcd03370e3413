"""The scores of a sweep's runs on any digit set, seed by seed, for gates and comparisons. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lora_mnist_cli.evaluation.intervals import ACCURACIES, CONFIDENCE
from lora_mnist_cli.evaluation.scores import subset_scores
from lora_mnist_cli.evaluation.seeds import best_rate, by_setting, is_figure, setting, spread
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.grid import in_words, short
from lora_mnist_cli.stages.records.histories import kept_digests, kept_member, validation_runs
from lora_mnist_cli.system.errors import ArtifactError

LR = "lr"


@dataclass(frozen=True)
class Sample:
    """The runs of one setting on one digit set.

    Args:
        setting: its rank, and whatever else a sweep varies beside the seed.
        scores: seed → count, accuracy and loss; a run that failed has None for both figures.
        rate: where the learning rate was tuned and is no part of the setting: ``lr``, its accuracy on ``validation``
            images, and whether it is at the ``edge`` of the rates that were tried.
    """

    setting: dict[str, Any]
    scores: dict[int, dict[str, Any]]
    rate: dict[str, Any] | None = None

    @property
    def setting_at_rate(self) -> dict[str, Any]:
        """The setting, with the learning rate if that was tuned."""
        return self.setting | ({} if self.rate is None else {"lr": self.rate["lr"]})

    @property
    def accuracies(self) -> dict[int, float]:
        """Seed → accuracy of each run that has a figure: an accuracy, of images, and with a loss that is finite."""
        return {seed: float(score["accuracy"]) for seed, score in self.scores.items() if has_figure(score)}

    @property
    def missing(self) -> list[int]:
        """Seeds of the runs that have none."""
        return [seed for seed, score in self.scores.items() if not has_figure(score)]

    @property
    def count(self) -> int:
        """Test images of the digit set."""
        return max((int(score["count"]) for score in self.scores.values()), default=0)

    def spread(self, confidence: float = CONFIDENCE) -> dict[str, Any]:
        """Return the :func:`lora_mnist_cli.evaluation.seeds.spread` of the accuracies."""
        accuracies = self.accuracies
        seeds = list(self.scores)
        return spread([accuracies.get(seed) for seed in seeds], seeds, possible=ACCURACIES, confidence=confidence)


def has_figure(score: Mapping[str, Any]) -> bool:
    """Return whether a score is an accuracy, of images, with a finite loss; an imported manifest may hold others."""
    accuracy = score["accuracy"]
    return score["count"] > 0 and is_figure(accuracy) and 0 <= accuracy <= 1 and is_figure(score["loss"])


def samples(registry: Registry, sweep: Artifact, digits: DigitSet) -> list[Sample]:
    """Return a sample per setting of a sweep, in its table's order.

    Raises:
        ArtifactError: where the sweep has no scores on the digit set, and an adapter that has them is gone.
    """
    result, digests = [], kept_digests(sweep)
    for of_setting, rows in by_setting(sweep.details["results"]):
        scores = {}
        for row in rows:
            in_table = [score for score in row["subsets"] if score["digits"] == str(digits)]
            name = row["artifact"]
            scores[row["seed"]] = in_table[0] if in_table else _of_member(registry, sweep, name, digits, digests)
        result.append(Sample(of_setting, scores))
    return result


def tuned(registry: Registry, sweep: Artifact, digits: DigitSet) -> list[Sample]:
    """Return the samples of a sweep, each setting at the learning rate that did best on its validation images.

    A sweep at one learning rate has nothing to choose, and its samples are those of :func:`samples`.

    Raises:
        ArtifactError: as :func:`samples`, and where validation figures are gone or were never there, or at no rate all
            seeds of a setting ended well.
    """
    all_rates = samples(registry, sweep, digits)
    if LR not in all_rates[0].setting:
        return all_rates
    result = []
    # Each row is looked at once: a grid may have thousands, and hundreds of settings.
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in sweep.details["results"]:
        rows.setdefault(repr(_without_rate(setting(row))), []).append(row)
    by_rate: dict[str, list[Sample]] = {}
    for sample in all_rates:
        by_rate.setdefault(repr(_without_rate(sample.setting)), []).append(sample)
    for of_setting in rows.values():
        without_rate = _without_rate(setting(of_setting[0]))
        best = best_rate(validation_runs(registry, sweep, of_setting))
        if best is None:
            problem = f"at no learning rate did all runs of {described(without_rate) or sweep.name} end well"
            raise ArtifactError(problem, hint="sweep lower --lrs", value=sweep.name)
        (at_best,) = (sample for sample in by_rate[repr(without_rate)] if sample.setting[LR] == best["lr"])
        rate = {LR: best["lr"], "validation": best["accuracy"], "edge": best["edge"]}
        result.append(Sample(without_rate, at_best.scores, rate))
    return result


def best_setting(registry: Registry, sweep: Artifact) -> dict[str, Any] | None:
    """Return the setting of a sweep with the highest mean accuracy on validation images; None where none has one.

    A setting of which a run diverged is never the best. Test images choose nothing.

    Returns:
        The setting as it is ``described``, its ``validation`` accuracy over ``n`` seeds, and the spread ``accuracy`` on
        the test images of the ``digits`` that were learned.

    Raises:
        ArtifactError: as :func:`~lora_mnist_cli.stages.records.histories.validation_runs`.
    """
    digits = DigitSet.parse(sweep.config["digits"])
    best: dict[str, Any] | None = None
    grouped = by_setting(sweep.details["results"])
    for sample, (_, rows) in zip(samples(registry, sweep, digits), grouped, strict=True):
        if any(row["failed"] is not None for row in rows):
            continue
        found = [run["accuracy"] for run in validation_runs(registry, sweep, rows)]
        mean = None if None in found else math.fsum(found) / len(found)
        if mean is not None and (best is None or mean > best["validation"]):
            named = {"described": described(sample.setting), "digits": str(digits), "n": len(rows)}
            best = named | {"validation": mean, "accuracy": sample.spread()}
    return best


def _without_rate(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != LR}


def single(artifact: Artifact, digits: DigitSet) -> Sample:
    """Return the sample of one base or adapter, from the scores that it was published with."""
    (score,) = subset_scores(artifact.scores["per_digit"], [digits])
    rank = {"rank": artifact.config["rank"]} if artifact.kind == "adapter" else {}
    return Sample(rank, {artifact.config["seed"]: score})


def described(setting: Mapping[str, Any]) -> str:
    """Return a setting in words: ``rank 8``, or ``rank 8, lr 0.001``; without a rank where the method has none."""
    return ", ".join(f"{in_words(key)} {short(value)}" for key, value in setting.items() if value or key != "rank")


def named_without_rank(setting: Mapping[str, Any]) -> str:
    """Return a setting without its rank in words: a method by its name alone, ``dora``; others as ``lr 0.001``."""
    return described({key: value for key, value in setting.items() if key != "rank"}).removeprefix("method ")


def _of_member(
    registry: Registry, sweep: Artifact, name: str, digits: DigitSet, digests: Mapping[str, str]
) -> dict[str, Any]:
    member = kept_member(registry, sweep, name, digests)
    if member is None:
        in_table = ", ".join(score["digits"] for score in sweep.details["results"][0]["subsets"])
        problem = f"'{sweep.name}' has no scores on digits {digits}, and its adapter '{name}' is gone"
        hint = f"it has {in_table} itself; running the sweep again makes the adapter again"
        raise ArtifactError(problem, hint=hint, value=name)
    (score,) = subset_scores(member.scores["per_digit"], [digits])
    return score
