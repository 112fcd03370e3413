"""Ranks of single layers: ``fc1=8,fc2=4`` as an option takes them, ``fc2r4-fc3r2`` as settings and names hold them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from lora_mnist_cli.system.errors import UsageError

UNIFORM = "uniform"
"""The pattern of one rank for all layers."""
_PART = re.compile(r"(fc[1-9][0-9]{0,2})r([1-9][0-9]{0,5})", re.ASCII)
_GIVEN = re.compile(r"\s*(fc[1-9][0-9]{0,2})\s*=\s*([0-9]{1,6})\s*", re.ASCII)


def pattern_of(ranks: Mapping[str, int], rank: int) -> str:
    """Write the ranks of layers that differ from the adapter's rank, in the layers' order: ``fc2r4-fc3r2``."""
    parts = [f"{layer}r{own}" for layer, own in sorted(ranks.items(), key=_place) if own != rank]
    return "-".join(parts) or UNIFORM


def ranks_in(pattern: str) -> dict[str, int]:
    """Return layer → rank of a pattern that holds; nothing for ``uniform``."""
    if pattern == UNIFORM:
        return {}
    return {layer: int(rank) for layer, rank in (_PART.fullmatch(part).groups() for part in pattern.split("-"))}  # type: ignore[union-attr]


def is_pattern(_: str, pattern: object) -> Iterator[str]:
    """Hold where a value is a pattern, as :func:`pattern_of` writes it."""
    parts = pattern.split("-") if isinstance(pattern, str) and len(pattern) <= 1000 else [""]
    if pattern == UNIFORM:
        return
    found = [_PART.fullmatch(part) for part in parts]
    layers = [match[1] for match in found if match]
    if None in found or layers != sorted(set(layers), key=lambda layer: int(layer[2:])):
        yield f"a rank pattern is {UNIFORM}, or layers in their order as fc2r4-fc3r2, not {str(pattern)[:80]!r}"


def parse_rank(text: str) -> dict[str, Any]:
    """Parse ``8``, or ranks of layers as ``fc1=8,fc2=4``, to the settings that they stand for.

    The adapter's rank is the highest, and the layers are those that are named.

    Raises:
        UsageError: for any other text, and for a layer that is named twice.
    """
    if re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip(), re.ASCII):
        return {"rank": int(text)}
    found = [_GIVEN.fullmatch(part) for part in text.split(",")]
    ranks = {match[1]: int(match[2]) for match in found if match}
    if None in found or len(ranks) != len(found):
        hint = "write 8, or fc1=8,fc2=4, each layer once"
        raise UsageError(f"'{text}' is not a whole number, and no ranks of layers", hint=hint, value=text)
    rank = max(ranks.values())
    layers = tuple(layer for layer, _ in sorted(ranks.items(), key=_place))
    return {"rank": rank, "rank_pattern": pattern_of(ranks, rank), "target_layers": layers}


def _place(item: tuple[str, int]) -> int:
    return int(item[0][2:])
