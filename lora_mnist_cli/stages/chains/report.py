"""The report of a chain of tasks in words and Markdown tables, and the cells that the terminal shares with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lora_mnist_cli.evaluation.seeds import plus_minus
from lora_mnist_cli.stages.chains.strategies import STRATEGIES

Document = Mapping[str, Any]
_POINTS = ("backward", "forward", "forgetting")
COLUMNS = ("cure", "on 0-9 %", "worst seed", "old %", "new %", "BWT", "FWT", "forgot")


def cells(strategy: Document) -> tuple[str, ...]:
    """A cure's row under :data:`COLUMNS`: means over the seeds, the first with half the width of its 95 % interval."""
    known = strategy["summary"]
    worst = f"{_percent(known['all']['worst'])} ({known['all']['worst_seed']})"
    means = [_percent(known[key]["mean"]) for key in ("old", "new")]
    points = [_points(known[key]["mean"] if key in known else None, 1) for key in _POINTS]
    return strategy["cure"], with_interval(known["all"]), worst, *means, *points


def title(document: Document, config: Document) -> str:
    """What a table says above it."""
    n, last = len(config["seeds"]), f"old {document['old']}, new {document['new']}"
    return f"{' then '.join(document['tasks'])}, {last}, n = {n} seed{'' if n == 1 else 's'}"


def with_interval(spread: Document) -> str:
    """A mean in percent, with half the width of its interval where there is one."""
    return plus_minus(spread["mean"], spread["low"], spread["high"], _percent)


def markdown(document: Document, config: Document, picture: str) -> str:
    """The whole report."""
    lines = [f"# {' then '.join(document['tasks'])}: learning one after the other", "", *section(document, config)]
    lines += ["", f"![Old against new digits for every cure]({picture})", "", "## Seed by seed", ""]
    lines += _runs(document)
    return "\n".join([*lines, ""])


def section(document: Document, config: Document) -> list[str]:
    """How it was done, the cures' table, what they are, and what others reached."""
    n, epochs = len(config["seeds"]), config["epochs"]
    lines = [
        f"Accuracy on the test images in %, over all ten logits, with no label of the task. Recipe {config['recipe']}, "
        f"rank {config['rank']}, {epochs} epoch{'' if epochs == 1 else 's'} a task; {n} seed{'' if n == 1 else 's'}, "
        "each with networks of its own. Means; ± is half the width of the mean's 95 % interval. Old digits are "
        f"{document['old']}, new ones {document['new']}. BWT, FWT (Lopez-Paz and Ranzato 2017) and forgetting "
        "(Chaudhry et al. 2018) are in points.",
        "",
    ]
    several = n > 1
    head = ("cure", "on 0-9", "worst (seed)", "old digits", "new digits", "ACC", "BWT", "FWT", "forgetting")
    rows = []
    for strategy in document["cures"]:
        known = strategy["summary"]
        name, mean, worst, *_ = cells(strategy)
        spreads = [with_interval(known[key]) if several else _percent(known[key]["mean"]) for key in ("old", "new")]
        points = [_points(known[key]["mean"] if key in known else None) for key in _POINTS]
        rows.append((f"`{name}`", mean, worst, *spreads, with_interval(known["accuracy"]), *points))
    lines += _table(head, rows, text=1)
    lines += ["", *(f"- `{strategy['cure']}`: {STRATEGIES[strategy['cure']].about}." for strategy in document["cures"])]
    if document["published"]:
        lines += ["", "Published, and what differs from the 64-64 network here, which keeps no image:", ""]
        figures = [
            (each["what"], each["setup"], each["source"], f"{100 * each['accuracy']:.2f}".rstrip("0").rstrip("."))
            for each in document["published"]
        ]
        lines += _table(("method", "set-up", "source", "on 0-9"), figures, text=3)
    return lines


def _runs(document: Document) -> list[str]:
    lines = []
    for strategy in document["cures"]:
        lines += [f"### {strategy['title']}", ""]
        head = ("seed", "after", *(f"on {task}" for task in document["tasks"]), "answers")
        rows = []
        for run in strategy["runs"]:
            after = document["tasks"] if len(run["R"]) == len(document["tasks"]) else ["all"]
            for task, row, names in zip(after, run["R"], run["artifacts"], strict=True):
                rows.append((str(run["seed"]), task, *map(_percent, row), ", ".join(f"`{each}`" for each in names)))
        lines += [*_table(head, rows, text=0), ""]
    return lines[:-1]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int) -> list[str]:
    """A Markdown table; the columns after the first few are figures."""
    rule = "|".join("---" if place < text else "---:" for place in range(len(head)))
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _points(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{100 * value:+.{places}f}"
