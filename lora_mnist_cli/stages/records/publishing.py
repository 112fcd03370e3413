"""Publishing what was not trained here: reports with Markdown tables, and adapters that were combined or imported."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet, reporting_sets
from lora_mnist_cli.stages.workspace import Making, Workspace
from lora_mnist_cli.system.files import machine_errors

if TYPE_CHECKING:
    from torch import Tensor

REPORT_FILE = "report.md"


def publish_report(
    workspace: Workspace, name: str, settings: Settings, write: Callable[[Path], tuple[str, dict[str, Any]]],
    start: float,
) -> Artifact:  # fmt: skip
    """Return the report of that name if it is up to date; else make it.

    To make it, ``write`` puts the pictures into a folder, and returns the Markdown and the details. Its work began at
    ``start``, by :func:`time.perf_counter`: what it lists and was made since then was made for it.
    """
    if report := workspace.up_to_date(name, settings, force=False):
        return report
    with workspace.making(name, settings) as making:
        text, details = write(making.folder)
        with machine_errors(f"can't write {REPORT_FILE}"):
            (making.folder / REPORT_FILE).write_text(text, encoding="utf-8", newline="\n")
        return making.publish(scores={}, details=details, seconds=time.perf_counter() - start)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], text: Collection[str] = ()) -> list[str]:
    """Return the lines of a Markdown table; the columns under ``text`` hold words, at the left, others figures."""
    rule = "|".join("---" if column in text else "---:" for column in head)
    return [f"| {' | '.join(head)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def publish_untrained(
    making: Making, base: Artifact, config: AdapterConfig, tensors: Mapping[str, Tensor], *, origin: str,
    extra_digit_sets: Sequence[DigitSet] = (), details: Mapping[str, Any] | None = None,
) -> Artifact:  # fmt: skip
    """Score and publish an adapter that is given by its tensors, by the keys of a file of weights.

    Extra digit sets and details come beside the usual ones; the origin, in words, stands in messages.

    Raises:
        ArtifactError: where tensors don't fit, logits are not finite, or the base is damaged.
        DataError: where the test images are not available.
        MachineError: where it can't be written.
    """
    from lora_mnist_cli.evaluation.logits import scores
    from lora_mnist_cli.models.adapted_linear import attach, load_adapter_tensors
    from lora_mnist_cli.models.methods import trainable_parameters
    from lora_mnist_cli.registry.checkpoint import save_adapter
    from lora_mnist_cli.stages.records.loading import finite_logits, load_model

    assert config.digits is not None
    loaded = load_model(making.workspace.registry, base)
    attach(loaded.model, config, start=False)
    load_adapter_tensors(loaded.model, tensors)
    test = making.workspace.test_images(base, loaded.pixel_stats)
    logits = finite_logits(loaded.model, test.images, origin, f" on '{base.name}'")
    save_adapter(loaded.model, config, making.folder)
    layers = {layer: base.details["layers"][layer] for layer in config.target_layers or ()}
    reported = reporting_sets(loaded.base_config.digits, config.digits, loaded.base.known_digits)
    reported += [digits for digits in dict.fromkeys(extra_digit_sets) if digits not in reported]
    usual = {"base_digits": base.config["digits"], "trainable_parameters": trainable_parameters(config, layers)}
    return making.publish(scores=scores(logits, test.labels, reported), details=usual | dict(details or {}))
