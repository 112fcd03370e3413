"""Resolving what a user asks for: models, bases and alphas, and a new adapter's digits, layers, name and settings."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.checks import LARGEST
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.grid import marks
from lora_mnist_cli.settings.own_data import digits_in, halves
from lora_mnist_cli.stages.records.datasets import named_dataset
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError, nearest


def choose_model(workspace: Workspace, name: str | None, alphas: Sequence[float] = ()) -> Artifact:
    """Return the adapter or base of that name; without one the newest adapter, or the newest base if there is none.

    Args:
        alphas: that the model is to have. Only an adapter can have one, so with them no base is taken by default.

    Raises:
        UsageError: where an alpha is not finite.
        ArtifactError: where there is no such artifact.
    """
    for alpha in alphas:
        finite(alpha)
    if name is not None:
        return workspace.registry.get(name, "adapter", "base")
    return workspace.latest("adapter") if alphas else workspace.latest("adapter", "base")


def chosen_alpha(artifact: Artifact, alpha: float | None) -> float | None:
    """Return the alpha that an adapter is to have, by default the trained one; None for a base.

    Raises:
        UsageError: where it is not finite, or given for a base.
    """
    if artifact.kind == "base":
        if alpha is not None:
            raise UsageError(f"'{artifact.name}' is a base and has no alpha", hint="name an adapter", value=alpha)
        return None
    return finite(artifact.config["alpha"] if alpha is None else alpha)


def finite(alpha: float) -> float:
    """Return an alpha as a number; refuse one that is not finite."""
    with suppress(TypeError, OverflowError):  # what is no number, or too large for one
        if math.isfinite(alpha):
            return float(alpha)
    raise UsageError(f"alpha is a finite number, not {alpha!r:.40}", value=alpha)


def named_once(names: Iterable[str], hint: str = "") -> None:
    """Refuse a name that a user gives twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"'{name}' is named twice", hint=hint, value=name)
        seen.add(name)


def common_base(registry: Registry, artifacts: Sequence[Artifact], why: str) -> Artifact:
    """Return the base that all artifacts are on, or are themselves.

    Raises:
        ArtifactError: where one is on another base; it says ``why`` that can't be.
    """
    bases = [artifact if artifact.kind == "base" else registry.parent(artifact) for artifact in artifacts]
    for artifact, base in zip(artifacts, bases, strict=True):
        if base.digest != bases[0].digest:
            raise ArtifactError(
                f"'{artifact.name}' is not on the base of '{artifacts[0].name}': {why}, and '{base.name}' is not "
                f"'{bases[0].name}'",
                hint=f"lora-mnist runs list --base {bases[0].name} shows what is made from it",
                value=artifact.name,
            )
    return bases[0]


def find_base(workspace: Workspace, name: str | None, dataset: str | Path | None) -> Artifact:
    """Return the base of that name, or the newest of the data set.

    Raises:
        UsageError: where there is no such data set.
        ArtifactError: where there is no such base, or it is of another data set.
        DataError: where a user's own data set can't be read.
    """
    if dataset is not None:
        dataset = named_dataset(workspace, dataset)
    base = workspace.latest("base", dataset=dataset) if name is None else workspace.registry.get(name, "base")
    if dataset not in (None, base.dataset):
        problem = f"the base '{base.name}' was trained on {base.dataset}, not on {dataset}"
        raise ArtifactError(problem, hint=f"lora-mnist train-base --dataset {dataset}", value=base.name)
    return base


def resolve(config: AdapterConfig, base: Artifact) -> AdapterConfig:
    """Return the config with what depends on the base filled in: the digits to learn, and the names of its layers.

    Raises:
        UsageError: where there are no digits left to learn or to protect, a layer is none of the base's, one can't
            have the rank, or the numbers of the training don't hold the alpha.
    """
    base_digits = DigitSet.parse(base.config["digits"])  # a grid asks once per adapter
    known = base.known_digits
    digits = config.digits or known.without(base_digits)
    if digits is None:
        every = "all ten digits" if known == ALL_DIGITS else f"all classes of {base.dataset}"
        hint = f"say which to learn: --digits {halves(known)[1]}"
        raise UsageError(f"the base '{base.name}' knows {every}", hint=hint)
    digits = digits_in(base.settings.dataset, digits)
    if (config.protect or config.needs_statistics) and base_digits.without(digits) is None:
        option = "--protect" if config.protect else f"--init {config.init}"
        problem = f"the base '{base.name}' knows no other digits than {digits}, so there is none to protect"
        raise UsageError(problem, hint=f"leave {option} out, or learn other --digits", value=str(digits))
    resolved = dataclasses.replace(config, digits=digits, target_layers=_target_layers(config, base))
    _refuse_high_ranks(resolved, base)
    _refuse_odd_alpha(resolved)
    return resolved


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


def _refuse_high_ranks(config: AdapterConfig, base: Artifact) -> None:
    largest = method_named(config.method).largest_rank
    limits = {layer: largest(*base.details["layers"][layer]) for layer in config.target_layers or ()}
    above = {layer: limit for layer, limit in limits.items() if limit and config.for_layer(layer).rank > limit}
    if above:
        layer, limit = min(above.items(), key=lambda item: item[1])
        rank = config.for_layer(layer).rank
        raise UsageError(
            f"{config.method} has no rank above {limit} on {layer} of the base '{base.name}', so it cannot be {rank}",
            hint=f"--rank {limit}, or leave {', '.join(above)} out of --target-layers",
            value=rank,
        )


def _refuse_odd_alpha(config: AdapterConfig) -> None:
    if config.imported is not None:
        return  # it is not trained here, and scoring says what is wrong
    if config.precision != "64-true" and abs(config.alpha) > LARGEST:
        problem = f"alpha is from {-LARGEST:.2g} to {LARGEST:.2g} in numbers of 32 bits, not {config.alpha}"
        raise UsageError(problem, hint="--precision 64-true has larger ones", value=config.alpha)
    if config.epochs and abs(config.alpha) < sys.float_info.min:
        problem = f"alpha is another number than 0 where there are epochs: {config.alpha} is 0 in the training"
        raise UsageError(problem, hint="which takes numbers below 2.2e-308 for 0", value=config.alpha)


def default_name(
    kind: str, dataset: str, digits: object, *, rank: int | None = None, marks: Sequence[str] = (), seed: int = 0
) -> str:
    """Return a name that says what is inside: ``base-0-4``, ``full-5-9``, ``lora-kmnist-5-9-r8-lr0.003-s3``.

    The data set is named where it is not MNIST and the seed where it is not 0, so that a sweep over seeds finds the
    artifact of a single run with the default seed. The kind of an adapter is its method.
    """
    beside = dataset if dataset != "mnist" else ""
    parts = (kind, beside, str(digits), f"r{rank}" if rank else "", *marks, f"s{seed}" if seed else "")
    return "-".join(filter(None, parts))


def base_name(config: BaseConfig) -> str:
    """Return a base's default name."""
    return default_name("base", config.dataset, config.digits, marks=marks(config), seed=config.seed)


def adapter_name(base: Artifact, config: AdapterConfig) -> str:
    """Return an adapter's default name: the same for the same settings, alone or in a sweep."""
    differences = [*marks(config), *config.protect]
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
