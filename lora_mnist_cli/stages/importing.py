"""Importing an adapter that was trained elsewhere, as an artifact on the base that it was trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lora_mnist_cli.registry.artifact import Artifact, check_new_name
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records.publishing import publish_untrained
from lora_mnist_cli.stages.records.resolving import adapter_name, adapter_settings, resolve
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage


@stage
def import_adapter(
    folder: Path | str, *, base: str, digits: DigitSet | None = None, name: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish a PEFT adapter as an adapter of a base, scored on the test images like any other.

    Its settings are those of its PEFT config (method, rank, alpha, scaling, dropout, layers), and under ``imported``
    the SHA-256 of its file of weights, so that its fingerprint follows its content. It has no training history.

    Args:
        folder: written by ``save_pretrained`` of PEFT: ``adapter_config.json`` and ``adapter_model.safetensors``.
        base: that it was trained on. The folder does not say, and on another base it is another model.
        digits: that it learned; by default those that the base did not.
        name: by default ``imported-`` and the name of such an adapter trained here, as ``imported-lora-5-9-r8``.
        force: replace an artifact of that name with other settings.

    Returns:
        The adapter; the existing one where it is up to date.

    Raises:
        UsageError: where the base knows all digits and none are given.
        ArtifactError: where the folder is refused (``registry.peft_folder.read_peft_folder``), its logits
            are not finite, the base is missing or damaged, or the name has other settings.
        DataError: where the test images are not available.
        MachineError: where the artifact can't be written.
    """
    workspace = workspace or Workspace()
    if name is not None:
        check_new_name(name)
    parent = workspace.registry.get(base, "base")
    from lora_mnist_cli.registry.peft_folder import read_peft_folder

    peft = read_peft_folder(Path(folder), parent)
    if peft.widened:
        workspace.reporter.notice(f"{folder} has weights in half precision: they are kept as float32, without any loss")
    config = resolve(dataclasses.replace(peft.config, digits=digits), parent)
    name = name or f"imported-{adapter_name(parent, config)}"
    settings = adapter_settings(parent, config)
    if adapter := workspace.up_to_date(name, settings, force):
        return adapter
    with workspace.making(name, settings, force=force) as making:
        import safetensors.torch

        return publish_untrained(making, parent, config, safetensors.torch.load(peft.weights), origin=str(folder))
