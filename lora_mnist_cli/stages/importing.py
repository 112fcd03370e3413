"""An adapter that was trained elsewhere becomes an artifact on the base that it was trained on."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from lora_mnist_cli.artifact import Artifact, check_name
from lora_mnist_cli.digits import DigitSet, reporting_sets
from lora_mnist_cli.errors import ArtifactError
from lora_mnist_cli.methods import trainable_parameters
from lora_mnist_cli.stages.adapt import resolve
from lora_mnist_cli.stages.banking import adapter_name, adapter_settings
from lora_mnist_cli.stages.workspace import Workspace, environment


def import_adapter(
    folder: Path | str, *, base: str, digits: DigitSet | None = None, name: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish an adapter of PEFT's as an adapter of a base, scored on the test images like any other.

    Its settings are what its description says (method, rank, alpha, scaling, dropout, layers), and under ``imported``
    the SHA-256 of its file of weights: so its fingerprint follows its content. It has no training history.

    Args:
        folder: what ``save_pretrained`` of PEFT wrote: ``adapter_config.json`` and ``adapter_model.safetensors``.
        base: that it was trained on; the folder does not tell, and on another one it is another model.
        digits: that it learned; by default those that the base did not.
        name: by default ``imported-`` and what an adapter that was trained here is called, as ``imported-lora-5-9-r8``.
        force: replace an artifact of that name with other settings.

    Returns:
        The adapter; the present one where it is up to date.

    Raises:
        UsageError: where the base knows all digits and none are given.
        ArtifactError: where the folder is refused (:func:`~lora_mnist_cli.peft_folder.read_peft_folder`), its logits
            are not finite, the base is missing or damaged, or the name has other settings.
        DataError: where the test images can't be had.
        MachineError: where the artifact can't be written.
    """
    workspace = workspace or Workspace()
    if name is not None:
        check_name(name)
    parent = workspace.registry.get(base, "base")
    from lora_mnist_cli.peft_folder import read_peft_folder

    found = read_peft_folder(Path(folder), parent)
    config = resolve(dataclasses.replace(found.config, digits=digits), parent)
    assert config.digits is not None
    name = name or f"imported-{adapter_name(parent, config)}"
    settings = adapter_settings(parent, config)
    if there := workspace.up_to_date(name, settings, force):
        return there
    with workspace.registry.staging(name, settings.parents) as staged:
        start = time.perf_counter()
        import safetensors.torch

        from lora_mnist_cli.checkpoint import save_adapter
        from lora_mnist_cli.evaluation import predict, scores
        from lora_mnist_cli.method_layers import load_adapter_tensors
        from lora_mnist_cli.stages.models import attach_adapters, load_model

        loaded = load_model(workspace.registry, parent)
        attach_adapters(loaded.model, config, start=False)
        load_adapter_tensors(loaded.model, safetensors.torch.load(found.weights))
        test = workspace.test_images(parent, loaded.pixel_stats)
        logits = predict(loaded.model, test.images)
        if not bool(logits.isfinite().all()):
            raise ArtifactError(f"{folder} has logits on '{parent.name}' that are not finite", value=str(folder))
        save_adapter(loaded.model, config, staged)
        layers = {layer: parent.details["layers"][layer] for layer in config.target_layers or ()}
        return workspace.registry.publish(
            staged,
            settings,
            scores=scores(logits, test.labels, reporting_sets(loaded.base_config.digits, config.digits)),
            details={
                "trainable_parameters": trainable_parameters(config, layers),
                "base_digits": parent.config["digits"],
            },
            environment=environment(workspace.runtime),
            wall_seconds=time.perf_counter() - start,
            force=force,
        )
