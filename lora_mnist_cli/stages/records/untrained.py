"""Scoring and publishing an adapter that was not trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.workspace import Making
from lora_mnist_cli.system.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor


def publish_untrained(
    making: Making, base: Artifact, config: AdapterConfig, tensors: Mapping[str, Tensor], *, origin: str,
    extra_digit_sets: Sequence[DigitSet] = (), details: Mapping[str, Any] | None = None,
) -> Artifact:  # fmt: skip
    """Score and publish an adapter that is given by its tensors.

    Args:
        tensors: by the keys of a file of weights.
        origin: in words, for messages.
        extra_digit_sets: that it is scored on beside the usual ones.
        details: beside the usual ones.

    Raises:
        ArtifactError: where tensors don't fit, logits are not finite, or the base is damaged.
        DataError: where the test images are not available.
        MachineError: where it can't be written.
    """
    from lora_mnist_cli.evaluation.logits import predict, scores
    from lora_mnist_cli.models.adapted_linear import load_adapter_tensors
    from lora_mnist_cli.registry.checkpoint import save_adapter
    from lora_mnist_cli.stages.records.loading import attach_adapters, load_model

    assert config.digits is not None
    loaded = load_model(making.workspace.registry, base)
    attach_adapters(loaded.model, config, start=False)
    load_adapter_tensors(loaded.model, tensors)
    test = making.workspace.test_images(base, loaded.pixel_stats)
    logits = predict(loaded.model, test.images)
    if not bool(logits.isfinite().all()):
        raise ArtifactError(f"{origin} has logits on '{base.name}' that are not finite", value=origin)
    save_adapter(loaded.model, config, making.folder)
    layers = {layer: base.details["layers"][layer] for layer in config.target_layers or ()}
    reported = reporting_sets(loaded.base_config.digits, config.digits)
    reported += [digits for digits in dict.fromkeys(extra_digit_sets) if digits not in reported]
    usual = {"base_digits": base.config["digits"], "trainable_parameters": trainable_parameters(config, layers)}
    return making.publish(scores=scores(logits, test.labels, reported), details=usual | dict(details or {}))
