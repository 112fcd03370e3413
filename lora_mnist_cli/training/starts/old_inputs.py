"""The inputs of a base's layers for old digits, without an image of them."""

from __future__ import annotations

from torch import Tensor

from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.training.objective import ProtectionContext
from lora_mnist_cli.training.starts import SAMPLES


def old_inputs(context: ProtectionContext) -> list[Tensor]:
    """Return the inputs of each layer (:data:`SAMPLES` × in) for samples of the old digits' class statistics.

    Raises:
        ValueError: where the statistics know none of the old digits.
    """
    images, _ = context.old_samples(SAMPLES, generator(2, "replay"))
    return context.layer_inputs(images)
