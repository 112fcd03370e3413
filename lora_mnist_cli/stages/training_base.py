"""The first stage: a base learns a digit set."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.data.sources import read_ahead
from lora_mnist_cli.models.architecture import layer_shapes
from lora_mnist_cli.registry.artifact import Artifact, Settings, check_new_name
from lora_mnist_cli.registry.newest import same_settings
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import reporting_sets
from lora_mnist_cli.settings.keywords import BaseKeywords, base_config
from lora_mnist_cli.settings.own_data import digits_in, known_digits
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.records.datasets import named_dataset
from lora_mnist_cli.stages.records.loggers import LoggedRun, check_logger, log_beside, log_into
from lora_mnist_cli.stages.records.resolving import base_name
from lora_mnist_cli.stages.workspace import Making, Workspace, environment, made_by, write_history
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.work import IMAGES, LOADING, SCORING, STATISTICS, TRAINING
from lora_mnist_cli.training.fused.support import refuse_obstacle

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lora_mnist_cli.data.dataset import MNISTDataset


@stage
def train_base(
    config: BaseConfig | None = None, *, workspace: Workspace | None = None, name: str | None = None,
    force: bool = False, **settings: Unpack[BaseKeywords],
) -> Artifact:  # fmt: skip
    """Train a base, score it on the test images and publish it.

    Args:
        config: the reference recipe by default.
        name: by default one that says what is inside, as ``base-0-4``.
        force: train even where the artifact is up to date, and replace one with other settings.
        settings: fields of the config, each in place of the config's own: ``train_base(digits="0-4", seed=1)``. The
            data set may be a folder of pictures or an ``.npz`` file of the user's own.

    Returns:
        The artifact; the existing one where it is up to date.

    Raises:
        UsageError: where there is no such data set, or it has no class for one of the digits.
        ArtifactError: where the name has other settings, or ``force`` would take a parent from its descendants.
        DataError: where the data set is not available.
        DivergedError: where the loss stops being finite.
        MachineError: where the artifact can't be written.
    """
    workspace = workspace or Workspace()
    if name is not None:
        check_new_name(name)
    config, dataset = _chosen(workspace, config, settings)
    usual = base_name(config)
    name = check_new_name(usual) if name is None else name
    fixed = Settings("base", config.to_json(), dataset)
    if base := workspace.up_to_date(name, fixed, force):
        return base
    if name == usual and not force:
        same = same_settings(workspace.runs_dir, "base", [fixed.fingerprint()])
        for base in same.values():
            return workspace.copied(base, name)
    check_logger(workspace.runtime)
    if workspace.runtime.engine_taken == "fused":
        refuse_obstacle(config)
    workspace.reporter.detail(f"training {name}: engine {workspace.runtime.engine_taken}")
    work, reporter = costs.of_base(config), workspace.reporter
    reporter.plan({LOADING: costs.loading(), **work})
    reporter.phase(LOADING, costs.loading())
    read_ahead(config.dataset, workspace.data_dir, "train", "test")
    from lora_mnist_cli.data.dataset import MNISTDataset
    from lora_mnist_cli.data.sources import normalisation
    from lora_mnist_cli.evaluation.logits import predict, scores
    from lora_mnist_cli.registry.checkpoint import save_base
    from lora_mnist_cli.stages.records.loading import untrained_base
    from lora_mnist_cli.training.trainer import fit, history_csv

    with workspace.making(name, fixed, force=force) as making:
        reporter.phase(IMAGES, work[IMAGES])
        stats = normalisation(config.dataset, workspace.data_dir)
        source: dict[str, Any] = {"dataset": config.dataset, "data_dir": workspace.data_dir, "pixel_stats": stats}
        # Both before the training, so that damaged files are found before the work.
        train, test = MNISTDataset.load("train", config.digits, **source), MNISTDataset.load("test", **source)
        model = untrained_base(config)
        reporter.phase(TRAINING, work[TRAINING])
        history = fit(model, train, config, runtime=workspace.runtime, reporter=reporter, title=name)
        reporter.phase(SCORING, work[SCORING])
        reached = scores(
            predict(model, test.images), test.labels, reporting_sets(config.digits, known=known_digits(dataset))
        )
        save_base(model, making.folder)
        reporter.phase(STATISTICS, work[STATISTICS])
        _write_statistics(making, config, train, stats)
        write_history(history_csv(history), making.folder)
        rows_of_history = [asdict(row) for row in history]
        run = LoggedRun(name, {"kind": "base", **fixed.config}, rows_of_history, reached, note=workspace.note)
        with machine_errors(f"can't write to {making.folder}"):
            log_into(making.folder, workspace.runtime, run)
        layers = {layer: list(shape) for layer, shape in layer_shapes(config.hidden_sizes).items()}
        parameters = sum(parameter.numel() for parameter in model.parameters())
        details = {"layers": layers, "parameters": parameters, "pixel_stats": list(stats)}
        base = making.publish(
            scores=reached, details=details, made_in=environment(workspace.runtime, trained=True)
        )  # fmt: skip
        log_beside(base, workspace.runtime, reporter, run)
        return base


def _chosen(
    workspace: Workspace, config: BaseConfig | None, settings: BaseKeywords
) -> tuple[BaseConfig, dict[str, Any]]:
    """Return the config, with the name of its data set and digits that this has; and the data set as manifests do."""
    if "dataset" in settings:
        settings["dataset"] = named_dataset(workspace, settings["dataset"])
    config = base_config(config, settings)
    dataset = workspace.dataset_settings(config.dataset)
    return replace(config, digits=digits_in(dataset, config.digits)), dataset


def _write_statistics(making: Making, config: BaseConfig, train: MNISTDataset, stats: tuple[float, float]) -> None:
    """Write the statistics of the training split: those that other artifacts share, or new ones."""
    from lora_mnist_cli.data.dataset import split_rows
    from lora_mnist_cli.registry.checkpoint import fit_statistics
    from lora_mnist_cli.registry.file_names import DIMENSIONS, FEATURES_FILE
    from lora_mnist_cli.registry.shared_statistics import find_statistics, statistics_recipe, write_shared

    root, split = making.workspace.runs_dir, (config.val_split, config.seed_of("split"))
    described = (making.settings.dataset, str(config.digits), stats, split)
    recipes = {
        file: statistics_recipe(*described, made_by=made_by(), features=file == FEATURES_FILE) for file in DIMENSIONS
    }
    found = {file: find_statistics(root, recipe, DIMENSIONS[file]) for file, recipe in recipes.items()}
    files = {file: content for file, content in found.items() if content is not None}
    if files.keys() != DIMENSIONS.keys():
        rows, _ = split_rows(len(train), *split)
        files = fit_statistics(*train[rows], known=files)
    for file, content in files.items():
        write_shared(content, recipes[file], making.folder / file, root)
