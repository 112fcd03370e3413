"""Training the last layer alone, a linear probe (Alain & Bengio 2016, arXiv:1610.01644): what the base's features are
worth without changing them. It is the floor that adapters of inner layers are measured by.
"""

from __future__ import annotations

from lora_mnist_cli.models.methods.full import Full


class Head(Full):
    """Full fine-tuning of one layer, the last."""


IMPLEMENTATION = Head()
