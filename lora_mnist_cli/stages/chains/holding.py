"""Networks along a chain whose weights are held where earlier tasks need them, published with their penalty.

The penalty is that of elastic weight consolidation, or of synaptic intelligence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.stages.chains.succession import Succession, Turn
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import STATISTICS, TRAINING

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.training.ewc import EwcPenalty

PENALTY_FILE = "springs.safetensors"
_FIELDS = {"stiffness": "fisher", "pull": "fisher_times_weight"}
"""Prefix of a tensor's key in the file → field of the penalty."""

EWC_STRENGTH = 1e4
"""λ: the largest power of ten that leaves the *new* digits a validation accuracy of 95 % (0-4 then 5-9, seed 0: 97.9 at
10, then 97.5, 95.6, 95.2 and 94.9 at 1e5). It was chosen without the old digits."""

SI_STRENGTH = 100.0
"""2 c of the paper, chosen by the same rule: 98.2 at 0.1, then 97.8, 96.4, 95.2 and 91.9 at 1,000."""


def held_states(chain_run: ChainRun, label: str) -> list[State]:
    """Return the network after each task by ``ewc`` or ``si``."""
    recipe, ewc = chain_run.base, label == "ewc"
    config = {
        "strength": EWC_STRENGTH if ewc else SI_STRENGTH, "epochs": recipe.epochs, "batch_size": recipe.batch_size,
        "lr": recipe.lr,
    }  # fmt: skip
    works, learn, title = (ewc_works, _learn_by_ewc, "EWC") if ewc else (si_works, _learn_by_si, "SI")
    return Succession(label, title, config, works, learn).states(chain_run)


def ewc_works(chain_run: ChainRun) -> list[Work]:
    """Return the work of each task, that of the first one included, whose network is trained already."""
    first, *later = chain_run.tasks
    untrained = dataclasses.replace(chain_run.base, epochs=0)
    return [costs.of_ewc(untrained, first), *(costs.of_ewc(chain_run.base, task) for task in later)]


def si_works(chain_run: ChainRun) -> list[Work]:
    """Return the work of each task; the first is learned again, because its way through training counts."""
    return [{**costs.of_ewc(chain_run.base, task), STATISTICS: 0.0} for task in chain_run.tasks]


def _learn_by_ewc(chain_run: ChainRun, turn: Turn) -> Callable[[Tensor], Tensor]:
    from lora_mnist_cli.training import ewc

    model, penalty = _begin(chain_run, turn, trained=True)
    if not turn.first:
        _train(chain_run, turn, model, penalty.gradient(EWC_STRENGTH))
    turn.reporter.phase(STATISTICS, turn.work[STATISTICS])
    penalty = penalty.with_task(model, ewc.fisher_diagonal(model, turn.data[turn.rows][0]))
    return _end(turn, model, penalty)


def _learn_by_si(chain_run: ChainRun, turn: Turn) -> Callable[[Tensor], Tensor]:
    from lora_mnist_cli.training import si

    model, penalty = _begin(chain_run, turn, trained=False)
    way = si.PathIntegral(model, penalty.gradient(SI_STRENGTH))
    _train(chain_run, turn, model, way)
    return _end(turn, model, si.held_here(penalty, model, way.importance(model)))


def _begin(chain_run: ChainRun, turn: Turn, *, trained: bool) -> tuple[MNISTModel, EwcPenalty]:
    """Return the network and the penalty before a task; before the first, whether the base is ``trained`` already."""
    from lora_mnist_cli.models.mlp import MNISTModel
    from lora_mnist_cli.registry.checkpoint import load_base
    from lora_mnist_cli.stages.records.loading import untrained_base
    from lora_mnist_cli.training.ewc import EwcPenalty

    if turn.first and not trained:
        model = untrained_base(chain_run.base)
    else:
        model = MNISTModel(chain_run.base.hidden_sizes)
        load_base(model, turn.before)
    return model, EwcPenalty.zero(model) if turn.first else load_penalty(model, turn.before)


def _train(
    chain_run: ChainRun, turn: Turn, model: MNISTModel, add_penalty: Callable[[Tensor, Tensor], None]
) -> None:  # fmt: skip
    from lora_mnist_cli.training import ewc

    recipe = chain_run.base
    turn.reporter.phase(TRAINING, turn.work[TRAINING])
    ewc.learn(
        model, turn.data, turn.rows, add_penalty, epochs=recipe.epochs, batch_size=recipe.batch_size, lr=recipe.lr,
        seed=recipe.seed_of("order"), reporter=turn.reporter, title=turn.name,
    )  # fmt: skip


def _end(turn: Turn, model: MNISTModel, penalty: EwcPenalty) -> Callable[[Tensor], Tensor]:
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.registry.checkpoint import save_base

    save_base(model, turn.folder)
    save_penalty(penalty, turn.folder)
    return lambda images: predict(model, images)


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
