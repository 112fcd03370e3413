"""What the tests share: trained artifacts, and the program run in-process."""

from __future__ import annotations

import gc
import os
import shutil

# Networks of 64 units are slower on several threads than on one. Set before torch is imported, and for children too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Without a GPU Triton's interpreter runs the fused kernels. Triton reads this when it is imported.
if shutil.which("nvidia-smi") is None:
    os.environ.setdefault("TRITON_INTERPRET", "1")

# The tests' folders lie in memory where there is room: thousands of small files are flushed there at no cost.
if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 4 * 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from published import forge, publish, sweeper
from recorder import Recorder
from refusing import refused

from lora_mnist_cli.cli import main
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep, train_base
from lora_mnist_cli.system.platforms import here

__all__ = ["forge", "publish", "refused", "sweeper"]  # fixtures, for all rooms

# The same examples in each run, however slow a busy machine makes them.
hypothesis.settings.register_profile(
    "steady", derandomize=True, database=None, deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)  # fmt: skip
hypothesis.settings.load_profile("steady")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Let the project's options for pytest-xdist pass where that is not installed or switched off."""
    if not pluginmanager.hasplugin("xdist"):
        for option in ("--numprocesses", "--dist"):
            parser.addoption(option, help="ignored: pytest-xdist does not run")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Start a process for each core; at most eight, which take 6 GB of memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


def pytest_collectstart() -> None:
    """Collect no garbage while the tests are imported."""
    gc.disable()


def pytest_sessionstart() -> None:
    """Write pictures small: the tests look at figures and at what a file says, not at its pixels."""
    from lora_mnist_cli.plots import style

    style._SETTINGS["savefig.dpi"] = 50


def pytest_collection_finish() -> None:
    """Look for garbage from now on, though not in what was imported: that stays."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder, whatever the caller's environment says."""
    monkeypatch.chdir(tmp_path)
    for name in ("LORA_MNIST_RUNS", "LORA_MNIST_DATA", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder once per test run, not once per process: ``make_once(name, make)`` calls ``make(folder)``.

    Whichever process comes first makes it, and the others wait for its lock.
    """
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # which all workers share

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = place / f"shared-{name}"
        with (place / f"shared-{name}.lock").open("w") as lock:
            here.lock(lock.fileno())
            if not folder.exists():
                unfinished = place / f"unfinished-{name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def trained(make_once: Callable[..., Path]) -> Path:
    """A base of one epoch, adapters of rank 1 and 2 of one epoch and their sweep. Not to be written to."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs")
        train_base(BaseConfig(epochs=1), workspace=workspace)
        sweep([1, 2], config=AdapterConfig(epochs=1), workspace=workspace)

    return make_once("trained", make) / "runs"


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder, as ``runs`` in the test's own folder, to do anything with."""
    # A copy has no links to the shared statistics, so the next command would tidy them away.
    return Path(shutil.copytree(trained, tmp_path / "runs", ignore=shutil.ignore_patterns(".statistics")))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        able = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") is not None
        if not able or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("only where file systems may be mounted")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        # Lazily: an open file would keep the folder busy, and the mount would outlive the tests.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@dataclass
class Outcome:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command in this process: ``run("evaluate", "--alpha", "0")``."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def idx() -> Callable[[Any], bytes]:
    """Turns an array of bytes or 32-bit integers into the content of an IDX file."""

    def encode(values: Any) -> bytes:
        kind = {"uint8": b"\x08", "int32": b"\x0c"}[values.dtype.name]
        shape = b"".join(length.to_bytes(4, "big") for length in values.shape)
        return b"\0\0" + kind + bytes([values.ndim]) + shape + values.astype(values.dtype.newbyteorder(">")).tobytes()

    return encode


@pytest.fixture(scope="session")
def small_images() -> Callable[..., tuple[Any, Any]]:
    """Draws ``count`` images (n × 28 × 28 bytes) that are easy to tell apart, and their labels, each digit in turn."""
    import numpy as np

    def draw(count: int, seed: int = 0) -> tuple[Any, Any]:
        generator = np.random.default_rng(seed)
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = generator.integers(0, 120, (count, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 5, 3 + label : 20 + label % 5] += 130
        return images.astype(np.uint8), labels

    return draw


@pytest.fixture(scope="session")
def small_data(
    make_once: Callable[..., Path], idx: Callable[[Any], bytes], small_images: Callable[..., tuple[Any, Any]]
) -> Path:
    """A data folder with a Fashion-MNIST of 500 training and 200 test images. Don't write to it."""

    def make(folder: Path) -> None:
        raw = folder / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for part, count, seed in (("train", 500, 1), ("t10k", 200, 2)):
            images, labels = small_images(count, seed)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))

    return make_once("small-data", make)


@pytest.fixture(scope="session")
def small_trained(make_once: Callable[..., Path], small_data: Path) -> Path:
    """A runs folder with a base on 0-4 and a sweep of rank 2 on the small data, two epochs each. Don't write to it."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs", small_data, runtime=Runtime(accelerator="cpu"))
        train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2), workspace=workspace)
        sweep([2], config=AdapterConfig(epochs=2, alpha=0.5), workspace=workspace)

    return make_once("small-trained", make) / "runs"


@pytest.fixture
def small(small_trained: Path, small_data: Path, tmp_path: Path) -> Workspace:
    """A workspace on a copy of the small artifacts, to do anything with; on the CPU, where bytes can be compared."""
    runs = Path(shutil.copytree(small_trained, tmp_path / "runs"))
    return Workspace(runs, small_data, runtime=Runtime(accelerator="cpu"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As training has by default; small products in many threads wait longer for each other than they take."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SCHEMAS = Path(__file__).resolve().parent / "schemas"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A runs folder with a tiny base on 0-4, an adapter of rank 1 and their sweep, to do anything with."""
    return Path(shutil.copytree(SCHEMAS / "v2", tmp_path / "runs"))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
