"""What can be chosen, by name: methods, protections, ways to combine, and the words that options take.

Each row holds a name, its sentence for help and tables, and the flags that settings need to check themselves. The code
that does the work lives in its own room, in a module with the same name as the row, and :func:`implementation` finds
it there: a new method is a row here and a file in :mod:`lora_mnist_cli.models.methods`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "plateau", "cosine")
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
SCALINGS = ("constant", "standard", "rslora")
TRAINED = ("both", "A", "B")
"""Which of LoRA's factors are trained; the other one stays as it is at the start."""
VARIED = ("all", "init", "order", "split")
"""What the seed of an adapter decides: all random streams, or one of them."""
ROUTES = ("fused", "mixture", "choose", "densities")
"""How experts answer: each multiplied by the density of its digits' features; weighted by their probability of being
the right one; only the likeliest; or not at all, so that the densities of features decide alone."""
DATASETS = ("mnist", "fashion-mnist", "kmnist", "qmnist", "emnist-digits")
ACCELERATORS = ("auto", "cpu", "gpu")
ENGINES = ("plain", "lightning", "fused")
"""What drives the epochs of a training: a loop, Lightning's Trainer, or one GPU kernel per epoch for LoRA adapters. The
bytes are the same for the first two, and the numbers to rounding for the third."""
LOGGERS = ("csv", "tensorboard", "mlflow", "wandb")
BACKENDS = ("local", "processes", "ray")


@dataclass(frozen=True)
class MethodChoice:
    """A way to adapt a frozen base, in words: in pictures, and in tables and help.

    Args:
        unused: fields of the config that mean nothing to it; ``rank`` is 0 where it is one of them.
        in_banks: whether banks can train it; adapters of other methods are trained one after the other.
        random_start: whether its start draws random numbers.
        last_layer_only: whether it trains only the last layer.
    """

    title: str
    about: str
    unused: tuple[str, ...] = ()
    in_banks: bool = False
    random_start: bool = False
    last_layer_only: bool = False

    @property
    def ranked(self) -> bool:
        """Whether it has a rank."""
        return "rank" not in self.unused


_UNUSED_WITHOUT_FACTORS = ("rank", "rank_pattern", "scaling", "init", "dropout", "train", "lr_ratio_b")
_WITHOUT_SCALING = ("alpha", "rank_pattern", "scaling", "init", "train", "lr_ratio_b")
_WITHOUT_FACTORS = ("alpha", "rank_pattern", "scaling", "init", "dropout", "train", "lr_ratio_b")

METHODS = {
    "lora": MethodChoice("LoRA", "low-rank product beside the weight", in_banks=True, random_start=True),
    "dora": MethodChoice("DoRA", "magnitude and direction apart", unused=("train",), random_start=True),
    "pissa": MethodChoice("PiSSA", "LoRA from the principal singular values", unused=("init", "train"), in_banks=True),
    "vera": MethodChoice(
        "VeRA", "scales of a random product", unused=_WITHOUT_SCALING, in_banks=True, random_start=True
    ),
    "randlora": MethodChoice(
        "RandLoRA", "scales of random products, of full rank in sum", unused=_WITHOUT_SCALING, random_start=True
    ),
    "delora": MethodChoice(
        "DeLoRA",
        "strength and angles of a low-rank product apart",
        unused=("alpha", "scaling", "init", "train", "lr_ratio_b"),
        in_banks=True,
        random_start=True,
    ),
    "lokr": MethodChoice(
        "LoKr", "a Kronecker product of two small matrices", unused=("init", "train", "lr_ratio_b"), random_start=True
    ),
    "miss": MethodChoice(
        "MiSS", "one matrix that all shards of the weight share", unused=_WITHOUT_SCALING, in_banks=True
    ),
    "hra": MethodChoice(
        "HRA", "a chain of reflections of the weight, two per rank", unused=_WITHOUT_FACTORS, random_start=True
    ),
    "ia3": MethodChoice("(IA)³", "a multiplier of each input", unused=("rank", *_WITHOUT_FACTORS)),
    "bitfit": MethodChoice("BitFit", "the biases alone", unused=("rank", *_WITHOUT_FACTORS)),
    "full": MethodChoice("Full fine-tuning", "every weight and bias, the yardstick", unused=_UNUSED_WITHOUT_FACTORS),
    "head": MethodChoice("Last layer", "the last layer alone", unused=_UNUSED_WITHOUT_FACTORS, last_layer_only=True),
}


