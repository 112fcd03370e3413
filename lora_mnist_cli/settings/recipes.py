"""The recipes: named sets of good settings."""

from __future__ import annotations

from dataclasses import dataclass

from lora_mnist_cli.settings.adapter_config import AdapterConfig
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
