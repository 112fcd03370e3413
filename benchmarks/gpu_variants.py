"""The ways to compile the fused kernels, side by side: products, tiles, warps, stages and the type of pixels.

``gpu.py --variants`` runs it. A compilation takes seconds of one core, so all kernels are compiled first, in processes
side by side, into the cache on disk that the timings then read.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from harness import table, timed

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.original_study import BASE_DIGITS, NEW_DIGITS
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.system.machine import cores
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused import images as device_images
from lora_mnist_cli.training.fused import tuning
from lora_mnist_cli.training.fused.tuning import Tuning
from lora_mnist_cli.training.outcomes import Outcome
from lora_mnist_cli.training.trainer import fit


@dataclass(frozen=True)
class Setting:
    """What all parts start from, and how large they are.

    Args:
        config: an adapter's, for one epoch.
        toy: whether everything is tiny.
    """

    base: MNISTModel
    train: MNISTDataset
    test: MNISTDataset
    config: AdapterConfig
    toy: bool
    rounds: int


@dataclass(frozen=True)
class Variant:
    """A way to compile the kernels for a rank."""

    rank: int
    tuning: Tuning
    pixels: str = "uint8"

    def __str__(self) -> str:
        t = self.tuning
        return f"rank {self.rank}, {t.way}, tile {t.tile}, {t.warps} warps, {t.stages} stages, {self.pixels}"


def make_setting(*, toy: bool, rounds: int) -> Setting:
    """Load the images, and train the base that all adapters are on; without a GPU, have the interpreter compute."""
    learn, test = MNISTDataset.load("train", NEW_DIGITS), MNISTDataset.load("test")
    torch.manual_seed(0)
    base = MNISTModel((12, 9) if toy else (64, 64))
    config = AdapterConfig(epochs=1, batch_size=16 if toy else 64, digits=NEW_DIGITS)
    if not toy:
        fit(base, MNISTDataset.load("train", BASE_DIGITS), BaseConfig(epochs=3), runtime=Runtime(accelerator="cpu"))
        return Setting(base, learn, test, config, toy, rounds)
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"
        tuning.SCORING = Tuning(tile=1024)
        tuning.TRAINING.update(dict.fromkeys(tuning.TRAINING, tuning.SCORING))
    learn, test = (MNISTDataset(*each[:40], each.pixel_stats) for each in (learn, test))
    return Setting(base, learn, test, config, toy, 1)


def trained(
    setting: Setting, configs: Sequence[AdapterConfig], runtime: Runtime, *, test: bool = False
) -> tuple[list[MNISTModel], Callable[[], list[Outcome]]]:
    """Make the members' models, and return them with the call that trains them."""
    models = [twin(setting.base, config) for config in configs]
    scored = setting.test if test else None
    return models, partial(fit_bank, models, setting.train, configs, runtime=runtime, test=scored)


@contextmanager
def tuned(chosen: dict[int, Tuning], pixels: str = "uint8") -> Iterator[None]:
    """Train with other choices inside the block."""
    before = dict(tuning.TRAINING), device_images.PIXEL_TYPE
    tuning.TRAINING.update(chosen)
    device_images.PIXEL_TYPE = getattr(torch, pixels)
    try:
        yield
    finally:
        tuning.TRAINING.update(before[0])
        device_images.PIXEL_TYPE = before[1]


def compare_variants(setting: Setting, time_left: Callable[[], bool]) -> tuple[dict[str, list[float | str]], str]:
    """Time an epoch of a full device, and at rank 8 of eight times as many adapters; return figures and a table."""
    figures: dict[str, list[float | str]] = {}
    variants = _variants(toy=setting.toy)
    _compile(variants, toy=setting.toy)
    full, eight = (1, 2) if setting.toy else (132, 1056)
    for variant in variants:
        if time_left():
            counts = (full, eight) if variant.rank == 8 else (full,)
            figures[str(variant)] = [_clock(setting, variant, count) for count in counts]
    head = ("one epoch, scores included", f"{full} adapters, ms", f"{eight} adapters, ms")
    rows = [(name, *(_shown(clock) for clock in (*clocks, None)[:2])) for name, clocks in figures.items()]
    return figures, table(head, rows)


def _shown(clock: float | str | None) -> str:
    return f"{1000 * clock:.1f}" if isinstance(clock, float) else clock or "–"


def _variants(*, toy: bool) -> list[Variant]:
    ways = ("ieee", "tf32x3", "bf16x6")
    choices = ((64, 4, 2), (128, 4, 2), (64, 8, 2), (32, 8, 2), (128, 8, 3))
    if toy:
        return [Variant(8, Tuning(tile=1024, way=way)) for way in ways]
    full = [
        Variant(rank, Tuning(tile, warps, stages, way))
        for rank in (8, 64, 32) for way in ways for tile, warps, stages in choices
    ]  # fmt: skip
    wide = [
        dataclasses.replace(each, pixels="bfloat16") for each in full if each.tuning.way != "ieee" and each.rank != 32
    ]
    return full + wide


def _compile(variants: Sequence[Variant], *, toy: bool) -> None:
    """Compile all kernels, side by side."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(cores(), 12, len(variants))), context) as pool:
        list(pool.map(partial(_compile_one, toy=toy), variants))


def _compile_one(variant: Variant, *, toy: bool) -> None:
    """Train one adapter on few images, with a network of full size, which compiles what the timings need."""
    few = make_setting(toy=True, rounds=1)
    setting = (
        few
        if toy
        else dataclasses.replace(few, base=MNISTModel(), config=dataclasses.replace(few.config, batch_size=64))
    )
    _clock(setting, variant, 1)


def _clock(setting: Setting, variant: Variant, count: int) -> float | str:
    """Return the seconds of an epoch, or what went wrong."""
    configs = [
        dataclasses.replace(setting.config, rank=variant.rank, seed=number % 10, lr=1e-3 * (1 + number / 1e3))
        for number in range(count)
    ]
    with tuned(dict.fromkeys(tuning.TRAINING, variant.tuning), variant.pixels):
        try:
            trained(setting, configs, Runtime(engine="fused"))[1]()
            return timed(f"{variant}, {count} adapters", trained(setting, configs, Runtime(engine="fused"))[1]).clock
        except Exception as error:  # noqa: BLE001 - a compiler's errors are of any kind
            return type(error).__name__
