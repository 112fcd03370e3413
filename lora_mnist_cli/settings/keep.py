"""Which adapters of a sweep are kept: ``all``, ``none``, the best on validation images, or one by its name.

A sweep records a row of every adapter in any case; only the weights of those that are kept are published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_mnist_cli.system.errors import UsageError, nearest

ALL, NONE, BEST = "all", "none", "best"
KEEP_WORDS = (ALL, f"{BEST}:N", NONE)
_BEST_OF = re.compile(rf"{BEST}:([0-9]{{1,9}})", re.ASCII)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Keep:
    """The adapters whose weights are published: all of them, a number of the ``best``, or the one with a ``name``.

    Both fields are None where all are kept. Validation images choose the best; test images choose nothing.
    """

    best: int | None = None
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Return what a text says: ``all``, ``none``, ``best:10``, or the name of an adapter.

        A name is taken as it is: only the sweep knows whether it has such an adapter.

        Raises:
            UsageError: for ``best:`` without a whole number from 1.
        """
        if text in (ALL, NONE):
            return cls() if text == ALL else cls(best=0)
        found = _BEST_OF.fullmatch(text)
        if found is not None and int(found[1]):
            return cls(best=int(found[1]))
        if text.partition(":")[0] == BEST or not text:
            raise UsageError(f"--keep '{text}' has no number of adapters", hint="write --keep best:10", value=text)
        return cls(name=text)

    def __str__(self) -> str:
        return self.name or {None: ALL, 0: NONE}.get(self.best, f"{BEST}:{self.best}")

    @property
    def everything(self) -> bool:
        """Whether all adapters are kept, those that diverged too."""
        return self.best is None and self.name is None

    def check(self, names: Sequence[str], val_split: float) -> None:
        """Refuse what a sweep can't keep.

        Raises:
            UsageError: where it has no adapter of the name, or no validation images to choose the best by.
        """
        if self.name is not None and self.name not in names:
            hint = nearest(self.name, names) or f"--keep takes {', '.join(KEEP_WORDS)}, or the name of one of them"
            raise UsageError(f"the sweep has no adapter '{self.name}' to keep", hint=hint, value=self.name)
        if self.best and not val_split:
            problem = f"--keep {self} chooses on validation images, and --val-split 0 leaves none"
            raise UsageError(problem, hint="give --val-split, or --keep all or none", value=str(self))

    def choose(self, rows: Sequence[Row]) -> set[str]:
        """Return the names of the rows that are kept."""
        if self.everything:
            return {row["artifact"] for row in rows}
        if self.name is not None:
            return {self.name}
        sound = [row for row in rows if row["failed"] is None and row.get("last_epoch")]
        return {row["artifact"] for row in sorted(sound, key=by_validation)[: self.best]}


def by_validation(row: Row) -> tuple[float, float, str]:
    """Return what rows are sorted by, the best first: accuracy on validation images, then the loss there, then name."""

    def figure(name: str, worst: float) -> float:
        value = row["last_epoch"][name]
        return worst if value is None or not math.isfinite(value) else float(value)

    return -figure("val_accuracy", -1.0), figure("val_loss", math.inf), row["artifact"]
