"""Images as the kernel reads them: whole numbers where that is what they are, and their frozen product."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset

PIXEL_TYPE = torch.uint8
"""What pixels that are whole numbers are kept in. Bfloat16 holds them as well, in twice the memory."""
AT_ONCE = 4096
"""Images whose frozen product is made at once."""
BEYOND = 1024
"""Numbers behind the last image, because the kernel reads an image in tiles that end beyond it."""


@dataclass(frozen=True)
class DeviceImages:
    """Images on the device: ``x = pixel · scale + shift``.

    Args:
        pixels: all images, one after the other, and something behind them; bytes, or the normalised numbers.
        labels: n, int32.
        frozen: the frozen first layer's product and bias (n × units).
        whole: whether the pixels are whole numbers from 0 to 255.
    """

    pixels: Tensor
    labels: Tensor
    frozen: Tensor
    scale: float
    shift: float
    whole: bool


def whole_pixels(dataset: MNISTDataset) -> Tensor | None:
    """Return the bytes (n × 784) that images were made of, or None where they were made of something else."""
    if dataset.pixel_stats is None:
        return None
    mean, std = dataset.pixel_stats
    pixels = ((dataset.images * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    # As MNISTDataset.from_pixels makes them: bit by bit the same, or these are other numbers.
    levels = torch.arange(256, dtype=torch.float32).div_(255).sub_(mean).div_(std).to(pixels.device)
    return pixels if torch.equal(levels[pixels.int()], dataset.images) else None


@torch.no_grad()
def to_device(dataset: MNISTDataset, first: nn.Linear, units: int, device: torch.device) -> DeviceImages:
    """Move images to a device.

    Args:
        first: the frozen first layer.
        units: what its outputs are padded to.
    """
    # There first: a CPU takes longer to find the bytes than a GPU to train an adapter.
    dataset = dataset.to(device)
    whole = whole_pixels(dataset)
    scale, shift, images = 1.0, 0.0, dataset.images
    if whole is not None and dataset.pixel_stats is not None:
        mean, std = dataset.pixel_stats
        scale, shift, images = 1 / (255 * std), -mean / std, whole.to(PIXEL_TYPE)
    pixels = torch.zeros(images.numel() + BEYOND, dtype=images.dtype, device=device)
    pixels[: images.numel()] = images.flatten()
    weight, bias = (
        F.pad(first.weight, (0, 0, 0, units - first.out_features)),
        F.pad(first.bias, (0, units - first.out_features)),
    )
    weight, bias = weight.to(device), bias.to(device)
    on_device = pixels[: images.numel()].view(len(images), -1)
    frozen = [F.linear(part.float() * scale + shift, weight, bias) for part in torch.split(on_device, AT_ONCE)]
    return DeviceImages(pixels, dataset.labels.int(), torch.cat(frozen), scale, shift, whole is not None)
