"""Reading subset scores, as they stand in a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Subsets = Sequence[Mapping[str, Any]]


def accuracy_of(subsets: Subsets, digits: str) -> float | None:
    """The accuracy (a fraction) on a digit set in canonical form, or None where it was not scored or has no images."""
    for subset in subsets:
        if subset["digits"] == digits:
            accuracy = subset["accuracy"]
            return None if accuracy is None or not math.isfinite(accuracy) else float(accuracy)
    return None
