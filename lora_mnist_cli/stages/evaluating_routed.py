"""A base and adapters on it as experts behind a router: find, load and score them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast, get_args

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import ROUTES
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.settings.lists import some
from lora_mnist_cli.stages.evaluating import Evaluation
from lora_mnist_cli.stages.records.resolving import common_base, named_once
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError, refuse_unknown

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.models.router import Router


@dataclass(frozen=True)
class RoutedEvaluation(Evaluation):
    """The scores of experts behind a router; ``artifact`` is the last expert, ``base`` their base, ``alpha`` None.

    Args:
        by: one of :data:`lora_mnist_cli.settings.choices.ROUTES`.
        experts: a row per expert: ``artifact``, the ``digits`` it was trained on, how many images it is the likeliest
            expert for (``answered``) and their ``share`` of all; and ``right_expert``, the share of the images of its
            digits for which the likeliest expert was trained on the image's digit.
    """

    by: str
    experts: list[dict[str, Any]]


@dataclass(frozen=True)
class RoutedExperts:
    """Experts that belong together, loaded.

    Args:
        model: normalised images (n × 784) → log probabilities (n × 10).
        by: the one of :data:`lora_mnist_cli.settings.choices.ROUTES` by which they answer.
        pixel_stats: mean and standard deviation that images are normalised with.
    """

    artifacts: list[Artifact]
    base: Artifact
    model: Router
    by: str
    pixel_stats: tuple[float, float]

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities of the digits (n × 10) and of the experts (n × experts).

        Raises:
            ArtifactError: where one is no number, because an expert's logits, or densities, are not finite.
        """
        from lora_mnist_cli.evaluation.logits import predict_with
        from lora_mnist_cli.stages.records.loading import finite_logits

        logits, posterior = predict_with(self.model.answers, self.model, images)
        if bool(logits.isnan().any() or posterior.isnan().any()):
            for artifact, expert in zip(self.artifacts, self.model.experts, strict=True):
                finite_logits(expert, images, f"'{artifact.name}'")
            names = ", ".join(artifact.name for artifact in self.artifacts)
            raise ArtifactError(f"the statistics of {names} give densities that are no numbers", value=names)
        return logits, posterior


def find_experts(names: Sequence[str], workspace: Workspace, *, alone: bool = False) -> tuple[list[Artifact], Artifact]:
    """Return the experts of these names and their common base; a single adapter gets its base as the other expert.

    Args:
        names: of a base and adapters, in any order; with none, the newest adapter and its base.
        alone: whether a base may be the only expert.

    Raises:
        UsageError: where one is named twice, or a base alone that may not be.
        ArtifactError: where one is missing, or they are not all on the same base.
    """
    registry = workspace.registry
    experts = [registry.get(name, "adapter", "base") for name in names] or [workspace.latest("adapter")]
    named_once(expert.name for expert in experts)
    base = common_base(registry, experts, "experts are a base and adapters on it")
    if len(experts) == 1 and not (alone and experts[0].kind == "base"):
        if experts[0].kind == "base":
            problem = f"there is nothing to choose between for a router with '{experts[0].name}' alone"
            raise UsageError(problem, hint="name adapters on it as well", value=experts[0].name)
        workspace.reporter.notice(f"the experts are {base.name} and {experts[0].name}")
        experts = [base, *experts]
    return experts, base


@stage
def load_experts(
    names: Sequence[str] = (), *, by: str | None = None, workspace: Workspace | None = None
) -> RoutedExperts:
    """Load the experts of these names behind a router; see :func:`find_experts`.

    Args:
        by: one of :data:`lora_mnist_cli.settings.choices.ROUTES`; by default ``fused``, or ``mixture`` where an expert
            has no statistics of features, as older ones have not.

    Raises:
        UsageError, ArtifactError: as :func:`find_experts`; also where one has no statistics, or is damaged.
    """
    workspace = workspace or Workspace()
    if by is not None:
        refuse_unknown("way to route", by, list(ROUTES), "ways:")
    artifacts, base = find_experts(names, workspace, alone=by in ("fused", "densities"))

    from lora_mnist_cli.models.fused import FusedModel, Fusing
    from lora_mnist_cli.models.router import RoutedModel, Routing
    from lora_mnist_cli.registry.checkpoint import load_features, load_statistics
    from lora_mnist_cli.registry.file_names import FEATURES_FILE
    from lora_mnist_cli.stages.records.loading import load_model, merge_into_base

    if by is None:
        by = "fused"
        if lacking := [artifact.name for artifact in artifacts if FEATURES_FILE not in artifact.files]:
            by = "mixture"
            workspace.reporter.notice(f"routed by {by}: {some(lacking)} has no statistics of its digits' features")
    models = []
    for artifact in artifacts:
        loaded = load_model(workspace.registry, artifact)
        merge_into_base(loaded.model, f"'{artifact.name}'")
        models.append(loaded.model.eval())
    model: Router
    if by in get_args(Fusing):
        model = FusedModel(models, [load_features(artifact) for artifact in artifacts], cast(Fusing, by))
    else:
        model = RoutedModel(models, [load_statistics(artifact) for artifact in artifacts], cast(Routing, by))
    mean, std = base.details["pixel_stats"]
    return RoutedExperts(artifacts, base, model, by, (mean, std))


@stage
def evaluate_routed(
    names: Sequence[str] = (), *, by: str | None = None, digit_sets: Sequence[DigitSet | str] | None = None,
    workspace: Workspace | None = None,
) -> RoutedEvaluation:  # fmt: skip
    """Score experts behind a router on the test images of their data set.

    Args:
        names, by: as :func:`load_experts` takes them.
        digit_sets: the subsets to score; by default the base's digits, the remaining ones and all ten.

    Raises:
        UsageError, ArtifactError: as :func:`load_experts`.
        DataError: where the test images are not available.
    """
    workspace = workspace or Workspace()
    experts = load_experts(names, by=by, workspace=workspace)

    from lora_mnist_cli.evaluation.logits import scores

    test = workspace.test_images(experts.base, experts.pixel_stats)
    logits, posterior = experts.answers(test.images)
    labels, likeliest = test.labels.tolist(), experts.model.likeliest(posterior).tolist()
    learned = [DigitSet.parse(artifact.config["digits"]) for artifact in experts.artifacts]
    rows = []
    for number, (artifact, digits) in enumerate(zip(experts.artifacts, learned, strict=True)):
        answered = likeliest.count(number)
        right = [label in learned[expert] for label, expert in zip(labels, likeliest, strict=True) if label in digits]
        rows.append({
            "artifact": artifact.name, "digits": str(digits), "answered": answered,
            "share": answered / len(labels), "right_expert": sum(right) / len(right) if right else None,
        })  # fmt: skip
    given = [DigitSet.of(digits) for digits in digit_sets or ()]
    subsets = given or reporting_sets(BaseConfig.from_json(experts.base.config).digits, known=experts.base.known_digits)
    return RoutedEvaluation(
        experts.artifacts[-1], experts.base, None, scores(logits, test.labels, subsets), experts.by, rows
    )
