"""Several adapters of one base become one, published with all of them in its lineage and what it could not hold."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.architecture import scale
from lora_mnist_cli.models.combining import combiner_named
from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.models.methods.lora import A, B
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings, check_name
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import COMBINERS, METHODS, CombinerChoice
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records.untrained import publish_untrained
from lora_mnist_cli.stages.workspace import Workspace, default_name
from lora_mnist_cli.system.errors import ArtifactError, UsageError, refuse_unknown

if TYPE_CHECKING:
    from lora_mnist_cli.models.combining.products import Product

Shapes = dict[str, list[int]]
"""Layer → (in, out)."""


def combine(
    names: Sequence[str], *, method: str = "linear", weights: Sequence[float] | None = None, rank: int | None = None,
    density: float | None = None, seed: int | None = None, name: str | None = None,
    workspace: Workspace | None = None, force: bool = False,
) -> Artifact:  # fmt: skip
    """Publish one adapter made of several on the same base; it is taken by its name alone.

    It is plain LoRA of alpha 1, on all layers that any of them adapts, and passes for the digits of all of them. Its
    scores are on the base's digits, the others, all ten, and on each one's. Its details have under ``combined`` its
    ``parents`` (``name``, ``digits``, ``weight``), and for all ``layers`` the ``norm`` of the change that the method
    asks for and the ``residual``: how far the product that was written is from it, as a share of that norm (both in
    the Frobenius norm); and the ``residual`` over all layers.

    Args:
        names: of adapters by a low-rank method (lora, dora, pissa).
        method: one of :data:`lora_mnist_cli.settings.choices.COMBINERS`.
        weights: a multiplier for each; 1 by default.
        rank: of the product; by default the largest rank among them. A method that keeps all has the sum of theirs.
        density: the share of each one's entries that is kept; the method's own by default.
        seed: of the method's random numbers; 0 by default.
        name: of the adapter that is made; by default it says method, digits and rank.
        force: replace an artifact of that name with other settings.

    Returns:
        The adapter; the present one where it is up to date.

    Raises:
        UsageError: for an unknown method, an option that it has no use for, or a name that is given twice.
        ArtifactError: where one is missing, damaged, has no weights or changes biases; they are on different bases;
            what they make has logits that are not finite; or the name has other settings.
        DataError: where the test images can't be had.
    """
    workspace = workspace or Workspace()
    refuse_unknown("way to combine", method, list(COMBINERS), "methods:")
    chosen = COMBINERS[method]
    _refuse_unused(method, chosen, rank=rank, density=density, seed=seed)
    adapters = [workspace.registry.get(each, "adapter") for each in names]
    base = _one_base(workspace, adapters)
    if weights is not None and len(weights) != len(adapters):
        raise UsageError(
            f"{len(adapters)} adapters have {len(adapters)} weights, not {len(weights)}",
            hint=f"--weights {','.join('1' for _ in adapters)}",
            value=list(weights),
        )
    digits = [DigitSet.parse(adapter.config["digits"]) for adapter in adapters]
    configs = [AdapterConfig.from_json(adapter.config) for adapter in adapters]
    ranks = [_rank(config, base) for config in configs]
    layers = [layer for layer in base.details["layers"] if any(layer in (c.target_layers or ()) for c in configs)]
    config = AdapterConfig(
        digits=DigitSet([digit for each in digits for digit in each]), epochs=0, seed=seed or 0,
        rank=sum(ranks) if chosen.exact else max(c.rank for c in configs) if rank is None else rank,
        target_layers=tuple(layers), combined=method,
        combined_weights=tuple(float(weight) for weight in weights or [1.0] * len(adapters)),
        combined_density=(chosen.density if density is None else float(density)),
    )  # fmt: skip
    name = check_name(
        name or default_name(f"combined-{method}", base.dataset, config.digits, rank=config.rank, seed=config.seed)
    )
    parents = (Parent("base", base.name, base.digest), *(Parent("adapter", a.name, a.digest) for a in adapters))
    settings = Settings("adapter", config.to_json(), base.settings.dataset, parents)
    if found := workspace.up_to_date(name, settings, force):
        return found
    with workspace.registry.staging(name, settings.parents) as folder:
        start = time.perf_counter()
        import torch

        shapes = {layer: base.details["layers"][layer] for layer in layers}
        made, record = _combined(workspace, adapters, config, shapes)
        tensors = {
            f"{method_named('lora').prefix}{layer}.{own}": torch.from_numpy(factor).float()
            for layer, each in made.items()
            for own, factor in ((A, each.A), (B, each.B))
        }
        return publish_untrained(
            workspace, base, config, settings, tensors, folder, source=f"what was made by {method}", start=start,
            also=digits, details={"combined": record}, force=force,
        )  # fmt: skip


def _refuse_unused(name: str, method: CombinerChoice, **given: float | None) -> None:
    """Refuse what the method has no use for, rather than take it and do nothing.

    Raises:
        UsageError: then.
    """
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
    """The base that all of some adapters are on.

    Raises:
        UsageError: where there are none, or one is named twice.
        ArtifactError: where they are on different bases, or one has no weights.
    """
    if not adapters:
        raise UsageError("there is nothing to combine", hint="name adapters of one base")
    bases = [workspace.registry.parent(adapter) for adapter in adapters]
    seen: set[str] = set()
    for adapter, base in zip(adapters, bases, strict=True):
        if reason := adapter.details.get("failed"):
            raise ArtifactError(
                f"'{adapter.name}' has no weights: its training diverged, {reason}", hint="leave it out",
                value=adapter.name,
            )  # fmt: skip
        if base.digest != bases[0].digest:
            raise ArtifactError(
                f"'{adapters[0].name}' is on base '{bases[0].name}' and '{adapter.name}' on '{base.name}': what they "
                "add to different weights can't be added up",
                hint="combine adapters of one base; lora-mnist runs list --base NAME shows them",
                value=adapter.name,
            )
        if adapter.digest in seen:
            raise UsageError(
                f"'{adapter.name}' is named twice", hint="--weights 2,1 counts one more", value=adapter.name
            )
        seen.add(adapter.digest)
    return bases[0]


def _rank(config: AdapterConfig, base: Artifact) -> int:
    """The rank of the factors that an adapter's change is made of; of DoRA, which is no product, that of the weights.

    Raises:
        ArtifactError: where biases change as well.
    """
    method = METHODS[config.method]
    if not method.ranked:
        raise ArtifactError(
            f"{method.title} changes biases as well, which no low-rank product holds",
            hint="combine adapters by lora, dora or pissa",
            value=config.method,
        )
    mathematics = method_named(config.method)
    shapes = [base.details["layers"][layer] for layer in config.target_layers or ()]
    return max(
        min(shape) if mathematics.needs_weight else mathematics.shapes(config.rank, *shape)[A][0] for shape in shapes
    )


def _products(workspace: Workspace, adapter: Artifact) -> dict[str, Product]:
    """Layer → what an adapter adds to its weight, as ``(alpha · scale · B)`` times ``A``."""
    from lora_mnist_cli.models.combining.products import Product, truncated
    from lora_mnist_cli.registry.deltas import adapter_changes, adapter_tensors

    config = AdapterConfig.from_json(adapter.config)
    if method_named(config.method).needs_weight:
        changes = adapter_changes(workspace.registry, adapter)
        return {layer: truncated(change, min(change.shape)) for layer, change in changes.items()}
    strength = config.alpha * scale(config.scaling, config.rank)
    tensors = adapter_tensors(workspace.registry, adapter)
    return {layer: Product(strength * kept[B], kept[A]) for layer, kept in tensors.items()}


def _combined(
    workspace: Workspace, adapters: Sequence[Artifact], config: AdapterConfig, shapes: Shapes
) -> tuple[dict[str, Product], dict[str, Any]]:
    """Layer → the product that the combined adapter holds, and the record of how near it is to what was wanted."""
    import numpy as np

    from lora_mnist_cli.models.combining.products import Product, relative_residual, side_by_side, truncated

    found = [_products(workspace, adapter) for adapter in adapters]
    weights = config.combined_weights or ()
    zero = {
        layer: Product(np.zeros((fan_out, 0)), np.zeros((0, fan_in))) for layer, (fan_in, fan_out) in shapes.items()
    }
    products = [zero | each for each in found]
    changes = [{layer: product.matrix() for layer, product in each.items()} for each in products]
    # A generator for each adapter by its content, so that what is dropped of it does not depend on its place.
    draws = [np.random.default_rng(_stream(config.seed, adapter)) for adapter in adapters]
    assert config.combined is not None
    wanted = combiner_named(config.combined).wanted(
        changes, weights, density=config.combined_density or 1.0, draws=draws
    )
    held = {}
    for layer, change in wanted.items():
        if not bool(np.isfinite(change).all()):
            raise ArtifactError(f"what the adapters add to {layer} has values that are no finite numbers", value=layer)
        if COMBINERS[config.combined].exact:
            held[layer] = side_by_side([each[layer] for each in products], weights).padded(config.rank).stored()
        else:
            held[layer] = truncated(change, config.rank).stored()
    norms = {layer: float(np.linalg.norm(change)) for layer, change in wanted.items()}
    residuals = {layer: relative_residual(change, held[layer].matrix()) for layer, change in wanted.items()}
    total = math.hypot(*norms.values())
    return held, {
        "parents": [
            {"name": adapter.name, "digits": adapter.config["digits"], "weight": weight}
            for adapter, weight in zip(adapters, weights, strict=True)
        ],
        "layers": {layer: {"norm": norms[layer], "residual": residuals[layer]} for layer in wanted},
        "residual": math.hypot(*(norms[layer] * residuals[layer] for layer in wanted)) / total if total else 0.0,
    }


def _stream(seed: int, adapter: Artifact) -> int:
    """The seed of an adapter's random numbers, apart from all others'."""
    return int(hashlib.sha256(f"{seed}/combine/{adapter.digest}".encode()).hexdigest(), 16)
