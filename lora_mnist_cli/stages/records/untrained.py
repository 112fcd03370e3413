"""An adapter that was not trained here is scored and published like one that was."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.methods import trainable_parameters
from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.workspace import Workspace, environment
from lora_mnist_cli.system.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor


def publish_untrained(
    workspace: Workspace, base: Artifact, config: AdapterConfig, settings: Settings, tensors: Mapping[str, Tensor],
    folder: Path, *, source: str, start: float, also: Sequence[DigitSet] = (), details: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish an adapter, given by its tensors, from a staging folder.

    Args:
        tensors: as a file of weights has them.
        source: what it is made of, in words.
        start: when its making began, by :func:`time.perf_counter`.
        also: digit sets that it is scored on beside the usual ones.
        details: beside the usual ones.

    Raises:
        ArtifactError: where tensors don't fit, logits are not finite, or the base is damaged.
        DataError: where the test images can't be had.
        MachineError: where it can't be written.
    """
    from lora_mnist_cli.evaluation.logits import predict, scores
    from lora_mnist_cli.models.adapted_linear import load_adapter_tensors
    from lora_mnist_cli.registry.checkpoint import save_adapter
    from lora_mnist_cli.stages.records.loading import attach_adapters, load_model

    assert config.digits is not None
    loaded = load_model(workspace.registry, base)
    attach_adapters(loaded.model, config, start=False)
    load_adapter_tensors(loaded.model, tensors)
    test = workspace.test_images(base, loaded.pixel_stats)
    logits = predict(loaded.model, test.images)
    if not bool(logits.isfinite().all()):
        raise ArtifactError(f"{source} has logits on '{base.name}' that are not finite", value=source)
    save_adapter(loaded.model, config, folder)
    layers = {layer: base.details["layers"][layer] for layer in config.target_layers or ()}
    reported = reporting_sets(loaded.base_config.digits, config.digits)
    reported += [each for each in dict.fromkeys(also) if each not in reported]
    return workspace.registry.publish(
        folder,
        settings,
        scores=scores(logits, test.labels, reported),
        details={
            "base_digits": base.config["digits"],
            "trainable_parameters": trainable_parameters(config, layers),
            **(details or {}),
        },
        environment=environment(workspace.runtime),
        wall_seconds=time.perf_counter() - start,
        force=force,
    )
