"""The base that adapters are for, and what an adapter's config takes from it."""

from __future__ import annotations

import dataclasses

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import DATASETS, METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError, nearest, refuse_unknown


def find_base(workspace: Workspace, name: str | None, dataset: str | None) -> Artifact:
    """Return the base of that name, or the newest of the data set.

    Raises:
        UsageError: where there is no such data set.
        ArtifactError: where there is no such base, or it is of another data set.
    """
    if dataset is not None:
        refuse_unknown("data set", dataset, DATASETS, "data sets:")
    base = workspace.latest("base", dataset=dataset) if name is None else workspace.registry.get(name, "base")
    if dataset not in (None, base.dataset):
        raise ArtifactError(
            f"the base '{base.name}' was trained on {base.dataset}, not on {dataset}",
            hint=f"lora-mnist train-base --dataset {dataset}",
            value=base.name,
        )
    return base


def resolve(config: AdapterConfig, base: Artifact) -> AdapterConfig:
    """Return the config with what depends on the base filled in: the digits to learn, and the names of its layers.

    Raises:
        UsageError: where there are no digits left to learn or to protect, or a layer is none of the base's.
    """
    base_digits = BaseConfig.from_json(base.config).digits
    digits = config.digits or base_digits.complement()
    if digits is None:
        raise UsageError(f"the base '{base.name}' knows all ten digits", hint="say which to learn: --digits 5-9")
    if config.protect and all(digit in digits for digit in base_digits):
        raise UsageError(
            f"the base '{base.name}' knows no other digits than {digits}, so there is none to protect",
            hint="leave --protect out, or learn other --digits",
            value=str(digits),
        )
    return dataclasses.replace(config, digits=digits, target_layers=_target_layers(config, base))


def _target_layers(config: AdapterConfig, base: Artifact) -> tuple[str, ...]:
    """Return the layers that get an adapter, in the base's order, so that fc3,fc1 and fc1,fc3 are the same settings."""
    layers = list(base.details["layers"])
    for layer in config.target_layers or ():
        if layer not in layers:
            hint = nearest(layer, layers) or f"layers: {', '.join(layers)}"
            raise UsageError(f"the base '{base.name}' has no layer '{layer}'", hint=hint, value=layer)
    if METHODS[config.method].last_layer_only:
        if config.target_layers not in (None, (layers[-1],)):
            raise UsageError(
                f"{config.method} trains the last layer, {layers[-1]}, not {', '.join(config.target_layers or ())}",
                hint="leave --target-layers out, or train these layers with --method full",
                value=config.target_layers,
            )
        layers = layers[-1:]
    return tuple(layer for layer in layers if config.target_layers is None or layer in config.target_layers)