@dataclass(frozen=True)
class StartChoice:
    """A start of LoRA's factors that is computed instead of drawn, in words.

    Args:
        moves_weight: whether B A is not zero at the start; it is then subtracted from the weight, so that nothing
            changes.
        needs_statistics: whether it is computed from samples of the base's class statistics.
    """

    about: str
    moves_weight: bool = True
    needs_statistics: bool = False


STARTS = {
    "olora": StartChoice("QR decomposition of the weight"),
    "eva": StartChoice("principal directions of new inputs", moves_weight=False),
    "corda": StartChoice("what the weight does least on old inputs", needs_statistics=True),
    "lora-null": StartChoice("the weight in the null space of old inputs", needs_statistics=True),
    "lora-ga": StartChoice("singular vectors of the gradient"),
}
DRAWN = ("reference", "kaiming", "gaussian", "orthogonal")
"""Starts that are random numbers."""
INITS = (*DRAWN, *STARTS)


@dataclass(frozen=True)
class ProtectionChoice:
    """A way to keep what the base knows, in words, with the fields of the adapter's config that belong to it alone."""

    about: str
    settings: tuple[str, ...] = ()
    needs_statistics: bool = False


PROTECTIONS = {
    "replay": ProtectionChoice(
        "samples of the base's class statistics are learned along", ("replay_old", "replay_new"), needs_statistics=True
    ),
    "nullspace": ProtectionChoice(
        "adapters are kept orthogonal to the old inputs' dominant directions", ("nullspace_energy",),
        needs_statistics=True,
    ),
    "mask": ProtectionChoice("the loss of an image sees the logits of the digits to learn alone"),
    "distill": ProtectionChoice(
        "among the old digits the base's answers are kept (learning without forgetting)", ("distill_weight",)
    ),
}  # fmt: skip

PROTECTION_SETTINGS = tuple(name for choice in PROTECTIONS.values() for name in choice.settings)
"""Fields of an adapter's config that are the strengths of protections."""


def protections_in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Sort protections as the table does, so that the same protections are the same settings; unknown ones last."""
    known = list(PROTECTIONS)
    return tuple(sorted(names, key=lambda name: known.index(name) if name in known else len(known)))


@dataclass(frozen=True)
class CombinerChoice:
    """A way to make one adapter of several, in words.

    An ``exact`` one keeps the whole sum, in factors put side by side, rather than what a rank can hold of it. The
    ``density`` is the share of entries that it keeps where none is given; None for a way that keeps all.
    """

    about: str
    exact: bool = False
    density: float | None = None
    random: bool = False


COMBINERS = {
    "linear": CombinerChoice("the weighted sum, exactly; the ranks add up", exact=True),
    "svd": CombinerChoice("the best approximation of the weighted sum"),
    "ties": CombinerChoice("largest entries, a sign by vote, the mean of those that agree", density=0.2),
    "dare": CombinerChoice("entries dropped at random, the rest rescaled, then the sum", density=0.5, random=True),
}


CLAIMS = {
    "less-forgetting": "LoRA learns less and forgets less",
    "best-rate": "the best rate is ten times full fine-tuning's, at any rank",
    "rank-stable": "high ranks learn with rsLoRA alone",
    "lora-plus": "B wants a higher rate than A",
    "one-factor": "B alone does as well as both factors, A alone does not",
    "intruders": "intruder dimensions come with forgetting",
    "variants": "variants are within a point at their own rates",
    "intrinsic-dimension": "few numbers solve the task",
    "pissa-start": "PiSSA starts faster",
}
"""Claims of papers that the study of papers tries: name → in a few words."""


def implementation(package: str, name: str) -> Any:
    """Return ``IMPLEMENTATION`` of the module with a choice's name, for example ``dora`` in ``models.methods``.

    A ``-`` in the name is a ``_`` in that of the module.

    Raises:
        ModuleNotFoundError: where the package has no such module.
    """
    return import_module(f"{package}.{name.replace('-', '_')}").IMPLEMENTATION
