"""The spaces that densities of digits are over: pixels after a blur, and features.

A space is a fixed map of images, the same for all artifacts: therefore the densities of two artifacts can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from lora_mnist_cli.models.architecture import FEATURES, PIXELS
from lora_mnist_cli.models.blur import blur, log_volume
from lora_mnist_cli.models.features import features


@dataclass(frozen=True)
class Space:
    """A space of D dimensions.

    Args:
        dimensions: D.
        points: images (n × 784, normalised) → their points in the space (n × D), a new tensor of the images' type.
        noise_floor: added to each noise variance, so that a digit with a single image has a density.
        log_volume: logarithm of the factor that makes a density of points one of pixels; 0 where there is none, because
            the map can't be undone.
    """

    dimensions: int
    points: Callable[[Tensor], Tensor]
    noise_floor: float
    log_volume: Callable[[], float]


BLURRED_PIXELS = Space(PIXELS, blur, 0.003, log_volume)
FEATURE_SPACE = Space(FEATURES, features, 3e-4, lambda: 0.0)
