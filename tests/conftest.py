"""What the tests share: trained artifacts, and the program run in-process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.cli import main
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep, train_base

sys.path.append(str(Path(__file__).parent))  # tests are imported by path, so their helpers have to be found


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder, whatever the caller's environment says."""
    monkeypatch.chdir(tmp_path)
    for name in ("LORA_MNIST_RUNS", "LORA_MNIST_DATA", "NO_COLOR", "FORCE_COLOR", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    return


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of one epoch, adapters of rank 1 and 2 of one epoch and their sweep. Not to be written to."""
    runs = tmp_path_factory.mktemp("trained") / "runs"
    workspace = Workspace(runs)
    train_base(BaseConfig(epochs=1), workspace=workspace)
    sweep([1, 2], config=AdapterConfig(epochs=1), workspace=workspace)
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder, as ``runs`` in the test's own folder, to do anything with."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; skips where that is not allowed."""
    mounted: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"mounted{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        able = os.geteuid() == 0 and shutil.which("mount") is not None
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
    tmp_path_factory: pytest.TempPathFactory, idx: Callable[[Any], bytes], small_images: Callable[..., tuple[Any, Any]]
) -> Path:
    """A data folder with a Fashion-MNIST of 500 training and 200 test images. Don't write to it."""
    folder = tmp_path_factory.mktemp("small_data")
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count, seed in (("train", 500, 1), ("t10k", 200, 2)):
        images, labels = small_images(count, seed)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


@pytest.fixture(scope="session")
def small_trained(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Path:
    """A runs folder with a base on 0-4 and a sweep of rank 2 on the small data, two epochs each. Don't write to it."""
    runs = tmp_path_factory.mktemp("small_trained") / "runs"
    workspace = Workspace(runs, small_data, runtime=Runtime(accelerator="cpu"))
    train_base(BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2), workspace=workspace)
    sweep([2], config=AdapterConfig(epochs=2, alpha=0.5), workspace=workspace)
    return runs


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


@pytest.fixture
def publish() -> Callable[..., Any]:
    """Publishes an artifact of a few bytes, without any training: ``publish(registry, "base-0-4", config={…})``."""
    from lora_mnist_cli.registry.artifact import Settings

    row = {"artifact": "x", "rank": 1, "seed": 0, "trainable_parameters": 1, "subsets": []}
    details = {
        "base": {"layers": {"fc1": [2, 2]}, "pixel_stats": [0.1, 0.3]},
        "adapter": {"base_digits": "0-4", "trainable_parameters": 1},
        "sweep": {"results": [row]},
        "report": {"rows": []},
    }
    needed = {
        "base": {"digits": "0-4", "seed": 0},
        "adapter": {"digits": "5-9", "rank": 1, "seed": 0},
        "sweep": {"digits": "5-9", "ranks": [1], "seeds": [0]},
    }
    nowhere = "sha256:" + 64 * "0"

    def make(
        registry: Any, name: str, *, kind: str = "base", config: Any = None, parents: Any = (), dataset: str = "mnist",
        files: Any = None, force: bool = False, scores: Any = None, more: Any = None,
    ) -> Any:  # fmt: skip
        settings = Settings(
            kind, needed.get(kind, {}) | (config or {}), {"name": dataset, "digest": nowhere}, tuple(parents)
        )
        with registry.staging(name) as folder:
            for file, content in ({"weights": b"1234"} if files is None else files).items():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(content)
            return registry.publish(
                folder,
                settings,
                scores=scores or {},
                details=details[kind] | (more or {}),
                environment={},
                wall_seconds=1.5,
                force=force,
            )

    return make


@pytest.fixture
def sweeper(tmp_path: Path, publish: Callable[..., Any]) -> Callable[..., Any]:
    """Publishes a sweep of given accuracies in ``tmp_path / "runs"``: ``sweeper("a", {8: {0: 0.9, 1: None}})``, by rank
    and seed; None is a run that failed. It is on a base of its data set where its parents have none.
    """
    from lora_mnist_cli.registry.artifact import Parent
    from lora_mnist_cli.registry.registry import Registry

    def make(
        name: str, ranks: Any, *, digits: str = "5-9", images: int = 1000, dataset: str = "mnist", parents: Any = ()
    ) -> Any:
        results = [
            {
                "artifact": f"{name}-r{rank}-s{seed}", "rank": rank, "seed": seed, "trainable_parameters": rank,
                "failed": "the loss became nan in epoch 1" if accuracy is None else None,
                "subsets": [{"digits": digits, "count": images, "accuracy": accuracy,
                             "loss": None if accuracy is None else 1 - accuracy}],
            }
            for rank, seeds in ranks.items()
            for seed, accuracy in seeds.items()
        ]  # fmt: skip
        config = {"digits": digits, "ranks": list(ranks), "seeds": list(next(iter(ranks.values())))}
        registry = Registry(tmp_path / "runs")
        if not any(parent.role == "base" for parent in parents):
            known = f"base-of-{dataset}"
            base = registry.get(known) if registry.has(known) else publish(registry, known, dataset=dataset)
            parents = [Parent("base", base.name, base.digest), *parents]
        return publish(
            registry, name, kind="sweep", config=config, more={"results": results}, parents=parents, dataset=dataset
        )

    return make


@pytest.fixture
def forge() -> Callable[..., None]:
    """Edits a manifest and makes its digests and seal fit again, as a forger would: ``forge(folder, change)``.

    ``files`` takes other content for some files, whose sizes and digests are made to fit as well; None drops one.
    """
    import contextlib

    from lora_mnist_cli.registry.artifact import Parent, Settings
    from lora_mnist_cli.registry.digests import content_digest, seal_of, sha256

    def make(folder: Path, change: Callable[[Any], Any] = lambda _: None, files: Any = None) -> None:
        manifest = json.loads((folder / "artifact.json").read_text())
        for file, content in (files or {}).items():
            manifest["files"].pop(file, None)
            if content is not None:
                (folder / file).write_bytes(content)
                manifest["files"][file] = {"bytes": len(content), "sha256": sha256(content)}
        change(manifest)
        with contextlib.suppress(Exception):  # there may be no digest of what the change has made of it
            parents = tuple(Parent(**parent) for parent in manifest["parents"])
            settings = Settings(
                manifest["kind"], manifest["config"], manifest["dataset"], parents, manifest["training_code"]
            )
            manifest["fingerprint"] = settings.fingerprint()
            manifest["digest"] = content_digest(manifest["fingerprint"], manifest["files"])
        manifest["seal"] = seal_of(manifest)
        (folder / "artifact.json").write_text(json.dumps(manifest))

    return make


SCHEMAS = Path(__file__).resolve().parent / "schemas"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """A runs folder with a tiny base on 0-4, an adapter of rank 1 and their sweep, to do anything with."""
    return Path(shutil.copytree(SCHEMAS / "v2", tmp_path / "runs"))


class Recorder:
    """A reporter that writes down what it hears, as ``(what, …)``."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *arguments: self.events.append((name, *arguments))

    def all(self, name: str) -> list[Any]:
        """What followed each event of that name; alone where it was one value."""
        heard = [event[1:] for event in self.events if event[0] == name]
        return [values[0] if len(values) == 1 else values for values in heard]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()
