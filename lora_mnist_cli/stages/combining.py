"""Combining several adapters of one base into one, with a record of the change that its rank could not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.combining import combiner_named
from lora_mnist_cli.models.methods import mathematics_of, method_named
from lora_mnist_cli.models.methods.lora import A, B, LoRA
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_new_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import COMBINERS, METHODS, CombinerChoice
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records.publishing import publish_untrained
from lora_mnist_cli.stages.records.resolving import common_base, default_name
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import ArtifactError, UsageError, refuse_unknown

if TYPE_CHECKING:
    from lora_mnist_cli.models.combining.products import Product

Shapes = dict[str, list[int]]
"""Layer → (in, out)."""


@stage
def combine(
    names: Sequence[str], *, method: str = "linear", weights: Sequence[float] | None = None, rank: int | None = None,
    density: float | None = None, seed: int | None = None, name: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish one adapter made of several on the same base. It is never the default of a command.

    It is plain LoRA of alpha 1 on all layers that any of them adapts, with the digits of all of them. It is scored on
    the base's digits, the others, all ten, and the digits of each adapter. Its details have under ``combined`` its
    ``parents`` (``name``, ``digits``, ``weight``); for each of ``layers`` the ``norm`` of the exact change and the
    ``residual``, the distance of the stored product from it as a share of that norm (both in the Frobenius norm); and
    the ``residual`` over all layers.

    Args:
        names: of adapters by methods that leave biases alone.
        method: one of :data:`lora_mnist_cli.settings.choices.COMBINERS`.
        weights: a multiplier for each; 1 by default.
        rank: of the product; by default the largest among them. A method that keeps all has the sum of their ranks.
        density: the share of each adapter's entries that is kept; by default the method's.
        seed: of the method's random numbers; 0 by default.
        name: of the new adapter; by default one that says method, digits and rank.
        force: replace an artifact of that name with other settings.

    Returns:
        The adapter; the existing one where it is up to date.

    Raises:
        UsageError: for an unknown method, an option that it has no use for, or a name that is given twice.
        ArtifactError: where one is missing, damaged, has no weights or changes biases; they are on different bases;
            logits of the combined adapter are not finite; or the name has other settings.
        DataError: where the test images are not available.
    """
    workspace = workspace or Workspace()
    refuse_unknown("way to combine", method, list(COMBINERS), "methods:")
    _refuse_unused(method, COMBINERS[method], rank=rank, density=density, seed=seed)
    adapters = [workspace.registry.get(adapter, "adapter") for adapter in names]
    base = _one_base(workspace, adapters)
    config = _combined_config(adapters, base, method, weights, rank, density, seed)
    name = check_new_name(
        name or default_name(f"combined-{method}", base.dataset, config.digits, rank=config.rank, seed=config.seed)
    )
    parents = (Parent("base", base.name, base.digest), *(Parent("adapter", a.name, a.digest) for a in adapters))
    settings = Settings("adapter", config.to_json(), base.settings.dataset, parents)
    if combined := workspace.up_to_date(name, settings, force):
        return combined
    with workspace.making(name, settings, force=force) as making:
        import numpy as np
        import torch

        shapes = {layer: base.details["layers"][layer] for layer in config.target_layers or ()}
        with np.errstate(all="ignore"):  # what is not finite is refused
            products, record = _combined(workspace, adapters, config, shapes)
        tensors = {
            f"{method_named('lora').prefix}{layer}.{key}": torch.from_numpy(factor).float()
            for layer, product in products.items()
            for key, factor in ((A, product.A), (B, product.B))
        }
        return publish_untrained(
            making, base, config, tensors, origin=f"what was made by {method}",
            extra_digit_sets=[DigitSet.parse(adapter.config["digits"]) for adapter in adapters],
            details={"combined": record},
        )  # fmt: skip


def _combined_config(
    adapters: Sequence[Artifact], base: Artifact, method: str, weights: Sequence[float] | None, rank: int | None,
    density: float | None, seed: int | None,
) -> AdapterConfig:  # fmt: skip
    """Return the config of the combined adapter, from what the user gave and what the adapters have."""
    if weights is not None and len(weights) != len(adapters):
        problem = f"{len(adapters)} adapters have {len(adapters)} weights, not {len(weights)}"
        raise UsageError(problem, hint=f"--weights {','.join('1' for _ in adapters)}", value=list(weights))
    choice = COMBINERS[method]
    configs = [AdapterConfig.from_json(adapter.config) for adapter in adapters]
    ranks = [_rank(config, base) for config in configs]
    largest = max(config.rank or rank for config, rank in zip(configs, ranks, strict=True))
    adapted = {layer for config in configs for layer in config.target_layers or ()}
    return AdapterConfig(
        digits=DigitSet([digit for adapter in adapters for digit in DigitSet.parse(adapter.config["digits"])]),
        epochs=0, seed=seed or 0,
        rank=sum(ranks) if choice.exact else largest if rank is None else rank,
        target_layers=tuple(layer for layer in base.details["layers"] if layer in adapted), combined=method,
        combined_weights=tuple(float(weight) for weight in weights or [1.0] * len(adapters)),
        combined_density=choice.density if density is None else float(density),
    )  # fmt: skip


