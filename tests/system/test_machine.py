"""What a machine has."""

from __future__ import annotations

import platform

import pytest

from lora_mnist_cli.system.machine import memory, processor


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


@pytest.mark.parametrize("content", ["processor\t: 0\nmodel name\t: Chip 5\nmodel name\t: Chip 5\n", "", None])
def test_a_processor_is_told_by_its_model_where_that_is_known(monkeypatch, tmp_path, content):
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr("lora_mnist_cli.system.machine._PROCESSORS", file)
    found = processor.__wrapped__()
    assert found.startswith(f"{platform.system()} {platform.machine()}")
    assert found.endswith(" Chip 5") == bool(content)
