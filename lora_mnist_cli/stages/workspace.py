"""The workspace that all stages share: folders, machine and reporter, and the way to make an artifact."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data.sources import data_digest, source_of
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.registry.digests import LOG_FOLDER
from lora_mnist_cli.registry.newest import any_artifact
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.staged import Staged
from lora_mnist_cli.settings.own_data import is_own
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system import machine
from lora_mnist_cli.system.caller import plain
from lora_mnist_cli.system.errors import DataError, OtherSettingsError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.system.version import version

if TYPE_CHECKING:
    from lora_mnist_cli.data.dataset import MNISTDataset

DEFAULT_RUNS = Path("runs")
DEFAULT_DATA = Path("data")
RUNS_VARIABLE, DATA_VARIABLE = "LORA_MNIST_RUNS", "LORA_MNIST_DATA"
HISTORY_FILE = "history.csv"
MAKE_ROOM = "--runs-dir NEW keeps both; lora-mnist runs remove NAME makes room"
"""The advice where a name is taken and the stage itself named its artifacts."""
PACKAGES = ("torch", "pytorch-lightning", "numpy", "safetensors")


@contextmanager
def advising(hint: str = MAKE_ROOM) -> Iterator[None]:
    """Give the refusal of a name that has other settings another hint, because the user did not choose that name."""
    try:
        yield
    except OtherSettingsError as error:
        raise OtherSettingsError(error.problem, hint=hint, value=error.value) from error


@dataclass(frozen=True)
class Workspace:
    """The folders of artifacts and data, the machine to train on, and the reporter of a stage.

    Args:
        runs_dir: the folder of artifacts, made with the first one; by default ``LORA_MNIST_RUNS``, or ``runs``.
        data_dir: the folder of data sets; by default ``LORA_MNIST_DATA``, or ``data``. MNIST needs none.
        runtime: device, threads, backend and logger.
        reporter: is told notices and progress; silent by default.
        note: a sentence that is kept with every artifact published here.
    """

    runs_dir: Path = field(default_factory=lambda: Path(os.environ.get(RUNS_VARIABLE) or DEFAULT_RUNS))
    data_dir: Path = field(default_factory=lambda: Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA))
    runtime: Runtime = field(default_factory=Runtime)
    reporter: Reporter = field(default_factory=Silent)
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("runs_dir", "data_dir"):
            object.__setattr__(self, name, Path(plain(getattr(self, name))))  # it may be a text

    @property
    def registry(self) -> Registry:
        """The artifacts under ``runs_dir``."""
        return Registry(self.runs_dir, self.reporter.notice, note=self.note)

    def dataset_settings(self, dataset: str) -> dict[str, Any]:
        """Return a data set's name and digest, and the classes of a user's own, as artifacts record them.

        Raises:
            DataError: where its files are not available.
        """
        classes = {"classes": list(source_of(dataset, self.data_dir).classes)} if is_own(dataset) else {}
        return {"name": dataset, "digest": data_digest(dataset, self.data_dir), **classes}

    def test_images(self, artifact: Artifact, pixel_stats: tuple[float, float]) -> MNISTDataset:
        """Load all test images of the data set that an artifact was trained on.

        Raises:
            DataError: where they are not available, or are not those of the artifact's data set.
        """
        from lora_mnist_cli.data.dataset import MNISTDataset

        if data_digest(artifact.dataset, self.data_dir) != artifact.settings.dataset["digest"]:
            problem = f"{artifact.dataset} in {self.data_dir} has not the files that '{artifact.name}' was made with"
            raise DataError(problem, hint="give the right --data-dir, or make the artifact again", value=artifact.name)
        return MNISTDataset.load("test", dataset=artifact.dataset, data_dir=self.data_dir, pixel_stats=pixel_stats)

    def latest(
        self, *kinds: str, dataset: str | None = None, fits: Callable[[Artifact], bool] = any_artifact
    ) -> Artifact:
        """Return the newest artifact of the first kind that there is any of, and say which it is.

        What counts as the newest, :meth:`~lora_mnist_cli.registry.catalog.Catalog.latest` tells.

        Raises:
            ArtifactError: where there is none.
        """
        artifact = self.registry.latest(*kinds, dataset=dataset, fits=fits)
        self.reporter.notice(f"taking the newest {artifact.kind}: {artifact.name}")
        return artifact

    def up_to_date(self, name: str, settings: Settings, force: bool) -> Artifact | None:
        """Return the artifact of that name if it has these settings, and say so; see :meth:`Registry.up_to_date`."""
        artifact = self.registry.up_to_date(name, settings, force=force)
        if artifact is not None:
            self.tell_up_to_date(artifact)
            self.registry.tidy()
        return artifact

    def tell_up_to_date(self, artifact: Artifact) -> None:
        """Say that an artifact is taken as it is, and warn where it was trained with another logger or thread count."""
        name = artifact.name
        self.reporter.notice(f"{name} is up to date")
        if self.lacks_log(artifact):
            logger = self.runtime.logger
            self.reporter.warn(f"{name} was trained without --logger {logger}; --force trains it again with it")
        threads = artifact.environment.get("threads", self.runtime.threads)
        if threads != self.runtime.threads:
            # Sums are added up in another order, so the weights differ in their last places.
            self.reporter.warn(f"{name} was trained with --threads {threads}; --force trains it again")

    def copied(self, artifact: Artifact, name: str) -> Artifact:
        """Publish an artifact under another name too: the same work is done once.

        Raises:
            ArtifactError: where it is damaged, or the name was taken meanwhile.
            MachineError: where it can't be written.
        """
        from lora_mnist_cli.registry.shared_statistics import write_linked

        artifact.check_files()
        with self.making(name, artifact.settings) as making:
            for file in artifact.files:
                with machine_errors(f"can't write {file}"):
                    (making.folder / file).parent.mkdir(exist_ok=True)
                write_linked(artifact.read(file), artifact.path / file, making.folder / file)
            made = making.publish(
                scores=artifact.scores, details=artifact.details, made_in=artifact.environment,
                seconds=artifact.wall_seconds,
            )  # fmt: skip
        self.reporter.notice(f"{name} has the settings of {artifact.name} and is a copy of it")
        return made

    def lacks_log(self, artifact: Artifact) -> bool:
        """Return whether a base or adapter was trained without the logger of this runtime."""
        # Artifacts from before there were several loggers don't name theirs.
        has_events = any(file.startswith(f"{LOG_FOLDER}/") for file in artifact.files)
        logger = artifact.environment.get("logger", "tensorboard" if has_events else "csv")
        return artifact.kind in ("base", "adapter") and self.runtime.logger not in ("csv", logger)

    @contextmanager
    def making(self, name: str, settings: Settings, *, force: bool = False) -> Iterator[Making]:
        """Stage an artifact: start the clock, and give a folder to write into and the way to publish it.

        Args:
            force: replace an artifact of that name with other settings.

        Raises:
            ArtifactError: where a parent is gone.
            MachineError: where the folder of artifacts can't be written to.
        """
        with self.making_all({name: settings}, force=force) as (one,):
            yield one

    @contextmanager
    def making_all(self, settings: Mapping[str, Settings], *, force: bool = False) -> Iterator[list[Making]]:
        """Stage artifacts that are published together, by their names, as :meth:`making` stages one."""
        start = time.perf_counter()
        parents = list(dict.fromkeys(parent for each in settings.values() for parent in each.parents))
        with self.registry.staging_all(list(settings), parents) as folders:
            yield [
                Making(self, folder, each, force, start)
                for folder, each in zip(folders, settings.values(), strict=True)
            ]


@dataclass(frozen=True)
class Making:
    """An artifact that is being made in a folder; :meth:`Workspace.making` begins one and starts the clock."""

    workspace: Workspace
    folder: Path
    settings: Settings
    force: bool
    start: float

    @property
    def seconds(self) -> float:
        """Seconds since its making began."""
        return time.perf_counter() - self.start

    def publish(
        self, *, scores: dict[str, Any], details: dict[str, Any], members: Sequence[Artifact] = (),
        made_in: dict[str, Any] | None = None, seconds: float | None = None,
    ) -> Artifact:  # fmt: skip
        """Publish the folder as an artifact; the arguments are those of :meth:`ready`.

        Raises:
            ArtifactError: where the name was taken meanwhile, with other settings, or a parent is gone.
            MachineError: where it can't be written.
        """
        staged = self.ready(scores=scores, details=details, members=members, made_in=made_in, seconds=seconds)
        return self.workspace.registry.publish_all([staged], force=self.force)[0]

    def ready(
        self, *, scores: dict[str, Any], details: dict[str, Any], members: Sequence[Artifact] = (),
        made_in: dict[str, Any] | None = None, seconds: float | None = None,
    ) -> Staged:  # fmt: skip
        """Return the folder with what its manifest is to say.

        Args:
            scores: on the test images; empty where the stage computed nothing itself, and then no device is recorded.
            members: the adapters of a sweep, which join the parents of its settings.
            made_in: the :func:`environment` of another process or machine that did the work.
            seconds: what the work took, if it is not the time since the making began.
        """
        listed = tuple(Parent("member", member.name, member.digest) for member in members)
        settings = dataclasses.replace(self.settings, parents=(*self.settings.parents, *listed))
        return Staged(
            self.folder, settings, scores=scores, details=details, note=self.workspace.note,
            environment=made_in or self._environment(computed=bool(scores)),
            wall_seconds=self.seconds if seconds is None else seconds,
        )  # fmt: skip

    def _environment(self, *, computed: bool) -> dict[str, Any]:
        runtime = self.workspace.runtime
        # The command of a sweep has to make its adapters with the same bytes, also where it kept none.
        return environment(runtime) if computed else environment() | rounding(runtime)


def write_history(history: str, folder: Path) -> None:
    """Write ``history.csv``."""
    with machine_errors(f"can't write {HISTORY_FILE}"):
        (folder / HISTORY_FILE).write_text(history, encoding="utf-8", newline="\n")


def environment(runtime: Runtime | None = None, *, trained: bool = False) -> dict[str, Any]:
    """Return versions and device, for the record; without a ``runtime`` no device, as nothing was computed."""
    record: dict[str, Any] = {
        "versions": {"python": platform.python_version()} | _versions(),
        "platform": machine.processor(),
        "cores": os.cpu_count(),
    }
    if runtime is not None:
        import torch

        on_gpu = runtime.accelerator != "cpu" and torch.cuda.is_available()
        record["device"] = torch.cuda.get_device_name() if on_gpu else "cpu"
        record["threads"] = runtime.threads
        if trained:
            record["engine"] = runtime.engine_taken
        if runtime.logger != "csv":
            record["logger"] = runtime.logger
    return record


def rounding(runtime: Runtime) -> dict[str, Any]:
    """Return the choices of a runtime that change weights in their last places, as records have them.

    The usual ones are left out.
    """
    usual = Runtime()
    chosen = {name: getattr(runtime, name) for name in ("threads", "bank_megabytes")}
    others = {name: value for name, value in chosen.items() if value != getattr(usual, name)}
    return others | ({"engine": "fused"} if runtime.engine_taken == "fused" else {})


def rounds_alike(sweep: Artifact, runtime: Runtime) -> bool:
    """Return whether a sweep was made with the same choices of :func:`rounding`."""
    names = ("threads", "bank_megabytes", "engine")
    return {name: sweep.environment[name] for name in names if name in sweep.environment} == rounding(runtime)


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    """Return the versions of packages that results may depend on; looked up once, not for each adapter of a bank."""
    from importlib import metadata

    return {"lora-mnist": version()} | {name: metadata.version(name) for name in PACKAGES}


def made_by() -> str:
    """Return the processor and the versions of packages; with others, results may differ in their last places."""
    return "; ".join(
        [machine.processor(), *(f"{name} {version}" for name, version in environment()["versions"].items())]
    )
