"""The first stage: a base learns a digit set."""

from __future__ import annotations

import time
from typing import Any

from lora_mnist_cli.architecture import layer_shapes
from lora_mnist_cli.artifact import LOG_FOLDER, Artifact, Settings, check_name
from lora_mnist_cli.config import BaseConfig
from lora_mnist_cli.digits import reporting_sets
from lora_mnist_cli.stages.workspace import Workspace, default_name, environment, write_history
from lora_mnist_cli.weights import write_statistics


def train_base(
    config: BaseConfig | None = None, *, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False,
) -> Artifact:  # fmt: skip
    """Train a base, score it on the test images and publish it.

    Args:
        config: the reference recipe by default.
        name: by default it says what is inside, as ``base-0-4``.
        force: train even where the artifact is up to date, and replace one with other settings.

    Returns:
        The artifact; the present one where it is up to date.

    Raises:
        ArtifactError: where the name has other settings, or ``force`` would take a parent from its descendants.
        DataError: where the data set can't be had.
        DivergedError: where the loss stops being finite.
        MachineError: where the artifact can't be written.
    """
    config, workspace = config or BaseConfig(), workspace or Workspace()
    if name is None:
        name = default_name("base", config.dataset, config.digits, seed=config.seed)
    check_name(name)
    settings = Settings("base", config.to_json(), workspace.dataset_settings(config.dataset))
    if found := workspace.up_to_date(name, settings, force):
        return found
    with workspace.registry.staging(name, settings.parents) as folder:
        from lora_mnist_cli.checkpoint import save_base, statistics_bytes
        from lora_mnist_cli.class_statistics import ClassStatistics
        from lora_mnist_cli.data import MNISTDataset, split_rows
        from lora_mnist_cli.evaluation import predict, scores
        from lora_mnist_cli.model import MNISTModel
        from lora_mnist_cli.randomness import seeded
        from lora_mnist_cli.sources import normalisation
        from lora_mnist_cli.training import fit, history_csv

        start = time.perf_counter()
        stats = normalisation(config.dataset, workspace.data_dir)
        where: dict[str, Any] = {"dataset": config.dataset, "data_dir": workspace.data_dir, "pixel_stats": stats}
        # Both before the training: what is damaged is found out before the work, not after it.
        train, test = MNISTDataset.load("train", config.digits, **where), MNISTDataset.load("test", **where)
        with seeded(config.seed, "init"):
            model = MNISTModel(config.hidden_sizes)
        history = fit(
            model, train, config, runtime=workspace.runtime, reporter=workspace.reporter, title=name,
            log_folder=folder / LOG_FOLDER,
        )  # fmt: skip
        save_base(model, folder)
        rows, _ = split_rows(len(train), config.val_split, config.seed_of("split"))
        write_statistics(statistics_bytes(ClassStatistics.fit(*train[rows])), folder)
        write_history(history_csv(history), folder)
        return workspace.registry.publish(
            folder,
            settings,
            scores=scores(predict(model, test.images), test.labels, reporting_sets(config.digits)),
            details={
                "layers": {layer: list(shape) for layer, shape in layer_shapes(config.hidden_sizes).items()},
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "pixel_stats": list(stats),
            },
            environment=environment(workspace.runtime),
            wall_seconds=time.perf_counter() - start,
            force=force,
        )
