"""Gathers the changes that adapters make to each layer's weights."""

from __future__ import annotations

from lora_mnist_cli.plots import spectrum, style
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.pictures.sweeps import labelled_adapters, where_words
from lora_mnist_cli.stages.workspace import Workspace


def picture(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> style.Picture:
    """Draw the singular values of an adapter, or of all adapters of a sweep, and of those beside it.

    Raises:
        As :func:`~lora_mnist_cli.stages.pictures.sweeps.labelled_adapters`.
    """
    adapters, note = labelled_adapters(workspace, artifact, options)
    if options.beside:
        adapters = [(label if artifact.kind == "sweep" else adapter.name, adapter) for label, adapter in adapters]
        adapters += [(name, workspace.registry.get(name, "adapter")) for name in options.beside]
    names = ", ".join((artifact.name, *options.beside))
    seeds = f" ({note})" if note else ""
    return spectrum.draw(
        [spectrum.Change(label, _factors(workspace, adapter)) for label, adapter in adapters],
        title=f"{names}{where_words(options.where)}: singular values of the update ΔW by layer{seeds}",
    )


def _factors(workspace: Workspace, adapter: Artifact) -> dict[str, tuple[spectrum.Matrix, ...]]:
    """Return layer → the factors of its ΔW, from left to right."""
    from lora_mnist_cli.models.lora import LoRALinear, adapted_layers
    from lora_mnist_cli.stages.records.loading import load_model

    factors: dict[str, tuple[spectrum.Matrix, ...]] = {}
    for name, layer in adapted_layers(load_model(workspace.registry, adapter).model).items():
        if isinstance(layer, LoRALinear):
            B, A = (factor.detach().double().numpy() for factor in (layer.lora_B, layer.lora_A))
            factors[name] = layer.alpha * layer.scale * B, A
        else:  # a method whose change is no plain product; it is known to its own precision
            factors[name] = (layer.change()[0].detach().numpy(),)
    return factors
