"""What the stages share: where things lie and who listens; and how a trained model becomes an artifact."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data.sources import data_digest
from lora_mnist_cli.registry.artifact import Artifact, Settings
from lora_mnist_cli.registry.digests import LOG_FOLDER
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import DataError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.progress import Reporter, Silent

if TYPE_CHECKING:
    from lora_mnist_cli.data.dataset import MNISTDataset

DEFAULT_RUNS = Path("runs")
DEFAULT_DATA = Path("data")
RUNS_VARIABLE, DATA_VARIABLE = "LORA_MNIST_RUNS", "LORA_MNIST_DATA"
HISTORY_FILE = "history.csv"
MAKE_ROOM = "--runs-dir NEW keeps both; lora-mnist runs remove NAME makes room"
"""What helps where a stage gives its artifacts their names itself."""
PACKAGES = ("lora-mnist", "torch", "pytorch-lightning", "numpy", "safetensors")


@dataclass(frozen=True)
class Workspace:
    """Where artifacts and data lie, how training runs and who hears of it.

    Args:
        runs_dir: the folder of artifacts, ``runs`` or what ``LORA_MNIST_RUNS`` says; made when something is published.
        data_dir: the folder of data sets, ``data`` or what ``LORA_MNIST_DATA`` says; MNIST needs none.
        runtime: device and loggers.
        reporter: hears notices and progress; silent by default.
        note: kept with whatever is published here.
    """

    runs_dir: Path = field(default_factory=lambda: Path(os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS))
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA))
    runtime: Runtime = field(default_factory=Runtime)
    reporter: Reporter = field(default_factory=Silent)
    note: str = ""

    @property
    def registry(self) -> Registry:
        """The artifacts under ``runs_dir``."""
        return Registry(self.runs_dir, self.reporter.notice, note=self.note)

    def dataset_settings(self, dataset: str) -> dict[str, str]:
        """A data set's name and digest, as artifacts record them.

        Raises:
            DataError: where its files can't be had.
        """
        return {"name": dataset, "digest": data_digest(dataset, self.data_dir)}

    def test_images(self, artifact: Artifact, pixel_stats: tuple[float, float]) -> MNISTDataset:
        """All test images of the data set that an artifact was trained on.

        Raises:
            DataError: where they can't be had, or are not those of the artifact's data set.
        """
        from lora_mnist_cli.data.dataset import MNISTDataset

        if data_digest(artifact.dataset, self.data_dir) != artifact.settings.dataset["digest"]:
            raise DataError(
                f"{artifact.dataset} in {self.data_dir} has not the files that '{artifact.name}' was made with",
                hint="give the right --data-dir, or make the artifact again",
                value=artifact.name,
            )
        return MNISTDataset.load("test", dataset=artifact.dataset, data_dir=self.data_dir, pixel_stats=pixel_stats)

    def latest(self, *kinds: str, dataset: str | None = None) -> Artifact:
        """The newest artifact of the first kind of which there is one; says on the way which it is.

        Raises:
            ArtifactError: where there is none.
        """
        artifact = self.registry.latest(*kinds, dataset=dataset)
        self.reporter.notice(f"taking the newest {artifact.kind}: {artifact.name}")
        return artifact

    def up_to_date(self, name: str, settings: Settings, force: bool) -> Artifact | None:
        """See :meth:`Registry.up_to_date`; says so where there is nothing to do."""
        found = self.registry.up_to_date(name, settings, force=force)
        if found is not None:
            self.tell_up_to_date(found)
            self.registry.tidy()
        return found

    def tell_up_to_date(self, found: Artifact) -> None:
        """Say that an artifact is taken as it is, and what of the present runtime it was made without."""
        name = found.name
        self.reporter.notice(f"{name} is up to date")
        if self.lacks_log(found):
            logger = self.runtime.logger
            self.reporter.warn(f"{name} was trained without --logger {logger}; --force trains it again with it")
        threads = found.environment.get("threads", self.runtime.threads)
        if threads != self.runtime.threads:
            # Sums are added up in another order, so the weights differ in their last places.
            self.reporter.warn(f"{name} was trained with --threads {threads}; --force trains it again")

    def lacks_log(self, found: Artifact) -> bool:
        """Whether a base or adapter was trained without the logger that is asked for now."""
        # Artifacts from before there were several loggers don't name theirs.
        events = any(file.startswith(f"{LOG_FOLDER}/") for file in found.files)
        told = found.environment.get("logger", "tensorboard" if events else "csv")
        return found.kind in ("base", "adapter") and self.runtime.logger not in ("csv", told)


def default_name(
    kind: str, dataset: str, digits: object, *, rank: int | None = None, marks: Sequence[str] = (), seed: int = 0
) -> str:
    """A name that says what is inside: ``base-0-4``, ``lora-5-9-r8``, ``full-5-9``, ``lora-kmnist-5-9-r8-lr0.003-s3``.

    Args:
        kind: of the artifact; an adapter's method.

    The data set is named where it is not MNIST and the seed where it is not 0, so that a sweep over seeds finds what a
    single run with the default seed has made.
    """
    parts = [
        kind,
        dataset if dataset != "mnist" else "",
        str(digits),
        f"r{rank}" if rank else "",
        *marks,
        f"s{seed}" if seed else "",
    ]
    return "-".join(part for part in parts if part)


def write_history(history: str, folder: Path) -> None:
    """Write ``history.csv``.

    Raises:
        MachineError: where it can't be written.
    """
    with machine_errors(f"can't write {HISTORY_FILE}"):
        (folder / HISTORY_FILE).write_text(history, encoding="utf-8")


def environment(runtime: Runtime | None = None) -> dict[str, Any]:
    """Versions and device, for the record. With no ``runtime``, the stage computed nothing itself: no device."""
    record: dict[str, Any] = {
        "versions": {"python": platform.python_version()} | _versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
    if runtime is not None:
        import torch

        on_gpu = runtime.accelerator != "cpu" and torch.cuda.is_available()
        record["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
        record["threads"] = runtime.threads
        if runtime.logger != "csv":
            record["logger"] = runtime.logger
    return record


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Of the packages that results may depend on; looked up once, not for each adapter of a bank."""
    from importlib import metadata

    return {name: metadata.version(name) for name in PACKAGES}
