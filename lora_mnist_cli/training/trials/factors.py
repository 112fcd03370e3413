"""Trials of low-rank factors: many adapters on one frozen base, in one program (:mod:`..bank.cohort`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from lora_mnist_cli.models.lora import LoRALinear, merged_weights
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer, slices_without
from lora_mnist_cli.training.trials.watching import Gradients, Images, Weights


class FactorTrial:
    """Adapters of one seed on the same frozen layers.

    Args:
        models: with a :class:`~lora_mnist_cli.models.lora.LoRALinear` on each adapted layer; they share the layers
            below.
        configs: one per model, with constant rates.
    """

    def __init__(self, models: Sequence[MNISTModel], configs: Sequence[AdapterConfig], images: Images) -> None:
        self.configs, self._models = configs, models
        first = next(models[0].children())
        inputs = FrozenInputs(images.data, first.base if isinstance(first, LoRALinear) else first)  # type: ignore[arg-type]
        self._cohort = Cohort(models, inputs, configs[0].batch_size)
        cohort = self._cohort
        self._optimizer = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, configs, cohort.parts_b)

    def steps(self, rows: Tensor) -> None:
        """Take one optimiser step per batch, for all members."""
        self._cohort.steps(rows, self._optimizer.step)

    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean cross-entropy and accuracy of each member."""
        return self._cohort.scores(rows)

    def weights(self) -> list[Weights]:
        """Return each member's merged weights."""
        return [merged_weights(model) for model in self._models]

    def gradients(self) -> list[Gradients]:
        """Return the norms of each member's gradients with respect to A and B."""
        gradient = self._cohort.gradient

        def norm(parts: Sequence[slice]) -> float:
            return math.sqrt(math.fsum(float(gradient[part].square().sum()) for part in parts))

        pairs = zip(self._cohort.parts, self._cohort.parts_b, strict=True)
        return [(norm(slices_without(parts, parts_b)), norm(parts_b)) for parts, parts_b in pairs]
