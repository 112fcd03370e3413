"""Scoring a base, or an adapter at any alpha, on the test images; and gates on the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_mnist_cli.data.sources import read_ahead
from lora_mnist_cli.evaluation.scores import subset_scores
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.costs import READING, SCORING_ONE
from lora_mnist_cli.stages.records.resolving import choose_model, chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import plain, stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError
from lora_mnist_cli.system.work import IMAGES, SCORING, piece


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model at one alpha.

    Args:
        alpha: the multiplier in force; None for a base.
        scores: ``subsets`` and ``per_digit``, each row with count, accuracy and loss.
        reason: why there is no loss where logits are not finite: the layer whose numbers are too large.
    """

    artifact: Artifact
    base: Artifact
    alpha: float | None
    scores: dict[str, Any]
    reason: str | None = field(default=None, kw_only=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores as plain rows, one per digit set, for a data frame."""
        return [{"artifact": self.artifact.name, "alpha": self.alpha, **row} for row in self.scores["subsets"]]


@dataclass(frozen=True)
class Gate:
    """A digit set and the accuracy (0 to 1) that it must reach."""

    digits: DigitSet
    minimum: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "minimum", plain(self.minimum))


@stage
def evaluate(
    name: str | None = None, *, alphas: Sequence[float] | None = None,
    digit_sets: Sequence[DigitSet | str] | None = None, workspace: Workspace | None = None,
) -> list[Evaluation]:  # fmt: skip
    """Score an artifact's model on the test images of its data set.

    Args:
        name: an adapter or a base; the newest adapter by default, or the newest base where there is no adapter.
        alphas: put in the trained alpha's place one after the other; the trained one by default.
        digit_sets: the subsets to score, also as texts (``"0-4"``); by default the base's digits, the remaining ones
            and all ten.

    Returns:
        An evaluation for each alpha, in their order.

    Raises:
        UsageError: where alphas are given for a base, or are not finite.
        ArtifactError: where the artifact or its base is missing, damaged or doesn't fit.
        DataError: where the test images are not available.
    """
    workspace = workspace or Workspace()
    given = [DigitSet.of(digits) for digits in digit_sets or ()]
    artifact = choose_model(workspace, name, alphas or ())
    multipliers = [chosen_alpha(artifact, alpha) for alpha in alphas or (None,)]
    read_ahead(artifact.dataset, workspace.data_dir, "test")

    from lora_mnist_cli.evaluation.logits import overflowing_layer, predict, scores
    from lora_mnist_cli.models.lora import has_no_effect, set_alpha
    from lora_mnist_cli.stages.records.loading import load_model

    reporter = workspace.reporter
    reporter.phase(IMAGES, READING)
    loaded = load_model(workspace.registry, artifact)
    test = workspace.test_images(artifact, loaded.pixel_stats)
    learned = DigitSet.parse(artifact.config["digits"])
    subsets = given or reporting_sets(loaded.base_config.digits, learned, artifact.known_digits)
    if artifact.kind == "adapter" and has_no_effect(loaded.model):
        reporter.warn(f"'{artifact.name}' changes nothing: its product B A is zero on all its layers")
    evaluations = []
    for number, alpha in enumerate(multipliers, start=1):
        reporter.phase(SCORING, SCORING_ONE, piece(number, len(multipliers)))
        if alpha is not None:
            set_alpha(loaded.model, alpha)
        logits = predict(loaded.model, test.images)
        reason = None
        if not bool(logits.isfinite().all()):
            layer = overflowing_layer(loaded.model, test.images)
            reason = f"logits are not finite: the numbers in {layer} are too large"
        reached = scores(logits, test.labels, subsets)
        evaluations.append(Evaluation(artifact, loaded.base, alpha, reached, reason=reason))
    return evaluations


def all_finite(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """Return the evaluations, unless the logits of one are not finite.

    Raises:
        ArtifactError: then; it names the layer.
    """
    for evaluation in evaluations:
        if evaluation.reason:
            problem = f"'{evaluation.artifact.name}'{at_alpha(evaluation.alpha)}: {evaluation.reason}"
            raise ArtifactError(problem, value=evaluation.alpha)
    return evaluations


def at_alpha(alpha: float | None) -> str:
    """Return `` at alpha 0.5``, or nothing without an alpha."""
    return "" if alpha is None else f" at alpha {alpha:g}"


def parse_gates(text: str, option: str = "--min-accuracy") -> list[Gate]:
    """Parse gates as a user writes them: ``0-4=0.98,5,7-9=95%``; a comma before the ``=`` belongs to the digit set.

    Raises:
        UsageError: for anything else, or a minimum outside 0 to 1, which is 0% to 100%.
    """
    gates, digits = [], ""
    hint = f"write {option} 0-4=0.98,5-9=0.95, or 0-4=98%,5-9=95%"
    for part in text.split(","):
        left, equals, right = part.partition("=")
        if not left.strip():
            raise UsageError(f"'{text}' has an empty part", hint=hint, value=text)
        digits = f"{digits},{left}" if digits else left
        if not equals:
            continue
        gates.append(Gate(DigitSet.parse(digits), _accuracy(right.strip(), text, hint)))
        digits = ""
    if digits or not gates:
        raise UsageError(f"'{digits or text}' has no minimum", hint=hint, value=text)
    return gates


def _accuracy(word: str, text: str, hint: str) -> float:
    """Read an accuracy of a gate: ``0.95`` or ``95%``, which are the same number."""
    # As a decimal exponent, 95.7% is exactly what 0.957 is; a division may be a bit off.
    number = f"{word[:-1].rstrip()}e-2" if word.endswith("%") else word
    try:
        accuracy = float(number)
    except ValueError:
        raise UsageError(f"'{word}' in '{text}' is no accuracy", hint=hint, value=text) from None
    if 1 < accuracy <= 100 and number == word:
        problem = f"'{word}' in '{text}' is no fraction from 0 to 1, and has no per cent sign"
        raise UsageError(problem, hint=f"write {word}%, or {accuracy / 100:g}", value=text)
    if not 0 <= accuracy <= 1:
        raise UsageError(f"an accuracy is from 0 to 1, or from 0% to 100%, not {word}", hint=hint, value=text)
    return accuracy


def check_gates(gates: Sequence[Gate], evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return each gate with the accuracy reached and whether it passed; without images or a finite loss it fails."""
    rows = []
    for gate in gates:
        (score,) = subset_scores(evaluation.scores["per_digit"], [gate.digits])
        has_figure = score["accuracy"] is not None and score["loss"] is not None
        passed = has_figure and score["accuracy"] >= gate.minimum
        rows.append({**score, "minimum": gate.minimum, "alpha": evaluation.alpha, "passed": passed})
    return rows