def _refuse_unused(name: str, method: CombinerChoice, **given: float | None) -> None:
    """Refuse options that the method has no use for, rather than ignore them."""
    why = {
        "rank": f"{name} keeps the sum exactly, in the sum of the ranks" if method.exact else "",
        "density": f"{name} keeps every entry" if method.density is None else "",
        "seed": "" if method.random else f"{name} draws no random numbers",
    }
    for option, value in given.items():
        if value is not None and why[option]:
            hint = "--method svd keeps what a rank can hold" if option == "rank" else "leave it out"
            raise UsageError(f"there is no use for --{option}: {why[option]}", hint=hint, value=value)


def _one_base(workspace: Workspace, adapters: Sequence[Artifact]) -> Artifact:
    """Return the base that all the adapters are on; refuse one without weights, and one that is named twice."""
    if not adapters:
        raise UsageError("there is nothing to combine", hint="name adapters of one base")
    base = common_base(workspace.registry, adapters, "what is added to different weights can't be added up")
    seen: set[str] = set()
    for adapter in adapters:
        if reason := adapter.details.get("failed"):
            problem = f"'{adapter.name}' has no weights: its training diverged, {reason}"
            raise ArtifactError(problem, hint="leave it out", value=adapter.name)
        if adapter.digest in seen:
            problem = f"'{adapter.name}' is named twice"
            raise UsageError(problem, hint="--weights 2,1 counts one more", value=adapter.name)
        seen.add(adapter.digest)
    return base


def _rank(config: AdapterConfig, base: Artifact) -> int:
    """Return the rank of the factors of an adapter's change; for DoRA, which is no product, full rank."""
    method = mathematics_of(config)
    if method.changes_biases:
        problem = f"{METHODS[config.method].title} changes biases as well, which no low-rank product holds"
        allowed = ", ".join(name for name in METHODS if not method_named(name).changes_biases)
        raise ArtifactError(problem, hint=f"combine adapters by {allowed}", value=config.method)
    shapes = {layer: base.details["layers"][layer] for layer in config.target_layers or ()}
    return max(method.change_rank(config.for_layer(layer), *shape) for layer, shape in shapes.items())


def _products(workspace: Workspace, adapter: Artifact) -> dict[str, Product]:
    """Return layer → the change of its weight by an adapter, as ``(alpha · scale · B)`` times ``A``."""
    from lora_mnist_cli.models.combining.products import Product, truncated
    from lora_mnist_cli.registry.deltas import adapter_changes, adapter_tensors
    from lora_mnist_cli.stages.records.loading import refuse_too_large

    whose = f"'{adapter.name}'"
    config = AdapterConfig.from_json(adapter.config)
    method = mathematics_of(config)
    if method.needs_weight or not isinstance(method, LoRA):
        changes = adapter_changes(workspace.registry, adapter)
        for layer, change in changes.items():
            refuse_too_large(change, whose, layer)
        ranks = {
            layer: method.change_rank(config.for_layer(layer), *change.shape[::-1]) for layer, change in changes.items()
        }
        return {layer: truncated(change, ranks[layer]) for layer, change in changes.items()}
    scales = {layer: scale(config.scaling, config.for_layer(layer).rank) for layer in config.target_layers or ()}
    tensors = adapter_tensors(workspace.registry, adapter)
    products = {layer: Product(config.alpha * scales[layer] * kept[B], kept[A]) for layer, kept in tensors.items()}
    for layer, product in products.items():
        refuse_too_large(product.B, whose, layer)
    return products


def _combined(
    workspace: Workspace, adapters: Sequence[Artifact], config: AdapterConfig, shapes: Shapes
) -> tuple[dict[str, Product], dict[str, Any]]:
    """Return layer → the product of the combined adapter, and the record of how near it is to the exact change."""
    import numpy as np

    from lora_mnist_cli.models.combining.products import Product, residuals, side_by_side, truncated

    assert config.combined is not None
    weights = config.combined_weights or ()
    zero = {
        layer: Product(np.zeros((fan_out, 0)), np.zeros((0, fan_in))) for layer, (fan_in, fan_out) in shapes.items()
    }
    products = [zero | _products(workspace, adapter) for adapter in adapters]
    changes = [{layer: product.matrix() for layer, product in by_layer.items()} for by_layer in products]
    # A generator for each adapter by its content, so that the entries it drops don't depend on the adapter's place.
    streams = [hashlib.sha256(f"{config.seed}/combine/{adapter.digest}".encode()) for adapter in adapters]
    draws = [np.random.default_rng(int(stream.hexdigest(), 16)) for stream in streams]
    exact = combiner_named(config.combined).wanted(
        changes, weights, density=config.combined_density or 1.0, draws=draws
    )
    held = {}
    for layer, change in exact.items():
        if not bool(np.isfinite(change).all()):
            raise ArtifactError(f"what the adapters add to {layer} has values that are no finite numbers", value=layer)
        if COMBINERS[config.combined].exact:
            kept = side_by_side([by_layer[layer] for by_layer in products], weights).padded(config.rank)
        else:
            kept = truncated(change, config.rank)
        held[layer] = kept.stored()
    parents = [
        {"name": adapter.name, "digits": adapter.config["digits"], "weight": weight}
        for adapter, weight in zip(adapters, weights, strict=True)
    ]
    return held, {"parents": parents, **residuals(exact, held)}
