"""The laws of LoRA and of other methods: functions that try models of an implementation and return evidence.

They raise ``BrokenError`` where a law is broken. The evidence of a law that holds is its distance from being broken, or
:data:`~lora_mnist_cli.conformance.laws.law.EXACT` for bits that had to be equal. One file per topic; the laws of other
methods are in :mod:`~lora_mnist_cli.conformance.laws.methods`.
"""

from __future__ import annotations

from lora_mnist_cli.conformance.laws import alpha, merging, methods, start, use
from lora_mnist_cli.conformance.laws.law import Law

LAWS: dict[str, Law] = start.LAWS | alpha.LAWS | merging.LAWS | use.LAWS
"""Laws of LoRA by name, in the order in which they are tried."""

_OF_ALL = ("modes", "alpha-0", "unmerge-exact", "load-strict")
"""Laws of LoRA that need neither its factors nor its formula, so that every method has to keep them."""


def laws_of(method: str) -> dict[str, Law]:
    """Return the laws of a method by name, in the order in which they are tried."""
    if method == "lora":
        return LAWS
    own = {name: law for name, law in methods.LAWS.items() if methods.fits(name, method)}
    return own | {name: LAWS[name] for name in _OF_ALL}
