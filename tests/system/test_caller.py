"""What the caller's process has set is set aside in a block, and is there again after it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from lora_mnist_cli.system.caller import own_torch_settings


@contextmanager
def unusual_settings() -> Iterator[None]:
    """Set all that a notebook may have set; the defaults are there again after the block."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    torch.set_deterministic_debug_mode("warn")
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad(), torch.inference_mode():
            yield
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_float32_matmul_precision("highest")
        torch.set_deterministic_debug_mode("default")


def settings() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(), torch.get_default_device().type, torch.get_float32_matmul_precision(),
        torch.get_deterministic_debug_mode(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
    )  # fmt: skip


def test_the_settings_in_a_block_are_those_of_a_new_process():
    usual = settings()
    with unusual_settings():
        unusual = settings()
        assert not any(one == other for one, other in zip(usual, unusual, strict=True))
        with own_torch_settings():
            assert settings() == usual
        assert settings() == unusual
        with pytest.raises(ZeroDivisionError), own_torch_settings():
            raise ZeroDivisionError
        assert settings() == unusual
    assert settings() == usual


@pytest.mark.parametrize(
    ("named", "after"), [("wrongname", "agg"), ("module://not_there", "module://not_there"), ("svg", "svg")]
)
def test_no_backend_decides_whether_a_picture_is_drawn(named, after, monkeypatch):
    code = (
        "import os; from pathlib import Path; from lora_mnist_cli.plots import style;"
        "style.save(style.new_figure('a', height=1), Path('a.png'));"
        "import matplotlib; assert os.environ['MPLBACKEND'] == {!r};"
        "found = matplotlib.rcParams._get('backend'); assert {!r} in (found, 'agg'), found"
    )
    monkeypatch.setenv("MPLBACKEND", named)
    subprocess.run([sys.executable, "-c", code.format(named, after)], check=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["lora_mnist_cli.plots.style", "lora_mnist_cli.training.engines.lightning"])
def test_the_importers_of_matplotlib_need_no_backend(module, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "wrongname")
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, timeout=600)


def test_the_program_takes_no_backend_of_another_environment(monkeypatch):
    code = (
        "import os, lora_mnist_cli.cli as cli; cli.main = lambda: 0 if os.environ['MPLBACKEND'] == 'Agg' else 9;"
        "cli.entry()"
    )
    monkeypatch.setenv("MPLBACKEND", "wrongname")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
