"""An adapter by any method as plain LoRA of a rank: the nearest product to its change, and the share that is lost."""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.models.methods import mathematics_of, method_named
from lora_mnist_cli.models.methods.lora import A, B
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.file_names import ADAPTER_FILE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.errors import UsageError


def lora_of(registry: Registry, adapter: Artifact, alpha: float, rank: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return PEFT's two files of the LoRA of a rank that is nearest to an adapter's change, and how near it is.

    The product is the truncated singular value decomposition of each layer's change, which no product of that rank
    comes nearer to in the Frobenius norm (Eckart & Young 1936).

    Returns:
        The files, and ``rank``, ``residual`` over all layers, and for each of ``layers`` the ``norm`` of the change and
        the ``residual``, the distance of the product from it as a share of that norm.

    Raises:
        UsageError: where the method changes biases, or the rank is none.
        ArtifactError: where the adapter or its base is missing, damaged or does not fit, or values are too large.
    """
    config = AdapterConfig.from_json(adapter.config)
    if mathematics_of(config).changes_biases:
        problem = f"{METHODS[config.method].title} changes biases as well, which no low-rank product holds"
        raise UsageError(problem, hint="--format safetensors writes the merged model", value=config.method)
    plain = AdapterConfig(rank=rank, target_layers=config.target_layers, epochs=0)  # a UsageError for an odd rank
    import numpy as np
    from safetensors.numpy import save

    from lora_mnist_cli.models.combining.products import residuals, truncated
    from lora_mnist_cli.registry.deltas import adapter_changes
    from lora_mnist_cli.registry.weights import ADAPTER_CONFIG_FILE, peft_json
    from lora_mnist_cli.stages.records.loading import refuse_too_large

    changes, held, tensors = {}, {}, {}
    for layer, trained in adapter_changes(registry, adapter).items():
        change = trained * (alpha / config.alpha) if config.alpha else np.zeros_like(trained)
        refuse_too_large(change, f"'{adapter.name}'", layer)
        changes[layer], held[layer] = change, truncated(change, rank).stored()
        for key, factor in ((A, held[layer].A), (B, held[layer].B)):
            name = f"{method_named('lora').prefix}{layer}.{key}"
            tensors[name] = np.ascontiguousarray(factor, np.float32)
    described = peft_json(plain, sorted(held))
    assert described is not None
    files = {ADAPTER_FILE: save(tensors), ADAPTER_CONFIG_FILE: described}
    return files, {"rank": rank, **residuals(changes, held)}
