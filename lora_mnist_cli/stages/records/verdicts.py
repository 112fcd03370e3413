"""Differences of accuracies and what they show, in words."""

from __future__ import annotations

from typing import Any

from lora_mnist_cli.evaluation import seed_planning
from lora_mnist_cli.settings.lists import counted
from lora_mnist_cli.system.errors import UsageError

Document = dict[str, Any]


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is not between a half and one."""
    if not 0.5 <= confidence < 1:
        hint = "write it as a fraction, 0.95"
        raise UsageError(f"a confidence is from 0.5 to below 1, not {confidence:g}", hint=hint, value=confidence)


def points(difference: float) -> str:
    """Return a difference of accuracies as ``+0.42 points``."""
    return f"{100 * difference:+.2f} points"


def evidence(difference: Document, p_value: float, confidence: float) -> str:
    """Return a mean difference with its interval and p-value: ``+0.42 points (95 % interval …), p = 0.03``."""
    interval = ""
    if difference["low"] is not None:
        low, high = (f"{100 * difference[key]:+.2f}" for key in ("low", "high"))
        interval = f" ({100 * confidence:g} % interval {low} to {high})"
    return f"{points(difference['mean'])}{interval}, p = {p_value:.2g}"


def judge_seeds(row: Document, tests: int, confidence: float) -> None:
    """Add to a comparison over seeds which side is better, how many seeds would tell, and both in words.

    Args:
        row: with the sides ``a`` and ``b``, ``seeds``, the spread ``difference`` (b − a), ``p_value`` and ``p_holm``.
        tests: how many comparisons are made at once.
    """
    difference, n = row["difference"], len(row["seeds"])
    least = seed_planning.fewest_pairs(tests, confidence)
    needed = None
    if n >= 2 and difference["sd"] > 0:
        # As strict as the first step of Holm's adjustment.
        needed = seed_planning.seeds_needed(difference["mean"], difference["sd"], 1 - (1 - confidence) / tests)
        needed = None if needed is None else max(needed, least)
    decided = row["p_holm"] is not None and row["p_holm"] <= 1 - confidence + 1e-12
    better = None if not decided else row["b"] if difference["mean"] > 0 else row["a"]
    row |= {"better": better, "seeds_needed": needed}
    if not n:
        row["verdict"] = "The data can't tell: no seed has a figure in both."
        return
    shown = evidence(difference, row["p_value"], confidence)
    if tests > 1:
        shown += f" ({row['p_holm']:.2g} after Holm's adjustment for {tests} comparisons)"
    shown += f", {counted(n, 'seed')}"
    if better is not None:
        row["verdict"] = f"{better} is better: {row['b']} − {row['a']} is {shown}."
        return
    verdict = f"The data can't tell: {shown}."
    if n < least:
        verdict += f" {counted(n, 'seed')} cannot reach significance; use at least {least}."
    if needed is not None and needed > n:
        verdict += f" If this difference and spread are the true ones, {needed:,} seeds would show it with 80 % power."
    elif n >= least and difference["sd"] == 0 and difference["mean"] == 0:
        verdict += " There is no difference in any seed."
    elif needed is None and n >= 2 and difference["sd"] > 0:
        verdict += f" No number of seeds up to {seed_planning.MAX_SEEDS:,} would show a difference as small as that."
    row["verdict"] = verdict


def judge_models(row: Document, confidence: float) -> None:
    """Add to a comparison of two models over images which one is better, and the verdict in words.

    Args:
        row: with the models ``a`` and ``b``, ``images``, the counts ``only_a`` and ``only_b``, ``difference`` (b − a),
            ``p_value`` and ``images_needed``.
    """
    difference, count = row["difference"], row["images"]
    decided = row["p_value"] <= 1 - confidence
    row["better"] = None if not decided else row["b"] if difference["mean"] > 0 else row["a"]
    shown = f"{evidence(difference, row['p_value'], confidence)}, {count:,} images"
    if row["better"]:
        verdict = f"{row['better']} is better on these images: {row['b']} − {row['a']} is {shown}."
    else:
        verdict = f"The data can't tell: {shown}."
        if row["images_needed"]:
            verdict += f" {row['images_needed']:,} images would show it with 80 % power."
        elif not row["only_a"] + row["only_b"]:
            verdict += " They are right and wrong on the same images."
    least = seed_planning.fewest_pairs(1, confidence)
    row["verdict"] = (
        f"{verdict} This is about these two models. Whether one recipe is better, seeds show, at least {least}: "
        "compare two sweeps with --seeds 0-9."
    )
