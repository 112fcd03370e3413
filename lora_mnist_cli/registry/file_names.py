"""Names of the files in artifacts, and what kind of statistics is in which. It imports nothing heavy."""

from __future__ import annotations

from lora_mnist_cli.models.architecture import FEATURES, PIXELS

ADAPTER_FILE = "adapter_model.safetensors"

STATISTICS_FILE = "statistics.safetensors"
"""What a stage remembers of its digits (:mod:`lora_mnist_cli.models.densities`); artifacts of old have none."""

FEATURES_FILE = "features.safetensors"
"""The same over features, in which digits are told apart better; artifacts of old have none."""

DIMENSIONS = {STATISTICS_FILE: PIXELS, FEATURES_FILE: FEATURES}
"""File of statistics → dimensions of the space that its densities are over."""
