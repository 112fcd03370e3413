"""A trial of the whole network, or of a random subspace of its numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.optimizers import weight_decay
from lora_mnist_cli.training.trials.watching import Gradients, Images, Weights


class WholeTrial:
    """One network, all of whose weights and biases are trained: full fine-tuning.

    Args:
        base: the network that it starts from; it is copied.
    """

    def __init__(self, base: MNISTModel, config: TrainingConfig, images: Images) -> None:
        self.configs, self._images = [config], images
        self._model = copy.deepcopy(base).requires_grad_(True)
        self._step = MLPStep(self._model.parameters())
        self._optimizer = self._made()

    def _made(self) -> Callable[[], object]:
        return _optimizer(self._step.parameter, self.configs[0])

    def steps(self, rows: Tensor) -> None:
        """Take one optimiser step per batch."""
        self._step(self._images.data, rows, self.configs[0].batch_size, self._optimizer)

    def scores(self, rows: Tensor) -> tuple[list[float], list[float]]:
        """Return mean cross-entropy and accuracy."""
        images, labels = self._images.data[rows]
        loss, accuracy = mean_scores(predict(self._model, images), labels)
        return [loss], [accuracy]

    def weights(self) -> list[Weights]:
        """Return the weights."""
        return [{name: value.detach().clone() for name, value in self._model.state_dict().items()}]

    def gradients(self) -> list[Gradients]:
        """Return nothing: there are no factors."""
        return []


class SubspaceTrial(WholeTrial):
    """One network that moves in a random subspace: ``θ = θ₀ + P z`` with z trained (Li et al. 2018, arXiv:1804.08838).

    Each number of the network belongs to one direction, chosen at random, with a random sign; the directions are
    scaled to length 1. So P has orthonormal columns and costs as many operations as the network has numbers.

    Args:
        dimensions: how many numbers z has.
        generator: draws P.
    """

    def __init__(
        self, base: MNISTModel, config: TrainingConfig, images: Images, dimensions: int, generator: torch.Generator
    ) -> None:
        count = sum(parameter.numel() for parameter in base.parameters())
        # Every direction has as many numbers as any other, to one.
        self._direction = torch.arange(count)[torch.randperm(count, generator=generator)] % dimensions
        like = next(base.parameters())
        size = self._direction.bincount(minlength=dimensions).clamp(min=1).to(like)
        sign = torch.randint(0, 2, (count,), generator=generator).to(like) * 2 - 1
        self._entry = sign / size.sqrt()[self._direction]
        self._z = nn.Parameter(like.new_zeros(dimensions))
        self._z.grad = like.new_zeros(dimensions)
        super().__init__(base, config, images)

    def _made(self) -> Callable[[], object]:
        step, start = self._step.parameter, self._step.parameter.detach().clone()
        optimizer, gradient = _optimizer(self._z, self.configs[0]), self._z.grad
        assert gradient is not None

        @torch.no_grad()
        def take() -> None:
            assert step.grad is not None
            gradient.zero_().index_add_(0, self._direction, self._entry * step.grad)
            optimizer()
            torch.addcmul(start, self._entry, self._z[self._direction], out=step.data)

        return take

    def projection(self) -> Tensor:
        """Return P as a matrix (numbers × dimensions)."""
        count = len(self._direction)
        P = self._entry.new_zeros(count, len(self._z))
        P[torch.arange(count), self._direction] = self._entry
        return P


def _optimizer(parameter: nn.Parameter, config: TrainingConfig) -> FusedOptimizer:
    group = {"params": [parameter], "lr": config.rate, "weight_decay": weight_decay(config)}
    return FusedOptimizer(config.optimizer, [group])
