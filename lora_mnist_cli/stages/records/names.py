"""Names and settings of artifacts, from what they are made of."""

from __future__ import annotations

from collections.abc import Sequence

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.grid import Axis, marks
from lora_mnist_cli.settings.recipes import recipe_of


def default_name(
    kind: str, dataset: str, digits: object, *, rank: int | None = None, marks: Sequence[str] = (), seed: int = 0
) -> str:
    """Return a name that says what is inside: ``base-0-4``, ``full-5-9``, ``lora-kmnist-5-9-r8-lr0.003-s3``.

    The data set is named where it is not MNIST and the seed where it is not 0, so that a sweep over seeds finds the
    artifact of a single run with the default seed.

    Args:
        kind: of the artifact; an adapter's method.
    """
    parts = [
        kind,
        dataset if dataset != "mnist" else "",
        str(digits),
        f"r{rank}" if rank else "",
        *marks,
        f"s{seed}" if seed else "",
    ]
    return "-".join(part for part in parts if part)


def adapter_name(base: Artifact, config: AdapterConfig, axes: Sequence[Axis] = ()) -> str:
    """Return an adapter's default name.

    Args:
        axes: what a sweep varies beside rank and seed.
    """
    recipe = recipe_of(config)
    differences = [*([recipe] if recipe else marks(config, axes)), *config.protect]
    name = default_name(
        config.method, base.dataset, config.digits, rank=config.rank, marks=differences, seed=config.seed
    )
    return name + varied(config)


def varied(config: AdapterConfig) -> str:
    """Return the end of a name where the seed varies one stream alone: ``-init``, or ``-init-h7`` where 7 is held."""
    held = f"-h{config.held_seed}" if config.held_seed else ""
    return "" if config.vary == "all" else f"-{config.vary}{held}"


def adapter_settings(base: Artifact, config: AdapterConfig) -> Settings:
    """Return the settings of an adapter: all that decides its weights. It learns from the data set of its base."""
    return Settings("adapter", config.to_json(), base.settings.dataset, (Parent("base", base.name, base.digest),))
