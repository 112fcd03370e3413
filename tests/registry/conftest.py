"""What the tests of the registry share."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_mnist_cli.registry import entries
from lora_mnist_cli.registry.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """An empty folder of artifacts, the default one."""
    return Registry(tmp_path / "runs")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the artifacts whose manifests were read for a list, of which nothing is remembered."""
    seen: list[str] = []
    real = entries.manifest_of
    monkeypatch.setattr(entries, "_REMEMBERED", {})
    monkeypatch.setattr(entries, "manifest_of", lambda name, raw: seen.append(name) or real(name, raw))
    return seen
