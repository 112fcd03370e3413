"""The report of a chain in Markdown, and the cells that the terminal's table shares with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_mnist_cli.evaluation.seeds import plus_minus
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.stages.chains.strategies import STRATEGIES
from lora_mnist_cli.stages.records.publishing import markdown_table

Document = Mapping[str, Any]
_POINTS = ("backward", "forward", "forgetting")


def columns(document: Document) -> tuple[str, ...]:
    """Return the heads of a table of strategies."""
    return ("strategy", f"on {every(document)} %", "worst seed", "old %", "new %", "BWT", "FWT", "forgot")


def every(document: Document) -> str:
    """Return the digits of all tasks; older reports, of ten, don't say it."""
    return str(document.get("all", "0-9"))


def cells(strategy: Document) -> tuple[str, ...]:
    """Return a strategy's row under :func:`columns`: means over seeds, the first with half its 95 % interval."""
    summary = strategy["summary"]
    worst = f"{_percent(summary['all']['worst'])} ({summary['all']['worst_seed']})"
    means = [_percent(summary[key]["mean"]) for key in ("old", "new")]
    points = [_points(summary[key]["mean"] if key in summary else None, 1) for key in _POINTS]
    return strategy["cure"], with_interval(summary["all"]), worst, *means, *points


def kept(strategy: Document) -> str:
    """Write what a strategy keeps beside the network; older reports don't say it."""
    if "kept_bytes" not in strategy:
        return "–"
    size = strategy["kept_bytes"]
    return "all images" if size is None else f"{size / 1000:,.0f} kB"


def seconds(strategy: Document) -> str:
    """Write how long a strategy's artifacts took to make."""
    return f"{strategy['seconds']:.1f}" if "seconds" in strategy else "–"


def title(document: Document, config: Document) -> str:
    """Return the line above a table: tasks, old and new digits, number of seeds."""
    n, last = len(config["seeds"]), f"old {document['old']}, new {document['new']}"
    return f"{' then '.join(document['tasks'])}, {last}, n = {counted(n, 'seed')}"


def with_interval(spread: Document) -> str:
    """Write a mean in percent, with half the width of its interval where there is one."""
    return plus_minus(spread["mean"], spread["low"], spread["high"], _percent)


def markdown(document: Document, config: Document, picture: str) -> str:
    """Write the whole report."""
    lines = [f"# {' then '.join(document['tasks'])}: learning one after the other", "", *section(document, config)]
    lines += ["", f"![Old against new digits for every strategy]({picture})", "", "## Seed by seed", ""]
    lines += _runs(document)
    return "\n".join([*lines, ""])


def section(document: Document, config: Document) -> list[str]:
    """Write how the chain was learned, the table of strategies, what they are, and published results."""
    n, epochs = len(config["seeds"]), config["epochs"]
    lines = [
        f"Accuracy on the test images in %, over all ten logits, with no label of the task. Recipe {config['recipe']}, "
        f"rank {config['rank']}, {counted(epochs, 'epoch')} per task; {counted(n, 'seed')}, "
        "each with its own networks. Means; ± is half the width of the mean's 95 % interval. Old digits are "
        f"{document['old']}, new ones {document['new']}. BWT, FWT (Lopez-Paz and Ranzato 2017) and forgetting "
        "(Chaudhry et al. 2018) are in points. Kept is what a later task needs beside the network.",
        "",
    ]
    head = ("strategy", f"on {every(document)}", "worst (seed)", "old digits", "new digits", "ACC", "BWT", "FWT",
            "forgetting", "kept")  # fmt: skip
    rows = []
    for strategy in document["cures"]:
        summary = strategy["summary"]
        name, mean, worst, *_ = cells(strategy)
        spreads = [with_interval(summary[key]) for key in ("old", "new")]
        points = [_points(summary[key]["mean"] if key in summary else None) for key in _POINTS]
        rows.append((f"`{name}`", mean, worst, *spreads, with_interval(summary["accuracy"]), *points, kept(strategy)))
    lines += markdown_table(head, rows, text=("strategy",))
    lines += ["", *(f"- `{strategy['cure']}`: {STRATEGIES[strategy['cure']].about}." for strategy in document["cures"])]
    if document["published"]:
        lines += ["", "Published results, with their set-up; the 64-64 network here keeps no image:", ""]
        words = ("what", "setup", "source")
        figures = [
            (*(result[key] for key in words), f"{100 * result['accuracy']:.2f}".rstrip("0").rstrip("."))
            for result in document["published"]
        ]
        lines += markdown_table(("method", "set-up", "source", "on 0-9"), figures, text=("method", "set-up", "source"))
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
                rows.append((str(run["seed"]), task, *map(_percent, row), ", ".join(f"`{name}`" for name in names)))
        lines += [*markdown_table(head, rows), ""]
    return lines[:-1]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _points(value: float | None, places: int = 2) -> str:
    return "–" if value is None else f"{100 * value:+.{places}f}"
