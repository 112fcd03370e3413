"""One network along a chain that rehearses old digits on samples of upright densities, published with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.stages.chains.succession import Succession, Turn
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import STATISTICS, TRAINING

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.models.upright import UprightStatistics
    from lora_mnist_cli.registry.artifact import Artifact

UPRIGHT_FILE = "upright.safetensors"

SAMPLES, BATCH_SIZE, LR, NOISE = 2, 256, 4e-3, 0.8
"""Samples per image that the digits so far had, rows per step, the highest rate of Adam on a cosine, and the noise on a
normalised pixel, a standard deviation of a quarter of the way from black to white. They were chosen on validation
images (docs/forgetting.md), and are the same for all tasks."""


def rehearsed(chain_run: ChainRun) -> list[State]:
    """Train the whole network on each task's images and on samples of all digits so far, which are drawn from densities
    of upright images (Robins 1995, Connection Science 7(2); Shin et al. 2017, arXiv:1705.08690).
    """
    config = {
        "epochs": chain_run.base.epochs, "samples": SAMPLES, "batch_size": BATCH_SIZE, "lr": LR, "noise": NOISE,
    }  # fmt: skip
    return Succession("rehearsed", "Rehearsed", config, rehearsal_works, _learn).states(chain_run)


def rehearsal_works(chain_run: ChainRun) -> list[Work]:
    """Return the work of each task, that of the first one included, whose network is trained already."""
    return [costs.of_rehearsal(chain_run.base, chain_run.tasks[:n]) for n in range(1, len(chain_run.tasks) + 1)]


def _learn(chain_run: ChainRun, turn: Turn) -> Callable[[Tensor], Tensor]:
    import torch

    from lora_mnist_cli.data.streams import generator
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.upright import UprightStatistics
    from lora_mnist_cli.registry.checkpoint import load_base, save_base, statistics_bytes
    from lora_mnist_cli.settings.digits import DigitSet
    from lora_mnist_cli.stages.records.loading import untrained_base
    from lora_mnist_cli.training.rehearsal import rehearse

    recipe, reporter = chain_run.base, turn.reporter
    reporter.phase(STATISTICS, turn.work[STATISTICS])
    images, labels = turn.data[turn.rows]
    nothing = UprightStatistics.nothing()
    known = nothing if turn.first else known_before(turn.before)
    known = known.joined(UprightStatistics.fit(images, labels, like=nothing))
    model = untrained_base(recipe)
    if turn.first:
        load_base(model, turn.before)
    else:
        mean, std = turn.data.pixel_stats or (0.0, 1.0)
        stream = generator(recipe.seed_of("replay"), "replay")
        samples = known.sample(SAMPLES * int(known.counts.sum()), stream, pixel_range=(-mean / std, (1 - mean) / std))
        reporter.phase(TRAINING, turn.work[TRAINING])
        digits = DigitSet(torch.unique(labels).tolist())
        rehearse(
            model, (images, labels), samples, digits, epochs=recipe.epochs, batch_size=BATCH_SIZE, lr=LR,
            noise=NOISE, seed=recipe.seed_of("order"), reporter=reporter, title=turn.name,
        )  # fmt: skip
    save_base(model, turn.folder)
    with machine_errors(f"can't write {UPRIGHT_FILE}"):
        (turn.folder / UPRIGHT_FILE).write_bytes(statistics_bytes(known))
    return lambda images: predict(model, images)


def known_before(artifact: Artifact) -> UprightStatistics:
    """Read the densities of all digits that an artifact of this strategy has.

    Raises:
        ArtifactError: where the file is damaged or makes no sense.
    """
    from lora_mnist_cli.models.upright import UprightStatistics
    from lora_mnist_cli.registry.weights import parsing

    try:
        with parsing(artifact, UPRIGHT_FILE):
            return UprightStatistics.from_bytes(artifact.read(UPRIGHT_FILE))
    except ValueError as error:
        raise ArtifactError(f"'{artifact.name}' is damaged: {UPRIGHT_FILE}: {error}", value=UPRIGHT_FILE) from error
