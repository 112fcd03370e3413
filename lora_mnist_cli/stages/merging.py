"""An adapter and its base become one plain network, published as a base with a certificate of what that changed."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.workspace import Workspace, environment
from lora_mnist_cli.system.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.models.mlp import MNISTModel


def merge(
    name: str | None = None, *, alpha: float | None = None, digits: DigitSet | None = None, merged: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish an adapter merged into its base as a base, from which every stage can go on.

    Its digits are those that the adapter learned, because what the base knew before may be forgotten. Its details have
    under ``merged`` a certificate: ``alpha``, ``base_digits``, ``adapter_digits``; ``weight_residual``, the largest
    difference of a weight in float32 from the sum in float64; ``logit_residual``, the largest difference of a logit
    from the unmerged model's on all test images, and ``largest_logit`` beside it; and ``predictions_changed`` of so
    many ``images``.

    Args:
        name: of the adapter; the newest by default.
        alpha: in the trained one's place.
        digits: what the merged model is to pass for, by default what the adapter learned; of an adapter that was
            protected, what its base learned as well.
        merged: the name of the base that is made; by default ``merged-`` and the adapter's.
        force: replace an artifact of that name with other settings.

    Returns:
        The base; the present one where it is up to date.

    Raises:
        UsageError: where alpha is not finite.
        ArtifactError: where the adapter or its base is missing, damaged or doesn't fit, or the name has other settings.
        DataError: where the test images can't be had.
    """
    workspace = workspace or Workspace()
    adapter = workspace.latest("adapter") if name is None else workspace.registry.get(name, "adapter")
    base = workspace.registry.parent(adapter)
    config = AdapterConfig.from_json(adapter.config)
    chosen = config.alpha if alpha is None else alpha
    if not math.isfinite(chosen):
        raise UsageError(f"alpha is a finite number, not {chosen}", value=chosen)
    merged = check_name(merged or f"merged-{adapter.name}" + ("" if chosen == config.alpha else f"-a{chosen:g}"))
    of_base = BaseConfig.from_json(base.config)
    own = DigitSet.parse(adapter.config["digits"])
    known = DigitSet([*of_base.digits, *own]) if config.protect else own
    learned = digits or known
    settings = Settings(
        "base",
        dataclasses.replace(of_base, digits=learned, merged_alpha=float(chosen)).to_json(),
        base.settings.dataset,
        (Parent("base", base.name, base.digest), Parent("adapter", adapter.name, adapter.digest)),
    )
    if found := workspace.up_to_date(merged, settings, force):
        return found
    with workspace.registry.staging(merged, settings.parents) as folder:
        start = time.perf_counter()
        from lora_mnist_cli.evaluation.logits import predict, scores
        from lora_mnist_cli.models import lora
        from lora_mnist_cli.registry.checkpoint import save_base
        from lora_mnist_cli.registry.weights import STATISTICS_FILE, write_statistics
        from lora_mnist_cli.stages.records.loading import load_model

        loaded = load_model(workspace.registry, adapter)
        lora.set_alpha(loaded.model, chosen)
        test = workspace.test_images(adapter, loaded.pixel_stats)
        before = predict(loaded.model, test.images)
        exact = _sums(loaded.model)
        lora.merge(loaded.model)
        lora.detach(loaded.model)
        after = predict(loaded.model, test.images)
        if not bool(after.isfinite().all()):
            raise ArtifactError(
                f"'{adapter.name}' merged at alpha {chosen:g} has logits that are not finite", value=chosen
            )
        state = {key: tensor.double() for key, tensor in loaded.model.state_dict().items()}
        residual = max(float((state[key] - sum_).abs().max()) for key, sum_ in exact.items())
        certificate: dict[str, Any] = {
            "alpha": float(chosen),
            "base_digits": base.config["digits"],
            "adapter_digits": adapter.config["digits"],
            "weight_residual": residual,
            "logit_residual": float((after.double() - before.double()).abs().max()),
            "largest_logit": float(before.double().abs().max()),
            "predictions_changed": int((after.argmax(1) != before.argmax(1)).sum()),
            "images": len(test.labels),
        }
        save_base(loaded.model, folder)
        # They are of the images that the adapter learned from, so only a base that passes for those digits has them.
        if STATISTICS_FILE in adapter.files and learned == own:
            write_statistics(adapter.read(STATISTICS_FILE), folder)
        elif learned == known and (joined := _joined_statistics(base, adapter)) is not None:
            write_statistics(joined, folder)
        return workspace.registry.publish(
            folder,
            settings,
            scores=scores(after, test.labels, reporting_sets(learned)),
            details={key: base.details[key] for key in ("layers", "parameters", "pixel_stats") if key in base.details}
            | {"merged": certificate},
            environment=environment(workspace.runtime),
            wall_seconds=time.perf_counter() - start,
            force=force,
        )


def _joined_statistics(base: Artifact, adapter: Artifact) -> bytes | None:
    """The file of what both remember of their digits; None where one remembers nothing, or in another basis."""
    from lora_mnist_cli.registry.checkpoint import load_statistics, statistics_bytes
    from lora_mnist_cli.registry.weights import STATISTICS_FILE

    if STATISTICS_FILE not in base.files or STATISTICS_FILE not in adapter.files:
        return None
    old, new = load_statistics(base), load_statistics(adapter)
    return statistics_bytes(old.joined(new)) if old.shares_basis(new) else None


def _sums(model: MNISTModel) -> dict[str, Tensor]:
    """Key → what each adapted layer's weight and bias are with what was learned, added up in float64."""
    import copy

    from lora_mnist_cli.models import lora

    exact = {}
    for name, layer in lora.adapted_layers(copy.deepcopy(model).double()).items():
        weight, bias = layer.change()
        exact[f"{name}.weight"] = (layer.base.weight + weight).detach()
        if bias is not None:
            exact[f"{name}.bias"] = (layer.base.bias + bias).detach()
    return exact
