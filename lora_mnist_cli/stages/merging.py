"""Merging an adapter into its base: one plain network, published as a base with a certificate of the rounding."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_new_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.records.resolving import chosen_alpha
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.models.mlp import MNISTModel


@stage
def merge(
    name: str | None = None, *, alpha: float | None = None, digits: DigitSet | None = None, merged: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish an adapter merged into its base as a base, from which every stage can go on.

    Its details have a certificate under ``merged``: ``alpha``, ``base_digits``, ``adapter_digits``;
    ``weight_residual``, the largest difference of a weight in float32 from the sum in float64; ``logit_residual``, the
    largest difference of a logit from the unmerged model's on all test images, and ``largest_logit`` beside it; and
    ``predictions_changed``, how many of the ``images`` get another digit.

    Args:
        name: of the adapter; the newest by default.
        alpha: in place of the trained one.
        digits: that the merged model counts as having learned; by default the adapter's, as the base's may be
            forgotten, and those of the base as well if the adapter was protected, or started from what it knows.
        merged: the name of the new base; by default ``merged-`` and the adapter's.
        force: replace an artifact of that name with other settings.

    Returns:
        The base; the existing one where it is up to date.

    Raises:
        UsageError: where alpha is not finite.
        ArtifactError: where the adapter or its base is missing, damaged or doesn't fit, or the name has other settings.
        DataError: where the test images are not available.
    """
    workspace = workspace or Workspace()
    adapter = workspace.latest("adapter") if name is None else workspace.registry.get(name, "adapter")
    base = workspace.registry.parent(adapter)
    config, base_config = AdapterConfig.from_json(adapter.config), BaseConfig.from_json(base.config)
    multiplier = chosen_alpha(adapter, alpha)
    assert multiplier is not None
    suffix = "" if multiplier == config.alpha else f"-a{multiplier:g}"
    merged = check_new_name(merged or f"merged-{adapter.name}{suffix}")
    old_digits = base_config.digits if config.protect or config.needs_statistics else ()
    kept_digits = DigitSet([*old_digits, *DigitSet.parse(adapter.config["digits"])])
    merged_config = dataclasses.replace(base_config, digits=digits or kept_digits, merged_alpha=multiplier)
    parents = (Parent("base", base.name, base.digest), Parent("adapter", adapter.name, adapter.digest))
    settings = Settings("base", merged_config.to_json(), base.settings.dataset, parents)
    if merged_base := workspace.up_to_date(merged, settings, force):
        return merged_base
    with workspace.making(merged, settings, force=force) as making:
        from lora_mnist_cli.evaluation.logits import scores
        from lora_mnist_cli.registry.checkpoint import save_base
        from lora_mnist_cli.registry.shared_statistics import write_linked
        from lora_mnist_cli.stages.records.loading import load_model

        loaded = load_model(workspace.registry, adapter)
        test = workspace.test_images(adapter, loaded.pixel_stats)
        logits, residuals = _merge(loaded.model, multiplier, test.images, adapter.name)
        save_base(loaded.model, making.folder)
        # They describe the images that a network learned from, so a base has them for exactly those digits.
        for file, content in _statistics(base, adapter, merged_config.digits, kept_digits).items():
            write_linked(content, adapter.path / file, making.folder / file)
        digits_of = {"base_digits": base.config["digits"], "adapter_digits": adapter.config["digits"]}
        certificate = {"alpha": multiplier, **digits_of, **residuals}
        inherited = {key: base.details[key] for key in ("layers", "parameters", "pixel_stats") if key in base.details}
        reached = scores(logits, test.labels, reporting_sets(merged_config.digits, known=base.known_digits))
        return making.publish(scores=reached, details=inherited | {"merged": certificate})


def _merge(model: MNISTModel, alpha: float, images: Tensor, name: str) -> tuple[Tensor, dict[str, Any]]:
    """Merge a model's adapter into its layers; return the merged model's logits, and how far they are from before."""
    from lora_mnist_cli.models import lora
    from lora_mnist_cli.stages.records.loading import finite_logits, merge_into_base

    lora.set_alpha(model, alpha)
    whose = f"'{name}' merged at alpha {alpha:g}"
    before = finite_logits(model, images, whose)
    exact = _exact_weights(model)
    merge_into_base(model, whose)
    after = finite_logits(model, images, whose)
    state = {key: tensor.double() for key, tensor in model.state_dict().items()}
    return after, {
        "weight_residual": max(float((state[key] - weights).abs().max()) for key, weights in exact.items()),
        "logit_residual": float((after.double() - before.double()).abs().max()),
        "largest_logit": float(before.double().abs().max()),
        "predictions_changed": int((after.argmax(1) != before.argmax(1)).sum()),
        "images": len(images),
    }


def _statistics(base: Artifact, adapter: Artifact, digits: DigitSet, kept_digits: DigitSet) -> dict[str, bytes]:
    """Return the statistics files for the digits of a merged base: the adapter's, or that of base and adapter together.

    There is none where one of the two has no file, they are in different bases, or for digits that the network does
    not know. Those of features are always in different bases.
    """
    from lora_mnist_cli.registry.checkpoint import load_statistics, statistics_bytes
    from lora_mnist_cli.registry.file_names import DIMENSIONS, STATISTICS_FILE

    if digits == DigitSet.parse(adapter.config["digits"]):
        return {file: adapter.read(file) for file in DIMENSIONS if file in adapter.files}
    if digits != kept_digits or STATISTICS_FILE not in adapter.files or STATISTICS_FILE not in base.files:
        return {}
    old, new = load_statistics(base), load_statistics(adapter)
    return {STATISTICS_FILE: statistics_bytes(old.joined(new))} if old.shares_basis(new) else {}


def _exact_weights(model: MNISTModel) -> dict[str, Tensor]:
    """Return key → weight or bias of each adapted layer with its learned change, added up in float64."""
    import copy

    from lora_mnist_cli.models import lora

    exact = {}
    for name, layer in lora.adapted_layers(copy.deepcopy(model).double()).items():
        weight, bias = layer.change()
        exact[f"{name}.weight"] = (layer.base.weight + weight).detach()
        if bias is not None:
            exact[f"{name}.bias"] = (layer.base.bias + bias).detach()
    return exact
