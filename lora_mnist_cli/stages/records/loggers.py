"""What was trained, told to the loggers that people have: one run a base or adapter, with its settings and scores.

A run is written when the training is over and scored, from what the artifact keeps. So it holds the final scores, it
makes no difference which process or machine trained, and what is killed leaves no half run. TensorBoard's files belong
to one artifact and lie in its folder; MLflow's store and Weights & Biases' folder hold many runs, and lie beside the
folder of artifacts. Nothing leaves the machine unless the loggers' own variables say so.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.digests import LOG_FOLDER
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.progress import Reporter

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

PROJECT = "lora-mnist"
"""MLflow's experiment, and the project of Weights & Biases."""
STORE, WANDB_FOLDER = "mlflow.db", "wandb"
IN_ARTIFACT = ("tensorboard",)


@dataclass(frozen=True)
class Run:
    """One training.

    Args:
        settings: name → value.
        history: a row an epoch, as ``history.csv`` has them.
        scores: on the test images, as manifests have them; figures that are none are left out.
        failed: why it ended, where it diverged.
    """

    name: str
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    scores: Mapping[str, Any]
    failed: str | None = None
    note: str = ""

    def metrics(self) -> dict[str, float]:
        """Test accuracy and loss by digit set and digit: ``test_accuracy/5-9``, and ``_`` for a comma."""
        rows = [*self.scores.get("subsets", ()), *self.scores.get("per_digit", ())]
        named = {
            f"test_{measure}/{str(row.get('digits', row.get('digit'))).replace(',', '_')}": row[measure]
            for row in rows
            for measure in ("accuracy", "loss")
        }
        return {name: float(value) for name, value in named.items() if value is not None}


def check_logger(runtime: Runtime) -> None:
    """Refuse a logger whose package is not installed, before the work.

    Raises:
        UsageError: with the extra that brings it.
    """
    if runtime.logger == "csv":
        return
    found = importlib.util.find_spec(runtime.logger)
    # A folder of logs in the present folder looks like a package, but for the file that one comes from.
    if found is None or found.origin is None:
        raise UsageError(
            f"{_TITLES[runtime.logger]} is not installed",
            hint=f"pip install 'lora-mnist[{runtime.logger}]'",
            value=runtime.logger,
        )


def log_into(folder: Path, runtime: Runtime, run: Run) -> None:
    """Write the files that belong into an artifact's folder, if its logger has such."""
    if runtime.logger in IN_ARTIFACT:
        _tensorboard(folder, run)


def log_beside(artifact: Artifact, runtime: Runtime, reporter: Reporter, run: Run) -> None:
    """Add a run to what lies beside the folder of artifacts, if its logger has such.

    What the logger stumbles over is told and no more: the artifact is published.
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


def _tell(logger: Logger, run: Run, *, together: bool = False) -> None:
    """All of a run, in order.

    Args:
        together: settings and scores in one call, as TensorBoard's table of settings needs them.
    """
    last = 0
    for row in run.history:
        last = int(row["epoch"])
        figures = {name: value for name, value in row.items() if name != "epoch" and value is not None}
        logger.log_metrics({name: value for name, value in figures.items() if math.isfinite(value)}, step=last)
    settings = {**run.settings, **({"failed": run.failed} if run.failed else {})}
    metrics = run.metrics()
    if together:
        logger.log_hyperparams(settings, metrics, last)
    else:
        logger.log_hyperparams(settings)
        if metrics:
            logger.log_metrics(metrics, step=last)
    logger.finalize("failed" if run.failed else "success")


def _tensorboard(folder: Path, run: Run) -> None:
    from pytorch_lightning.loggers import TensorBoardLogger

    _quiet()
    logger = TensorBoardLogger(folder, name="", version=LOG_FOLDER, default_hp_metric=False)
    _tell(logger, run, together=True)


def _mlflow(place: Path, run: Run) -> None:
    remote = os.environ.get("MLFLOW_TRACKING_URI")
    if not remote:
        # It would tell its makers that it is used.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow
    from pytorch_lightning.loggers import MLFlowLogger

    _quiet("mlflow", "alembic")
    try:
        logger = MLFlowLogger(
            experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT,
            run_name=run.name,
            tracking_uri=remote or _store(place),
            artifact_location=None if remote else (place / "mlruns").as_uri(),
            tags={"mlflow.note.content": run.note} if run.note else None,
        )
        _tell(logger, run)
    finally:
        # Lightning's logger makes its store that of the process, in MLflow's variable as well.
        mlflow.set_tracking_uri(remote)


def _wandb(place: Path, run: Run) -> None:
    mode = os.environ.get("WANDB_MODE") or "offline"
    if mode != "online":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    _quiet()
    # Not by the logger itself: it would go on in a run that a notebook has open.
    started = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT, name=run.name, dir=str(place), notes=run.note or None,
        mode=mode, reinit="create_new", settings=wandb.Settings(silent=True, console="off"),
    )  # fmt: skip
    try:
        started.define_metric("*", step_metric="trainer/global_step")
        _tell(WandbLogger(experiment=started), run)
    finally:
        started.finish(exit_code=1 if run.failed else 0)


def _store(place: Path) -> str:
    return f"sqlite:///{place / STORE}"


def _mlflow_where(place: Path) -> str:
    remote = os.environ.get("MLFLOW_TRACKING_URI")
    return remote or f"{place / STORE} (mlflow ui --backend-store-uri {_store(place)})"


def _wandb_where(place: Path) -> str:
    folder = place / WANDB_FOLDER
    offline = (os.environ.get("WANDB_MODE") or "offline") in ("offline", "dryrun")
    return f"{folder}" + (f" (wandb sync {folder}/offline-run-* sends it)" if offline else "")


def _quiet(*more: str) -> None:
    """Notices of Lightning and of others are about their own files. To be called when they are loaded."""
    for name in ("pytorch_lightning", *more):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning\..*")
    warnings.filterwarnings("ignore", module=r"lightning_fabric\..*")


_TITLES = {"tensorboard": "TensorBoard", "mlflow": "MLflow", "wandb": "Weights & Biases"}
loggers: dict[str, tuple[Callable[[Path, Run], None], Callable[[Path], str]]] = {
    "mlflow": (_mlflow, _mlflow_where),
    "wandb": (_wandb, _wandb_where),
}
