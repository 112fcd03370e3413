"""Classifiers that a strategy publishes itself: one after each task, made from that after the task before.

Such an artifact is a report with the files of the classifier, and no base: only the next task of the same chain goes on
from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.chain_run import ChainRun, Document, State
from lora_mnist_cli.system.progress import Reporter, Work
from lora_mnist_cli.system.work import IMAGES, SCORING

if TYPE_CHECKING:
    from torch import Tensor

    from lora_mnist_cli.data.dataset import MNISTDataset


@dataclass(frozen=True)
class Turn:
    """What is there when a task is learned.

    Args:
        name: of the artifact to be made.
        before: the artifact after the task before; at the first task the base, which has learned its images.
        data: the images of the task, of which ``rows`` are for training.
        work: about how long it takes, for the reporter.
        folder: where the files of the artifact are put.
    """

    name: str
    before: Artifact
    data: MNISTDataset
    rows: Tensor
    work: Work
    reporter: Reporter
    folder: Path

    @property
    def first(self) -> bool:
        """Whether it is the first task."""
        return self.before.kind == "base"


@dataclass(frozen=True)
class Succession:
    """How a strategy learns a task by itself.

    Args:
        label: of the strategy.
        title: its name in tables.
        config: its settings, beside seed and split.
        works: about how much work each task is, the first included.
        learn: learns a task, and returns what gives logits (n × 10) of images (n × 784).
    """

    label: str
    title: str
    config: Document
    works: Callable[[ChainRun], Sequence[Work]]
    learn: Callable[[ChainRun, Turn], Callable[[Tensor], Tensor]]

    def states(self, chain_run: ChainRun) -> list[State]:
        """Return the artifact after each task; those that are up to date are not made again."""
        before = chain_run.first()
        states: list[State] = []
        works = self.works(chain_run)
        for number, (work, (task, turn)) in enumerate(zip(works, chain_run.turns(works), strict=True)):
            name = f"{chain_run.prefix}-{self.label}-after-{number + 1}{chain_run.suffix}"
            before = self._after(turn, name, task, before, work)
            states.append((before,))
        return states

    def _after(self, chain_run: ChainRun, name: str, task: DigitSet, before: Artifact, work: Work) -> Artifact:
        """Return the artifact after one more task."""
        workspace, recipe = chain_run.workspace, chain_run.base
        config = {"cure": self.label, "digits": str(task), "seed": recipe.seed, "val_split": recipe.val_split}
        parents = (Parent("input", before.name, before.digest),)
        settings = Settings("report", config | self.config, before.settings.dataset, parents)
        if found := workspace.up_to_date(name, settings, force=False):
            return found
        reporter = workspace.reporter
        with workspace.making(name, settings) as making:
            from lora_mnist_cli.data.dataset import MNISTDataset, split_rows
            from lora_mnist_cli.data.sources import normalisation
            from lora_mnist_cli.evaluation.logits import scores
            from lora_mnist_cli.settings.digits import reporting_sets
            from lora_mnist_cli.system.arithmetic import computing

            reporter.phase(IMAGES, costs.READING)
            dataset, data_dir = before.dataset, workspace.data_dir
            stats = normalisation(dataset, data_dir)
            data = MNISTDataset.load("train", task, dataset=dataset, data_dir=data_dir, pixel_stats=stats)
            rows, _ = split_rows(len(data), recipe.val_split, recipe.seed_of("split"))
            with computing():
                answer = self.learn(chain_run, Turn(name, before, data, rows, work, reporter, making.folder))
            reporter.phase(SCORING, costs.SCORING_ONE)
            test = workspace.test_images(before, stats)
            with computing():
                reached = scores(answer(test.images), test.labels, reporting_sets(task, known=before.known_digits))
            same = {"measure": "accuracy", "study": None, "difference": None}
            subsets = reached["subsets"]
            table = [{"what": self.title, "digits": row["digits"], **same, "here": row["accuracy"]} for row in subsets]
            return making.publish(scores=reached, details={"rows": table})
