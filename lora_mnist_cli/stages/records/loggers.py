"""Logging trainings to TensorBoard, MLflow and Weights & Biases: one run per base or adapter.

A run is written when the training is over and scored, from the contents of the artifact. It therefore holds the final
scores, is the same whichever process or machine trained, and is never half done. TensorBoard's files belong to one
artifact and lie in its folder; MLflow's store and Weights & Biases' folder hold many runs, and lie beside the folder of
artifacts. Nothing leaves the machine unless the loggers' own variables say so.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.digests import LOG_FOLDER
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.extras import install_command
from lora_mnist_cli.system.progress import Reporter

PROJECT = "lora-mnist"
"""MLflow's experiment, and the project of Weights & Biases."""
STORE, WANDB_FOLDER = "mlflow.db", "wandb"
IN_ARTIFACT = ("tensorboard",)
MLFLOW_TEXT, MLFLOW_BATCH = 500, 1000
"""Characters of a parameter, and metrics per call, at most."""


@dataclass(frozen=True)
class LoggedRun:
    """One training, for a logger.

    Args:
        history: a row per epoch, with the columns of ``history.csv``.
        scores: on the test images, in the form of manifests; figures that are None are left out.
        failed: why it ended, where it diverged; else None.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Any]
    failed: str | None = None
    note: str = ""

    def metrics(self) -> dict[str, float]:
        """Return test accuracy and loss by digit set and digit: ``test_accuracy/5-9``, with ``_`` for a comma."""
        rows = [*self.scores.get("subsets", ()), *self.scores.get("per_digit", ())]
        named = {
            f"test_{measure}/{str(row.get('digits', row.get('digit'))).replace(',', '_')}": row[measure]
            for row in rows
            for measure in ("accuracy", "loss")
        }
        return {name: float(value) for name, value in named.items() if value is not None}


def check_logger(runtime: Runtime) -> None:
    """Refuse a logger whose package is not installed, by a UsageError that names the extra that brings it."""
    if runtime.logger == "csv":
        return
    package = importlib.util.find_spec(runtime.logger)
    # A folder of logs in the current folder looks like a package too, but only a package has a file as origin.
    if package is None or package.origin is None:
        problem = f"{_TITLES[runtime.logger]} is not installed"
        raise UsageError(problem, hint=install_command(runtime.logger), value=runtime.logger)


def log_into(folder: Path, runtime: Runtime, run: LoggedRun) -> None:
    """Write the files of a logger that keeps them in the artifact's folder; nothing for other loggers."""
    if runtime.logger in IN_ARTIFACT:
        _tensorboard(folder, run)


def log_beside(artifact: Artifact, runtime: Runtime, reporter: Reporter, run: LoggedRun) -> None:
    """Add a run to the store of a logger that keeps it beside the folder of artifacts; nothing for other loggers.

    An error of the logger is only a warning, because the artifact is published.
    """
    if runtime.logger == "csv" or runtime.logger in IN_ARTIFACT:
        return
    write, where = loggers[runtime.logger]
    place = artifact.path.parent.absolute().parent
    try:
        write(place, run)
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises about its store or its network
        problem = " ".join(str(error).split()) or type(error).__name__
        reporter.warn(f"{artifact.name} is published, but not logged to {_TITLES[runtime.logger]}: {problem[:500]}")
    else:
        reporter.notice(f"logged to {_TITLES[runtime.logger]}: {where(place)}")


def _rows(run: LoggedRun) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the figures of each epoch, and the scores at the last one."""
    last = 0
    for row in run.history:
        last = int(row["epoch"])
        figures = {name: float(value) for name, value in row.items() if name != "epoch" and value is not None}
        yield last, {name: value for name, value in figures.items() if math.isfinite(value)}
    yield last, run.metrics()


def _settings(run: LoggedRun) -> dict[str, Any]:
    return {**run.settings} | ({"failed": run.failed} if run.failed else {})


def _tensorboard(folder: Path, run: LoggedRun) -> None:
    from torch.utils.tensorboard import SummaryWriter
    from torch.utils.tensorboard.summary import hparams

    plain = {
        name: value if isinstance(value, bool | float | int) else str(value) for name, value in _settings(run).items()
    }
    with SummaryWriter(folder / LOG_FOLDER) as writer:
        for epoch, figures in _rows(run):
            for name, value in figures.items():
                writer.add_scalar(name, value, epoch)
        # ``add_hparams`` would write them into a file of their own, as another run.
        for summary in hparams(plain, run.metrics()):  # type: ignore[no-untyped-call]
            writer.file_writer.add_summary(summary)


def _mlflow(place: Path, run: LoggedRun) -> None:
    remote = os.environ.get("MLFLOW_TRACKING_URI")
    if not remote:
        # It would tell its makers that it is used.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    for name in ("mlflow", "alembic"):  # they set their levels when they are imported
        logging.getLogger(name).setLevel(logging.ERROR)
    client, title = MlflowClient(remote or _store(place)), os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
    experiment = client.get_experiment_by_name(title)
    number = experiment.experiment_id if experiment else client.create_experiment(
        title, artifact_location=None if remote else (place / "mlruns").as_uri()
    )  # fmt: skip
    tags = {"mlflow.note.content": run.note} if run.note else None
    started = client.create_run(number, run_name=run.name, tags=tags).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(name, value, now, epoch) for epoch, figures in _rows(run) for name, value in figures.items()]
    params = [Param(name, str(value)[:MLFLOW_TEXT]) for name, value in _settings(run).items()]
    client.log_batch(started, params=params)
    for start in range(0, len(metrics), MLFLOW_BATCH):
        client.log_batch(started, metrics[start : start + MLFLOW_BATCH])
    client.set_terminated(started, "FAILED" if run.failed else "FINISHED")


def _wandb(place: Path, run: LoggedRun) -> None:
    mode = os.environ.get("WANDB_MODE") or "offline"
    if mode != "online":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    started = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT, name=run.name, dir=str(place), notes=run.note or None,
        mode=mode, reinit="create_new", settings=wandb.Settings(silent=True, console="off"), config=_settings(run),
    )  # fmt: skip
    try:
        started.define_metric("*", step_metric="epoch")
        for epoch, figures in _rows(run):
            started.log({**figures, "epoch": epoch})
    finally:
        started.finish(exit_code=1 if run.failed else 0)


def _store(place: Path) -> str:
    return f"sqlite:///{place / STORE}"


def _mlflow_where(place: Path) -> str:
    remote = os.environ.get("MLFLOW_TRACKING_URI")
    return remote or f"{place / STORE} (mlflow ui --backend-store-uri {_store(place)})"


def _wandb_where(place: Path) -> str:
    folder, mode = place / WANDB_FOLDER, os.environ.get("WANDB_MODE") or "offline"
    return f"{folder}" + (f" (wandb sync {folder}/offline-run-* sends it)" if mode in ("offline", "dryrun") else "")


_TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
loggers: dict[str, tuple[Callable[[Path, LoggedRun], None], Callable[[Path], str]]] = {
    "mlflow": (_mlflow, _mlflow_where),
    "wandb": (_wandb, _wandb_where),
}
