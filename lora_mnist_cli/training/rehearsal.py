"""Training a whole network on images of new digits and samples of all: rehearsal without images.

Samples are drawn from densities (pseudo-rehearsal: Robins 1995, Connection Science 7(2)), of new digits too, so that no
look of a sample tells old digits from new ones. The loss of an image sees the logits of new digits only (Caccia et al.
2022, arXiv:2104.05025), for the same reason: all images are of new digits. Noise hides more of what tells samples from
images; for the network alone it is a penalty on its slope (Bishop 1995, Neural Computation 7(1)).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks
from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.mlp_step import MLPStep
from lora_mnist_cli.training.optimizers import cosine_share

_DRAWN, _ROWS = 4096, 2048
"""Rows of noise that are drawn, and how many of them are used at a time: drawing all takes longer than training."""


def rehearse(
    model: MNISTModel, images: tuple[Tensor, Tensor], samples: tuple[Tensor, Tensor], digits: DigitSet, *, epochs: int,
    batch_size: int, lr: float, noise: float, seed: int, reporter: Reporter | None = None, title: str = "",
) -> None:  # fmt: skip
    """Train all weights of a model, in place.

    Args:
        images: of the digits to learn (n × 784), and their labels (n).
        samples: of all digits so far (m × 784), and their labels (m).
        digits: those of the images.
        lr: the highest rate of Adam, on a cosine.
        noise: standard deviation of the noise on each normalised pixel.
        seed: decides the order of the rows, and the noise.
        title: the training's name for the reporter.
    """
    reporter = reporter or Silent()
    clean, labels = (torch.cat(pair) for pair in zip(samples, images, strict=True))
    data, stream = MNISTDataset(torch.empty_like(clean), labels), generator(seed, "dropout")
    drawn = noise * torch.randn(_DRAWN, clean.shape[1], generator=stream)
    hidden = torch.zeros(len(data), CLASSES)
    others = [digit for digit in range(CLASSES) if digit not in digits.members]
    hidden[len(samples[1]) :, others] = -math.inf
    step = MLPStep(model.parameters(), hidden=hidden)
    optimizer = FusedOptimizer("adam", [{"params": [step.parameter], "lr": lr, "weight_decay": 0.0}])
    blocks = ShuffledBlocks(data, torch.arange(len(data)), batch_size, seed)
    reporter.begin(title, epochs, blocks.steps)
    done, whole = 0, epochs * len(blocks)
    try:
        for epoch in range(1, epochs + 1):
            _add_noise(clean, drawn, stream, data.images)
            for block in blocks:
                # A block of steps has one rate, that of its middle.
                optimizer.param_groups[0]["lr"] = lr * cosine_share((done + 0.5) / whole)
                loss = step(data, block, batch_size, optimizer)
                done += 1
                reporter.advance(math.ceil(len(block) / batch_size), epoch, loss)
    finally:
        reporter.end()


def _add_noise(images: Tensor, noise: Tensor, stream: torch.Generator, noisy: Tensor) -> None:
    """Write images with noise, from another place in the noise for each group of rows."""
    for begin in range(0, len(images), _ROWS):
        rows = slice(begin, begin + _ROWS)
        first = int(torch.randint(_DRAWN - _ROWS, (1,), generator=stream))
        torch.add(images[rows], noise[first : first + len(images[rows])], out=noisy[rows])
