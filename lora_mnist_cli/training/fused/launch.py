"""A launch on the device: its members' numbers in memory, an epoch of training, and scores."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import BLOCK_STEPS
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.fused import tuning
from lora_mnist_cli.training.fused.images import DeviceImages
from lora_mnist_cli.training.fused.kernel import OutOfResources, score_tile, train_epoch
from lora_mnist_cli.training.fused.layout import pack_frozen, scales
from lora_mnist_cli.training.fused.orders import EpochOrders, Streams
from lora_mnist_cli.training.fused.plan import LaunchPlan
from lora_mnist_cli.training.fused.products import COMPILED, INTERPRETED
from lora_mnist_cli.training.fused.tables import corrections, shares
from lora_mnist_cli.training.fused.tuning import Tuning
from lora_mnist_cli.training.optimizers import ratio_b, weight_decay


def compiled_before() -> bool:
    """Return whether this machine has compiled the kernels, for any shape; Triton keeps what it compiles."""
    folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    return any(folder.glob("*/train_epoch.cubin"))


class Launch:
    """Members that are trained by one kernel.

    On a GPU each launch has a queue of its own, so that small ones run at the same time.

    Args:
        parameters: the members' factors (members × parameters), on the device; trained in place.
        models: the members'.
        configs: the members'.
        layers: the frozen ones.
        images: those to learn.
        streams: the members' random orders.
    """

    def __init__(
        self, plan: LaunchPlan, parameters: Tensor, models: Sequence[nn.Module], configs: Sequence[AdapterConfig],
        layers: Sequence[nn.Linear], images: DeviceImages, streams: Streams,
    ) -> None:  # fmt: skip
        self.plan, self.configs, self.steps = plan, configs, streams.orders[0].steps
        self._parameters, self._images = parameters, images
        device = parameters.device
        self._moments = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self._frozen = tuple(each.to(device) for each in pack_frozen(layers, plan.shape))
        self._orders = EpochOrders(streams.orders, configs[0].epochs)
        cosine = [int(config.schedule == "cosine") for config in configs]
        wholes = zip((config.rank for config in configs), streams.of, cosine, strict=True)
        self._wholes = torch.tensor(list(wholes), dtype=torch.int32, device=device)
        self._numbers = torch.tensor(
            [_numbers(config, scales(model)) for config, model in zip(configs, models, strict=True)], device=device
        )
        self._queue = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        # Older tensor cores do not know bfloat16.
        self._parts = self._queue is None or torch.cuda.get_device_capability(device) >= (8, 0)
        self._losses: Tensor | None = None

    def start_epoch(self, epoch: int, rates: Sequence[float]) -> None:
        """Start to train an epoch, from 1 on, at each member's rate."""
        device, images = self._parameters.device, self._images
        orders, epochs = self._orders.next(), self.configs[0].epochs
        with self._queued():
            self._losses = torch.empty(len(self.configs), math.ceil(self.steps / BLOCK_STEPS), device=device)
            train_epoch[(len(self.configs),)](
                images.pixels, images.frozen, images.labels, orders.to(device), self._wholes, self._at_rates(rates),
                shares(epoch, epochs, self.steps).to(device), corrections(epoch, self.steps).to(device),
                *self._frozen, self._parameters, *self._moments, self._losses,
                orders.shape[1], self.steps, self.plan.batch_size, images.scale, images.shift,
                N=self.plan.shape.batch, BLOCK=BLOCK_STEPS,
                **self._compiled(images, tuning.for_training(self.plan.shape)),
            )  # fmt: skip

    def losses(self) -> Tensor:
        """Wait for the epoch; return the mean cross-entropy of each block's last batch (members × blocks)."""
        assert self._losses is not None
        return self.read(self._losses)[0]

    def score(self, images: DeviceImages, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Start to score all members; return where sums of losses, and hits, will be (members × classes).

        Args:
            rows: rows of the images, on the device: a line per stream, or one line for all members.
        """
        members, tiles = len(self.configs), math.ceil(rows.shape[1] / tuning.SCORED_AT_ONCE)
        with self._queued():
            wholes = self._wholes.clone()
            wholes[:, 1] *= len(rows) > 1
            losses = torch.empty(members, tiles, self.plan.shape.classes, device=rows.device)
            hits = torch.empty_like(losses, dtype=torch.int32)
            score_tile[(members, tiles)](
                images.pixels, images.frozen, images.labels, rows, wholes, self._numbers,
                *self._frozen, self._parameters, losses, hits, rows.shape[1], images.scale, images.shift,
                N=tuning.SCORED_AT_ONCE, **self._compiled(images, tuning.for_scoring(self.plan.shape)),
            )  # fmt: skip
            return losses.sum(1, dtype=torch.float64), hits.sum(1)

    def read(self, *results: Tensor) -> list[Tensor]:
        """Wait for results, and return them on the CPU."""
        with self._queued():
            return [result.cpu() for result in results]

    def _compiled(self, images: DeviceImages, chosen: Tuning) -> dict[str, object]:
        """Return what a kernel is compiled for."""
        shape, way = self.plan.shape, chosen.way if self._parts else "ieee"
        return {
            "DEPTH": shape.depth, "R": shape.rank, "H": shape.units, "C": shape.classes, "PIXELS": shape.sizes[0],
            "SIZE": shape.parameters, "TILE": chosen.tile, "SPLIT": images.whole and self._parts, "WAY": way,
            "PART": COMPILED if self._queue else INTERPRETED,
            "num_warps": chosen.warps, "num_stages": chosen.stages,
        }  # fmt: skip

    def _at_rates(self, rates: Sequence[float]) -> Tensor:
        """Return the members' numbers at their present rates."""
        numbers = self._numbers.clone()
        numbers[:, :2] *= torch.tensor(rates, device=numbers.device)[:, None]
        return numbers

    @contextmanager
    def _queued(self) -> Iterator[None]:
        """Put work into the launch's own queue; memory made there is the queue's own.

        Raises:
            UsageError: where a block of this GPU has too little memory for the launch's shape.
        """
        if self._queue is not None:
            # What it reads was made in the common queue, which never waits for this one.
            self._queue.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._queue) if self._queue is not None else nullcontext():
                yield
        except OutOfResources as error:
            shape = self.plan.shape
            problem = (
                f"a thread block of this GPU has too little memory for rank {shape.rank}, {shape.batch} images and "
                f"{shape.units} units"
            )
            hint = "a smaller --batch-size needs less, and --engine auto trains it"
            raise UsageError(problem, hint=hint, value="fused") from error


def _numbers(config: AdapterConfig, scale_of: Sequence[float]) -> list[float]:
    """Return a member's numbers in the order of :mod:`.kernel`, with the rates of A and B as multiples of its rate."""
    decay = weight_decay(config)
    decays = (decay, 0.0) if config.optimizer == "adamw" else (0.0, decay)
    return [1.0, ratio_b(config), *decays, *scale_of]
