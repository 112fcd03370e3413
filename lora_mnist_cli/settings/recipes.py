"""The recipes: named sets of good settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import PROTECTION_SETTINGS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.system.errors import refuse_unknown


@dataclass(frozen=True)
class Recipe:
    """A named set of hyperparameters for both stages of training."""

    about: str
    base: BaseConfig
    adapter: AdapterConfig


RECIPES = {
    "reference": Recipe("The original study's settings, to the letter.", BaseConfig(), AdapterConfig()),
    # Chosen on validation data by benchmarks/tuned_recipe.py; docs/tuned-recipe.md has all trials.
    "tuned": Recipe(
        "The best settings found for adapters, on the same base: a higher rate that falls with the rank, and a cosine.",
        BaseConfig(),
        AdapterConfig(lr=2.4e-2, lr_power=0.375, schedule="cosine", weight_decay=0.03, val_split=0.05),
    ),
}


def recipe(name: str) -> Recipe:
    """Return the recipe with a name.

    Raises:
        UsageError: for an unknown name.
    """
    refuse_unknown("recipe", name, list(RECIPES), "recipes:")
    return RECIPES[name]


def recipe_of(config: AdapterConfig) -> str | None:
    """Return the recipe, other than the reference, that an adapter's config follows, or None.

    Digits, rank, seed, layers, epochs and protections are no part of a recipe.
    """
    left_open = ("digits", "rank", "seed", "target_layers", "vary", "held_seed", "epochs", "protect")
    others = (name for name in RECIPES if name != "reference")
    return next((n for n in others if follows(config, RECIPES[n].adapter, left_open + PROTECTION_SETTINGS)), None)


def follows(config: AdapterConfig, known: AdapterConfig, left_open: Iterable[str]) -> bool:
    """Tell whether a config equals a known one in all fields except those left open."""
    fixed = {f.name for f in fields(known)}.difference(left_open)
    return all(getattr(config, name) == getattr(known, name) for name in fixed)
