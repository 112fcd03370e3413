"""About how long each kind of work takes on an ordinary machine, for the plans that stages report.

All figures are of one core of a small server (docs/performance.md). Only how they relate to each other matters: whoever
shows the time left measures the machine at hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig, TrainingConfig, training_images
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import IMAGES, SCORING, STATISTICS, TRAINING

IMAGES_PER_DIGIT = 6000
READING, READING_ALL, SCORING_ONE, SCORING_ROUTED = 0.5, 1.0, 0.08, 0.4
PROBES = {"untrained": 5.0, "base": 2.0, "adapter": 2.5}
"""Fitting the linear probes of all hidden layers of a network: the worse its features, the more steps it takes."""
PICTURE = 0.6
PAGE_OF_ADAPTER = 0.5
"""Scoring an adapter at every alpha of the page to explore."""
_IMPORTS = {"torch": 2.0, "matplotlib": 0.5}
_BASE_STEP, _ALONE_STEP, _MEMBER_STEP, _BANK_STEP = 0.55e-3, 0.7e-3, 0.2e-3, 0.28e-3
_FISHER_OF_IMAGE, _REHEARSED_ROW = 4e-5, 8e-6
_POINT_OF_IMAGE, _PRODUCT_OF_IMAGE, _SOLVED = 2e-5, 1.5e-11, 3e-11
_STATISTICS, _STATISTICS_OF_IMAGE = 0.6, 3e-5


def loading(*packages: str) -> float:
    """Return the seconds that importing packages takes: PyTorch by default, and nothing for what is there."""
    return sum(_IMPORTS[package] for package in packages or ("torch",) if package not in sys.modules)


def loading_in_processes() -> float:
    """Return the seconds until processes have PyTorch."""
    return _IMPORTS["torch"]


def of_base(config: BaseConfig) -> Work:
    """Return the work of training, scoring and publishing a base."""
    return {
        IMAGES: READING, TRAINING: config.epochs * _steps(config, _rows(config, config.digits)) * _BASE_STEP,
        STATISTICS: statistics(config, config.digits), SCORING: SCORING_ONE,
    }  # fmt: skip


def of_bank(configs: Sequence[AdapterConfig], base_digits: DigitSet) -> dict[str, float]:
    """Return the work of training, scoring and publishing adapters of one bank, whose digits are known."""
    first, digits = configs[0], configs[0].digits
    assert digits is not None
    epoch = sum(_steps(config, _rows(config, digits, base_digits)) for config in configs)
    fixed = epoch / len(configs) * _BANK_STEP if not first.alone else 0.0
    training = first.epochs * (epoch * (_ALONE_STEP if first.alone else _MEMBER_STEP) + fixed)
    splits = len({(config.val_split, config.seed_of("split")) for config in configs})
    return {
        IMAGES: READING, TRAINING: training, STATISTICS: splits * statistics(first, digits),
        SCORING: len(configs) * SCORING_ONE,
    }  # fmt: skip


def of_ewc(config: BaseConfig, digits: DigitSet) -> Work:
    """Return the work of learning one more task by elastic weight consolidation."""
    rows = _rows(config, digits)
    training = config.epochs * _steps(config, rows) * _BASE_STEP
    return {TRAINING: training, SCORING: SCORING_ONE, STATISTICS: _FISHER_OF_IMAGE * rows}


def of_rehearsal(config: BaseConfig, tasks: Sequence[DigitSet]) -> Work:
    """Return the work of learning the last of some tasks and rehearsing all; the first was learned already."""
    rows = _rows(config, tasks[-1]) + 2 * sum(_rows(config, task) for task in tasks)
    training = config.epochs * rows * _REHEARSED_ROW if len(tasks) > 1 else 0.0
    return {TRAINING: training, SCORING: SCORING_ONE, STATISTICS: statistics(config, tasks[-1])}


def of_closed_form(config: BaseConfig, digits: DigitSet, width: int) -> Work:
    """Return the work of a baseline in closed form on points of that width, or of none but the images."""
    seconds = _rows(config, digits) * (_POINT_OF_IMAGE + width * width * _PRODUCT_OF_IMAGE)
    return {STATISTICS: seconds, SCORING: SCORING_ONE + width**3 * _SOLVED}


def statistics(config: TrainingConfig, digits: DigitSet) -> float:
    """Return the seconds that the statistics of a training split take."""
    return _STATISTICS + _STATISTICS_OF_IMAGE * _rows(config, digits)


def _rows(config: TrainingConfig, digits: DigitSet, base_digits: DigitSet | None = None) -> int:
    """Return about how many rows an epoch has, sampled ones included."""
    images = IMAGES_PER_DIGIT * len(digits)
    sampled = 0
    if isinstance(config, AdapterConfig) and base_digits is not None:
        sampled = sum(config.sample_counts(images, base_digits))
    return training_images(images + sampled, config.val_split)


def _steps(config: TrainingConfig, rows: int) -> float:
    return rows / config.batch_size
