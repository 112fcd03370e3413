"""Methods that train scales of random matrices which are never trained themselves, as VeRA and RandLoRA.

``A`` and ``B`` come from the seed, so the file of weights holds the scales alone. An alpha given later multiplies the
change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from lora_mnist_cli.models.methods import Change, Method, Tensors
from lora_mnist_cli.settings.adapter_config import AdapterConfig


class RandomPair(Method):
    """See the module."""

    needs_weight = True  # for its shape
    prefix = ""
    not_in_peft = "its random matrices come from the seed, and PEFT's file holds them"
    names: ClassVar[tuple[str, str]]
    """The names of the fixed A and B."""

    def pair(self, seed: int, rank: int, fan_in: int, fan_out: int) -> tuple[Any, Any]:
        """Draw A and B as arrays of float32; a layer has the first numbers of a larger one's."""
        raise NotImplementedError

    def scales(self, weight: Any, config: AdapterConfig) -> dict[str, Any]:
        """Return the trained tensors as they start."""
        raise NotImplementedError

    def product(self, scales: Tensors, A: Any, B: Any, weight: Any, config: AdapterConfig) -> Any:
        """Compute the change of the weight."""
        raise NotImplementedError

    def start(self, weight: Any, bias: Any, config: AdapterConfig) -> tuple[dict[str, Any], dict[str, Any]]:
        """The scales, and the random pair."""
        return self.scales(weight, config), dict(zip(self.names, self._pair_of(weight, config), strict=True))

    def learned(self, trained: Tensors, weight: Any, bias: Any, config: AdapterConfig) -> Change:
        """The product of the scales and the pair that is there."""
        A, B = (trained[name] for name in self.names)
        return self.product(trained, A, B, weight, config), None

    def change(self, kept: Tensors, weight: Any, config: AdapterConfig) -> Change:
        """The product of the scales and the pair that the seed gives back."""
        return self.product(kept, *self._pair_of(weight, config), weight, config), None

    def largest_pair(self, config: AdapterConfig, layers: Mapping[str, Sequence[int]]) -> tuple[Any, Any]:
        """Return the pair of which each of the layers, name → (in, out), has a part."""
        fan_in, fan_out = (max(sides) for sides in zip(*layers.values(), strict=True))
        return self.pair(config.seed_of("init"), config.rank, fan_in, fan_out)

    def _pair_of(self, weight: Any, config: AdapterConfig) -> tuple[Any, Any]:
        fan_out, fan_in = weight.shape
        A, B = self.pair(config.seed_of("init"), config.rank, fan_in, fan_out)
        return _like(A, weight), _like(B, weight)


@lru_cache(maxsize=256)
def drawn(seed: int, stream: int, rows: int, columns: int, bound: float) -> Any:
    """Draw an array of float32, uniform in ±bound; a row is the same whatever the number of rows."""
    import numpy as np

    # The stream of this generator never changes between versions of NumPy.
    draw = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, stream])))
    return draw.uniform(-bound, bound, (rows, columns)).astype("float32")


def _like(array: Any, weight: Any) -> Any:
    """Copy an array to the type of a weight, of PyTorch or NumPy, and to its device."""
    if not hasattr(weight, "detach"):
        return array.astype(weight.dtype)
    import torch

    return torch.from_numpy(array.copy()).to(weight)
