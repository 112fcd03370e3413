"""Recorded values as people read them in tables and messages; JSON documents have the values themselves."""

from __future__ import annotations

from collections.abc import Mapping

from lora_mnist_cli.settings.grid import short


def human(value: object, *, figures: bool = False) -> str:
    """Write a value from a manifest: ``0.001``, ``fc1, fc2``, ``yes``, ``none``, ``fc1: 784, 64; fc2: 64, 64``.

    Args:
        figures: whether numbers are results, which have a comma in the thousands and four significant digits. A setting
            is shown exactly, because it can be typed as an option.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(value, figures)
    if isinstance(value, Mapping):
        parts = [(key, human(each, figures=figures), isinstance(each, Mapping)) for key, each in value.items()]
        return "; ".join(f"{key} ({text})" if nested else f"{key}: {text}" for key, text, nested in parts) or "none"
    if isinstance(value, (list, tuple)):
        if any(isinstance(each, (Mapping, list, tuple)) for each in value):
            return f"{len(value):,} rows, which --json shows"
        return ", ".join(human(each, figures=figures) for each in value) or "none"
    return str(value or "none")


def _number(value: float, figures: bool) -> str:
    if figures:
        return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
    return short(value)
