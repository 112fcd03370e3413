"""Publishing a report: a Markdown file, its pictures, and its table in the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.files import machine_errors

REPORT_FILE = "report.md"


def publish_report(
    workspace: Workspace, name: str, settings: Settings, write: Callable[[Path], tuple[str, dict[str, Any]]]
) -> Artifact:
    """Return the report of that name if it is up to date; else make it.

    Args:
        write: puts the pictures into a folder, and returns the Markdown and the details.
    """
    if report := workspace.up_to_date(name, settings, force=False):
        return report
    with workspace.making(name, settings) as making:
        text, details = write(making.folder)
        with machine_errors(f"can't write {REPORT_FILE}"):
            (making.folder / REPORT_FILE).write_text(text, encoding="utf-8")
        return making.publish(scores={}, details=details)
