"""What the caller's process has set is set aside in a block, and is there again after it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lora_mnist_cli.system.caller import own_torch_settings, own_variables, stage
from lora_mnist_cli.system.processes import Worker


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


@stage
def given(values: Sequence[float] = (), more: Sequence[float] | None = None, name: object = None) -> tuple[Any, ...]:
    return values, more, name


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ((each for each in (1, 2)), (1, 2)), (range(2), (0, 1)), ({3}, (3,)), ({"a": 1}.keys(), ("a",)),
        (np.linspace(0, 1, 2), (0.0, 1.0)), (np.float64(0.5), (0.5,)), (np.array(0.5), (0.5,)), (torch.ones(1), (1.0,)),
        ("word", ("word",)), (Path("a/b"), ("a/b",)), ([Path("a")], ("a",)), (b"a", ("a",)), (None, ()),
    ],
)  # fmt: skip
def test_an_argument_that_is_a_list_is_read_once_and_may_be_a_single_value(values, taken):
    assert given(values, name=Path("runs/x")) == (taken, None, "runs/x")


def test_too_many_arguments_are_refused_as_python_does():
    with pytest.raises(TypeError, match="takes from 0 to 3 positional arguments but 4 were given"):
        given(1, 2, 3, 4)  # type: ignore[call-arg, arg-type]


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


FOREIGN = {
    "MPLBACKEND": "wrongname", "TORCH_LOGS": "nonsense", "TORCH_DISTRIBUTED_DEBUG": "bad", "MKL_VERBOSE": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "bad", "ATEN_CPU_CAPABILITY": "bad", "NPY_PROMOTION_STATE": "bad", "OMP_PLACES": "bad",
    "OMP_NUM_THREADS": "many", "MKL_NUM_THREADS": "0",
}  # fmt: skip


def test_variables_of_libraries_are_taken_away_and_those_of_others_stay(monkeypatch):
    others = {"CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "4", "MPLCONFIGDIR": "/a", "TRITON_CACHE_DIR": "/b"}
    monkeypatch.setattr(os, "environ", FOREIGN | others)
    own_variables()
    assert os.environ == others | {"MPLBACKEND": "Agg"}


def serve_variables(connection: Connection) -> None:
    """Send what a worker process finds of :data:`FOREIGN`."""
    connection.send([name for name, value in FOREIGN.items() if os.environ.get(name) == value])


def test_neither_the_program_nor_a_worker_has_variables_of_libraries(monkeypatch):
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    code = (
        "import os, lora_mnist_cli.cli as cli;"
        f"cli.main = lambda: sum(os.environ.get(name) == value for name, value in {FOREIGN}.items()); cli.entry()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2])  # the worker imports this file
    worker = Worker(serve_variables)
    found = worker.connection.recv()
    worker.kill()
    assert found == []


def test_a_settings_file_that_matplotlib_refuses_is_no_defect():
    Path("matplotlibrc").write_bytes(b"axes.facecolor: \xe4")
    code = "from lora_mnist_cli.system.caller import without_backend as w\nwith w():\n import matplotlib"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=600)
    assert done.stderr.splitlines()[-1].startswith("lora_mnist_cli.system.errors.MachineError: matplotlib refuses")
