"""Training of the last layer only, a linear probe of the base's features (Alain & Bengio 2016, arXiv:1610.01644).

It is the floor for adapters of inner layers.
"""

from __future__ import annotations

from lora_mnist_cli.models.methods.full import Full

IMPLEMENTATION = Full()
