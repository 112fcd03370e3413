"""The random splits and orders of many members, drawn on the CPU as a bank draws them, on all cores."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_mnist_cli.data.dataset import ShuffledBlocks
from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.system.machine import cores
from lora_mnist_cli.training.objective import Objective


@dataclass(frozen=True)
class Streams:
    """The random orders of some members with the same number of rows, and the rows that they are scored on.

    Args:
        orders: what draws the orders, each once.
        of: each member's place among them.
        train: per order, the rows of the training split that are scored (orders × n), int32.
        val: per order, the rows for validation; None without a validation split.
    """

    orders: list[ShuffledBlocks]
    of: list[int]
    train: Tensor
    val: Tensor | None

    @classmethod
    def drawn(cls, configs: Sequence[AdapterConfig], objective: Objective) -> Streams:
        """Split the rows for each member; members with the same seeds share them."""
        keys = [(config.seed_of("split"), config.seed_of("order")) for config in configs]
        firsts = dict(zip(reversed(keys), reversed(configs), strict=True))
        with _pool(len(firsts)) as pool:
            splits = list(pool.map(objective.split, firsts.values()))
        orders = [
            ShuffledBlocks(objective.data, rows, config.batch_size, config.seed_of("order"))
            for config, (rows, _) in zip(firsts.values(), splits, strict=True)
        ]
        train = torch.stack([rows[:TRAIN_SAMPLE].int() for rows, _ in splits])
        val = [rows.int() for _, rows in splits if rows is not None]
        places = {key: place for place, key in enumerate(firsts)}
        return cls(orders, [places[key] for key in keys], train, torch.stack(val) if val else None)


class EpochOrders:
    """Orders of one epoch after the other. The next is drawn while the device trains.

    Args:
        orders: what draws them; each has the same number of rows.
        epochs: how many will be asked for.
    """

    def __init__(self, orders: Sequence[ShuffledBlocks], epochs: int) -> None:
        self._orders, self._left = orders, epochs
        self._pool = _pool(len(orders))
        self._drawn: list[Future[Tensor]] = []
        self._draw()

    def next(self) -> Tensor:
        """Return the orders of the next epoch (orders × rows), int32."""
        drawn = torch.stack([future.result() for future in self._drawn])
        # Each order is drawn by one thread at a time, as this waits for the one before.
        self._draw()
        return drawn

    def _draw(self) -> None:
        if self._left == 0:
            self._pool.shutdown()
            return
        self._left -= 1
        self._drawn = [self._pool.submit(_drawn, order) for order in self._orders]


def _drawn(order: ShuffledBlocks) -> Tensor:
    return order.next_order().int()


def _pool(tasks: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, min(tasks, cores())))
