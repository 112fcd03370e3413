"""A trial of an adapter of any method, by autograd."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.models.lora import merged_weights
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.optimizers import parameter_groups, trained_factors_b
from lora_mnist_cli.training.trials.watching import Gradients, Images, Weights


class AdapterTrial:
    """One adapted network whose method a bank does not know.

    Args:
        model: with the adapters attached.
    """

    def __init__(self, model: MNISTModel, config: AdapterConfig, images: Images) -> None:
        self.configs, self._model, self._images = [config], model, images
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = parameter_groups(config, trained, trained_factors_b(model))
        self._trained, self._optimizer = trained, FusedOptimizer(config.optimizer, groups)

    def steps(self, rows: Tensor) -> None:
        """Take one optimiser step per batch."""
        images, labels = self._images.data[rows]
        size = self.configs[0].batch_size
        with torch.enable_grad():
            for batch, target in zip(torch.split(images, size), torch.split(labels, size), strict=True):
                for parameter in self._trained:
                    parameter.grad = None
                F.cross_entropy(self._model(batch), target).backward()  # type: ignore[no-untyped-call]
                self._optimizer()

    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean cross-entropy and accuracy."""
        images, labels = self._images.data[rows]
        loss, accuracy = mean_scores(predict(self._model, images), labels)
        return [loss], [accuracy]

    def weights(self) -> list[Weights]:
        """Return the merged weights."""
        return [merged_weights(self._model)]

    def gradients(self) -> list[Gradients]:
        """Return nothing: a method need have no factors."""
        return []
