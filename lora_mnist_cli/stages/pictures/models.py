"""The answers and the title of one model, for the pictures that show a single network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Labels = npt.NDArray[np.int64]


def predicted_and_true(workspace: Workspace, artifact: Artifact, alpha: float | None) -> tuple[Labels, Labels]:
    """Return the predicted and the true labels of all test images, each ``(n,)``.

    Args:
        alpha: takes the place of the trained one.

    Raises:
        UsageError: for an alpha where the artifact is a base.
    """
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha
    from lora_mnist_cli.stages.records.loading import load_model

    if alpha is not None and artifact.kind == "base":
        raise UsageError(f"'{artifact.name}' is a base and has no alpha", hint="name an adapter", value=alpha)
    loaded = load_model(workspace.registry, artifact)
    if alpha is not None:
        set_alpha(loaded.model, alpha)
    test = workspace.test_images(artifact, loaded.pixel_stats)
    return predict(loaded.model, test.images).argmax(1).numpy(), test.labels.numpy()


def model_title(artifact: Artifact, alpha: float | None = None) -> str:
    """Name a base by its digits, an adapter by method, digits, rank and an alpha that is not the trained one."""
    if artifact.kind == "base":
        return f"Base {artifact.config['digits']}"
    config = AdapterConfig.from_json(artifact.config)
    method = METHODS[config.method].title if config.combined is None else f"Combined ({config.combined})"
    rank = f", rank {config.rank}" if config.rank else ""
    return f"{method} {config.digits}{rank}{'' if alpha is None else f' at alpha {alpha:g}'}"
