"""What changes from step to step, as tables that the kernel reads: shares of the rates, and Adam's corrections."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lora_mnist_cli.data.dataset import BLOCK_STEPS
from lora_mnist_cli.training.fused_optimizer import BETA1, BETA2
from lora_mnist_cli.training.optimizers import cosine_share


def block_share(epoch: int, epochs: int, steps: int, block: int) -> float:
    """Return the share of its rate that the cosine schedule uses in a block of an epoch (from 1)."""
    blocks = math.ceil(steps / BLOCK_STEPS)
    # A block of steps has one rate, the rate of its middle.
    return cosine_share(((epoch - 1) * blocks + block + 0.5) / (blocks * epochs))


def shares(epoch: int, epochs: int, steps: int) -> Tensor:
    """Return the share of its rate that a member uses in each step of an epoch: a row of ones, and one of the cosine.

    Returns:
        2 × steps.
    """
    cosine = [block_share(epoch, epochs, steps, step // BLOCK_STEPS) for step in range(steps)]
    return torch.stack([torch.ones(steps), torch.tensor(cosine)])


def corrections(epoch: int, steps: int) -> Tensor:
    """Return what Adam divides its moments by in each step of an epoch: ``1 − β₁ᵗ`` and ``√(1 − β₂ᵗ)``.

    Returns:
        2 × steps.
    """
    t = torch.arange(1, steps + 1, dtype=torch.float64) + (epoch - 1) * steps
    return torch.stack([1 - BETA1**t, (1 - BETA2**t).sqrt()]).float()
