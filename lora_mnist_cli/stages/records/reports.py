"""How a report is published: a Markdown file, its pictures, and its table in the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.stages.workspace import Workspace, environment
from lora_mnist_cli.system.files import machine_errors

REPORT_FILE = "report.md"


def publish_report(
    workspace: Workspace, name: str, settings: Settings, write: Callable[[Path], tuple[str, dict[str, Any]]]
) -> Artifact:
    """The report of that name, up to date or made.

    Args:
        write: puts the pictures into a folder, and returns the Markdown and the details.
    """
    if found := workspace.up_to_date(name, settings, force=False):
        return found
    with workspace.registry.staging(name, settings.parents) as folder:
        start = time.perf_counter()
        text, details = write(folder)
        with machine_errors(f"can't write {REPORT_FILE}"):
            (folder / REPORT_FILE).write_text(text, encoding="utf-8")
        return workspace.registry.publish(
            folder,
            settings,
            scores={},
            details=details,
            environment=environment(),
            wall_seconds=time.perf_counter() - start,
        )
