"""Elastic weight consolidation along a chain: publishes the network and its penalty after each task.

A published network is a report with weights, and no base: only the next task of the same chain goes on from it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import costs
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import IMAGES, SCORING, STATISTICS, TRAINING

if TYPE_CHECKING:
    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.stages.chains.chain_run import ChainRun
    from lora_mnist_cli.training.ewc import EwcPenalty

PENALTY_FILE = "springs.safetensors"
_FIELDS = {"stiffness": "fisher", "pull": "fisher_times_weight"}
"""Prefix of a tensor's key in the file → field of the penalty."""

STRENGTH = 1e4
"""λ: the largest power of ten that leaves the *new* digits a validation accuracy of 95 % (0-4 then 5-9, seed 0: 97.9 at
10, then 97.5, 95.6, 95.2 and 94.9 at 1e5). It was chosen without the old digits."""


def ewc_states(chain_run: ChainRun, label: str) -> list[Artifact]:
    """Return the artifact after each task; those that are up to date are not trained again."""
    states = [chain_run.first()]
    for number, (task, turn) in enumerate(chain_run.turns(ewc_works(chain_run)), 1):
        name = f"{chain_run.prefix}-{label}-after-{number}{chain_run.suffix}"
        states.append(_after(turn, name, task, states[-1]))
    return states[1:]


def ewc_works(chain_run: ChainRun) -> list[Work]:
    """Return the work of each task, that of the first one included, whose network is trained already."""
    first, *later = chain_run.tasks
    untrained = dataclasses.replace(chain_run.base, epochs=0)
    return [costs.of_ewc(untrained, first), *(costs.of_ewc(chain_run.base, task) for task in later)]


def _after(chain_run: ChainRun, name: str, task: DigitSet, before: Artifact) -> Artifact:
    """Return the network after one more task; before the first task stands the base, which has learned that task."""
    workspace, recipe = chain_run.workspace, chain_run.base
    first = before.kind == "base"
    config = {
        "cure": "ewc", "digits": str(task), "seed": recipe.seed, "strength": STRENGTH, "epochs": recipe.epochs,
        "batch_size": recipe.batch_size, "lr": recipe.lr, "val_split": recipe.val_split,
    }  # fmt: skip
    parents = (Parent("input", before.name, before.digest),)
    settings = Settings("report", config, before.settings.dataset, parents)
    if found := workspace.up_to_date(name, settings, force=False):
        return found
    reporter, work = workspace.reporter, costs.of_ewc(recipe, task)
    with workspace.making(name, settings) as making:
        from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
        from lora_mnist_cli.data.sources import normalisation
        from lora_mnist_cli.evaluation.logits import predict, scores
        from lora_mnist_cli.models.mlp import MNISTModel
        from lora_mnist_cli.registry.checkpoint import load_base, save_base
        from lora_mnist_cli.settings.digits import reporting_sets
        from lora_mnist_cli.system.arithmetic import computing
        from lora_mnist_cli.training import ewc

        reporter.phase(IMAGES, costs.READING)
        stats = normalisation(before.dataset, workspace.data_dir)
        data = MNISTDataset.load("train", task, dataset=before.dataset, data_dir=workspace.data_dir, pixel_stats=stats)
        rows, _ = split_rows(len(data), recipe.val_split, recipe.seed_of("split"))
        model = MNISTModel(recipe.hidden_sizes)
        load_base(model, before)
        penalty = ewc.EwcPenalty.zero(model) if first else load_penalty(model, before)
        with computing():
            if not first:
                reporter.phase(TRAINING, work[TRAINING])
                ewc.learn(
                    model, data, rows, penalty, strength=STRENGTH, epochs=recipe.epochs,
                    batch_size=recipe.batch_size, lr=recipe.lr, seed=recipe.seed_of("order"), reporter=reporter,
                    title=name,
                )  # fmt: skip
            reporter.phase(STATISTICS, work[STATISTICS])
            penalty = penalty.with_task(model, ewc.fisher_diagonal(model, data[rows][0]))
        save_base(model, making.folder)
        save_penalty(penalty, making.folder)
        reporter.phase(SCORING, costs.SCORING_ONE)
        test = workspace.test_images(before, stats)
        reached = scores(predict(model, test.images), test.labels, reporting_sets(task))
        same = {"measure": "accuracy", "study": None, "difference": None}
        subsets = reached["subsets"]
        table = [{"what": "EWC", "digits": row["digits"], **same, "here": row["accuracy"]} for row in subsets]
        return making.publish(scores=reached, details={"rows": table})


def save_penalty(penalty: EwcPenalty, folder: Path) -> None:
    """Write the penalty of all earlier tasks to :data:`PENALTY_FILE`."""
    from lora_mnist_cli.registry.checkpoint import save_tensors

    fields = {key: getattr(penalty, field) for key, field in _FIELDS.items()}
    tensors = {f"{key}.{name}": tensor for key, by_name in fields.items() for name, tensor in by_name.items()}
    save_tensors(tensors, folder / PENALTY_FILE)


def load_penalty(model: MNISTModel, artifact: Artifact) -> EwcPenalty:
    """Read what :func:`save_penalty` wrote, for a model of the same layers.

    Raises:
        ArtifactError: where the file is missing or damaged, or a key, shape or dtype differs.
    """
    from lora_mnist_cli.registry.checkpoint import load_tensors
    from lora_mnist_cli.training.ewc import EwcPenalty

    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    keys = {f"{key}.{name}": shape for key in _FIELDS for name, shape in shapes.items()}
    tensors = load_tensors(artifact, PENALTY_FILE, keys)
    return EwcPenalty(**{field: {name: tensors[f"{key}.{name}"] for name in shapes} for key, field in _FIELDS.items()})
