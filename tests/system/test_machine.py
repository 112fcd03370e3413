"""What a machine has."""

from __future__ import annotations

import pytest

from lora_mnist_cli.system.machine import memory


@pytest.mark.parametrize("limit", ["max\n", "1000000\n", None])
def test_a_container_has_no_more_memory_than_it_is_given(monkeypatch, tmp_path, limit):
    file = tmp_path / "memory.max"
    monkeypatch.setattr("lora_mnist_cli.system.machine._CONTAINER_MEMORY", file)
    machine = memory()
    assert machine is not None
    assert machine > 1_000_000
    if limit is not None:
        file.write_text(limit, encoding="ascii")
    assert memory() == (1_000_000 if limit == "1000000\n" else machine)
