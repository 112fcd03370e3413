"""A claim of a paper: what is measured, what the claim predicts of it, and the verdict. No torch.

A claim predicts a range for each of its figures, for example a difference above 0. The mean over seeds has an interval.
Where the interval lies wholly inside the range, the figure agrees; wholly outside, it disagrees; otherwise nobody can
tell. This is the rule of ``gate``, and it is the same for every claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.evaluation.intervals import CONFIDENCE, mean_interval

if TYPE_CHECKING:
    from lora_mnist_cli.stages.papers.seed_runs import SeedRuns

HOLDS, FAILS, UNKNOWN = "holds here", "does not hold here", "can't tell"
VERDICT_CONFIDENCE = 0.99
"""Of the intervals that decide. Those that are shown have 95 %: a verdict by them would change with the seeds in one
of twenty figures, and a claim has several."""
FEWEST = 5
"""Seeds that a verdict needs: the deviation of fewer is a guess."""

Document = dict[str, Any]
Point = tuple[float | str, float | None]


@dataclass(frozen=True)
class Figure:
    """A figure of each seed, and the range that the claim predicts for its mean.

    Args:
        key: its name among the measurements.
        what: says what it is, in the table.
        unit: ``points`` or ``%`` for fractions that are shown times 100; ``times`` for ratios, whose logarithms are
            averaged; empty for plain numbers.
        low, high: the ends of the range, in the unit of the measurement (a ratio, not its logarithm); both None where
            the claim predicts nothing and the figure is only shown.
    """

    key: str
    what: str
    unit: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def decides(self) -> bool:
        """Whether the claim predicts anything of it."""
        return self.low is not None or self.high is not None

    def summary(self, values: Sequence[float | None]) -> Document:
        """Return the figure over seeds: ``mean``, ``low`` and ``high`` (95 %), ``n``, ``each`` and the ``verdict``.

        A seed without a figure, one that is not finite, or a ratio that is not above 0 leaves no mean and no verdict.
        """
        row: Document = {"key": self.key, "what": self.what, "unit": self.unit}
        row |= {"predicted_low": self.low, "predicted_high": self.high, "n": len(values)}
        row |= dict.fromkeys(("mean", "low", "high"))
        row["verdict"] = UNKNOWN if self.decides else None
        ratio = self.unit == "times"
        usable = [v if v is not None and math.isfinite(v) and (v > 0 or not ratio) else None for v in values]
        found = [value for value in usable if value is not None]
        row["each"] = usable
        if len(found) < len(values) or not found:
            return row
        numbers = [math.log(value) for value in found] if ratio else found
        back: Callable[[float], float] = math.exp if ratio else float
        shown = mean_interval(numbers, CONFIDENCE)
        row["mean"] = back(shown.mean)
        if shown.interval is None:
            return row
        row |= {"low": back(shown.interval.low), "high": back(shown.interval.high)}
        strict = mean_interval(numbers, VERDICT_CONFIDENCE).interval
        assert strict is not None
        if self.decides and len(found) >= FEWEST:
            row["verdict"] = self.verdict(back(strict.low), back(strict.high))
        return row

    def verdict(self, low: float, high: float) -> str:
        """Return what an interval of the mean says of the prediction."""
        first, last = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if low > first and high < last:
            return HOLDS
        return FAILS if high < first or low > last else UNKNOWN


@dataclass(frozen=True)
class Panel:
    """A panel of a claim's picture, of lines that are means over seeds.

    Args:
        key: its name among the measured curves.
        x, y: what the axes show; ``log_x`` and ``log_y`` make an axis logarithmic.
        percent: whether the values at y (and at x, where ``percent_x``) are fractions that are shown in per cent.
    """

    key: str
    title: str
    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    percent: bool = False
    percent_x: bool = False


@dataclass
class Measured:
    """What a claim measured with one seed.

    Attributes:
        figures: key → value; None where it could not be measured.
        curves: panel → line → points (x, y), the same number for every seed.
    """

    figures: dict[str, float | None] = field(default_factory=dict)
    curves: dict[str, dict[str, Sequence[Point]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Args:
        claim: one sentence.
        source: authors, year and arXiv number.
        differs: how the set-up differs from the paper's.
        run: what is run.
        refuted: what would refute it.
        figures: what is measured; it holds where all that decide agree, and does not where one disagrees.
        measure: measures it with one seed.
    """

    claim: str
    source: str
    differs: str
    run: str
    refuted: str
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]
    measure: Callable[[SeedRuns], Measured]

    def outcome(self, measured: Sequence[Measured]) -> Document:
        """Return the claim's figures over seeds with its verdict, and its curves."""
        rows = [figure.summary([each.figures[figure.key] for each in measured]) for figure in self.figures]
        words = {"claim": self.claim, "source": self.source, "differs": self.differs, "run": self.run}
        words["refuted"] = self.refuted
        panels = [{**vars(panel), "lines": mean_lines([each.curves[panel.key] for each in measured], log=panel.log_y)}
                  for panel in self.panels]  # fmt: skip
        return {**words, "verdict": overall([row["verdict"] for row in rows]), "figures": rows, "panels": panels}


def overall(verdicts: Sequence[str | None]) -> str:
    """Return the verdict on a claim by those on its figures; None is of a figure that decides nothing."""
    if FAILS in verdicts:
        return FAILS
    return UNKNOWN if UNKNOWN in verdicts else HOLDS


def mean_lines(seeds: Sequence[Mapping[str, Sequence[Point]]], *, log: bool = False) -> list[Document]:
    """Return each line of a panel as the means over seeds, with 95 % intervals; a point without a figure is None.

    Args:
        log: take the means of the logarithms, as a logarithmic axis shows them.
    """
    there, back = (math.log, math.exp) if log else (float, float)
    lines = []
    for label in seeds[0]:
        points = []
        for same in zip(*(curves[label] for curves in seeds), strict=True):
            xs, ys = [x for x, _ in same], [y for _, y in same if y is not None and math.isfinite(y)]
            ys = [y for y in ys if y > 0] if log else ys
            x = xs[0] if isinstance(xs[0], str) else math.fsum(float(value) for value in xs) / len(xs)
            point: Document = {"x": x, "mean": None, "low": None, "high": None}
            if len(ys) == len(same):
                over = mean_interval([there(y) for y in ys])
                point["mean"] = back(over.mean)
                if over.interval is not None:
                    point |= {"low": back(over.interval.low), "high": back(over.interval.high)}
            points.append(point)
        lines.append({"label": label, "points": points})
    return lines
