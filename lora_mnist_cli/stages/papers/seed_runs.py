"""The trainings of one seed that claims share: each is made once, and test images are scored only where asked."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.data.sources import normalisation
from lora_mnist_cli.evaluation.forgetting import masked, rows_of
from lora_mnist_cli.evaluation.logits import mean_scores, predict
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages.records.loading import twin, untrained_base
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.training.bank.grouping import cohorts
from lora_mnist_cli.training.trainer import fit
from lora_mnist_cli.training.trials.alone import AdapterTrial
from lora_mnist_cli.training.trials.factors import FactorTrial
from lora_mnist_cli.training.trials.watching import Images, Run, Trial, Weights, watch
from lora_mnist_cli.training.trials.whole import SubspaceTrial, WholeTrial

OLD, NEW = DigitSet(range(5)), DigitSet(range(5, 10))
SUBSPACE_STREAM = 10**6
"""Added to a seed for the draw of random subspaces: no other draw of a study has such a seed."""


@dataclass(frozen=True)
class Scores:
    """Accuracies and losses on test images: of the new digits and the old ones over all ten logits, and of the old
    ones among themselves (the task is known).
    """

    new: float
    new_loss: float
    old: float
    old_known: float
    old_known_loss: float


class SeedRuns:
    """A base, and what is trained from it with one seed.

    Args:
        base: trained on the old digits.
        images: of the new digits, split.
        test: all test images.
        epochs: of each training.
        advance: is told of optimiser steps.

    Attributes:
        looks: how often a network was scored on test images.
    """

    def __init__(
        self, seed: int, base: MNISTModel, images: Images, test: MNISTDataset, epochs: int,
        advance: Callable[[int], object] | None = None,
    ) -> None:  # fmt: skip
        self.seed, self.base, self.images, self.test, self.epochs = seed, base, images, test, epochs
        self.looks = 0
        self._advance = advance
        self._made: dict[tuple[object, ...], list[Run]] = {}

    @classmethod
    def prepared(
        cls, seed: int, *, epochs: int, base_epochs: int, dataset: str = "mnist", data_dir: Path,
        advance: Callable[[int], object] | None = None,
    ) -> SeedRuns:  # fmt: skip
        """Train a seed's base by the reference recipe, and read the images.

        Raises:
            DataError: where the images are not available.
            DivergedError: where the base diverges.
        """
        config = replace(recipe("reference").base, seed=seed, epochs=base_epochs, digits=OLD, dataset=dataset)
        source: dict[str, Any] = {"dataset": dataset, "data_dir": data_dir}
        source["pixel_stats"] = normalisation(dataset, data_dir)
        base = untrained_base(config)
        fit(base, MNISTDataset.load("train", OLD, **source), config)
        new = MNISTDataset.load("train", NEW, **source)
        return cls(
            seed, base.requires_grad_(False), Images.of(new, config), MNISTDataset.load("test", **source), epochs,
            advance,
        )  # fmt: skip

    def config(self, **settings: Any) -> AdapterConfig:
        """Return how an adapter is trained here: Adam with a constant rate, LoRA's usual start."""
        usual: dict[str, Any] = {"digits": NEW, "seed": self.seed, "epochs": self.epochs, "optimizer": "adam"}
        usual |= {"schedule": "constant"}
        if settings.get("method", "lora") == "lora":
            usual["init"] = "kaiming"
        return AdapterConfig(**(usual | settings))

    @property
    def steps(self) -> int:
        """Optimiser steps of a training."""
        return self.images.steps(self.config())

    def runs(self, configs: Sequence[AdapterConfig], moments: Sequence[int] = ()) -> list[Run]:
        """Train adapters of any methods, unless these were trained before; return their runs in this order.

        Args:
            moments: optimiser steps after which weights are kept; the end is always one.
        """
        key = (tuple(configs), tuple(moments))
        if key not in self._made:
            found = dict[int, Run]()
            for places, trial in self._trials(configs):
                found.update(zip(places, watch(trial, self.images, moments, self._advance), strict=True))
            self._made[key] = [found[place] for place in range(len(configs))]
        return self._made[key]

    def subspace(self, dimensions: int, rates: Sequence[float]) -> list[Run]:
        """Train the network in a random subspace, once with each rate."""
        runs = []
        for rate in rates:
            drawn = torch.Generator().manual_seed(SUBSPACE_STREAM + self.seed)
            trial = SubspaceTrial(self.base, self.config(method="full", lr=rate), self.images, dimensions, drawn)
            runs += watch(trial, self.images, (), self._advance)
        return runs

    def _trials(self, configs: Sequence[AdapterConfig]) -> Iterator[tuple[list[int], Trial]]:
        """Yield the trials that train these configs, each with the places of its members."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for place, config in enumerate(configs):
            # PiSSA's frozen rest of a weight depends on rank and scale.
            own = (config.rank, config.scaling, config.alpha) if config.method == "pissa" else ()
            groups.setdefault((config.method, *own), []).append(place)
        for (method, *_), places in groups.items():
            of_group = [configs[place] for place in places]
            if method == "lora":
                for members, _ in cohorts(of_group):
                    chosen = [of_group[m] for m in members]
                    models = [twin(self.base, config) for config in chosen]
                    yield [places[m] for m in members], FactorTrial(models, chosen, self.images)
            elif method == "pissa":
                yield places, FactorTrial(_from_principal(self.base, of_group), of_group, self.images)
            elif method == "full":
                yield from (([place], WholeTrial(self.base, configs[place], self.images)) for place in places)
            else:
                for place in places:
                    yield [place], AdapterTrial(twin(self.base, configs[place]), configs[place], self.images)

    def logits(self, weights: Weights) -> torch.Tensor:
        """Return a network's logits (n × 10) on the test images: a look at them."""
        self.looks += 1
        return predict(self.network(weights), self.test.images)

    def network(self, weights: Weights) -> MNISTModel:
        """Return a plain network with these weights."""
        model = copy.deepcopy(self.base)
        model.load_state_dict(weights)
        return model

    def scores(self, weights: Weights) -> Scores:
        """Return a network's scores on the test images: a look at them."""
        logits, labels = self.logits(weights), self.test.labels

        def on(digits: DigitSet, among: DigitSet = ALL_DIGITS) -> tuple[float, float]:
            rows = rows_of(labels, digits)
            return mean_scores(masked(logits[rows], among), labels[rows])

        known_loss, known = on(OLD, OLD)
        new_loss, new = on(NEW)
        return Scores(new, new_loss, on(OLD)[1], known, known_loss)


def best(runs: Sequence[Run]) -> Run:
    """Return the run with the lowest loss on validation images at its end.

    Raises:
        DivergedError: where no loss is finite.
    """
    finite = [run for run in runs if math.isfinite(run.val_losses[-1])]
    if not finite:
        rates = ", ".join(f"{run.config.lr:g}" for run in runs)
        raise DivergedError(f"training diverged at every rate: {rates}", value=rates)
    return min(finite, key=lambda run: run.val_losses[-1])


def _from_principal(base: MNISTModel, configs: Sequence[AdapterConfig]) -> list[MNISTModel]:
    """Return networks whose factors start as the weights' principal parts, on the rest of the weights (PiSSA)."""
    rest, method = copy.deepcopy(base), method_named("pissa")
    starts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    with torch.no_grad():
        for name, layer in rest.named_children():
            assert isinstance(layer, torch.nn.Linear)
            trained, _ = method.start(layer.weight, layer.bias, configs[0])
            starts[name] = trained["lora_A.weight"], trained["lora_B.weight"]
    models = [twin(rest, replace(config, method="lora", init="kaiming")) for config in configs]
    with torch.no_grad():
        layers = lora.adapted_layers(models[0])
        for name, layer in layers.items():
            A, B = starts[name]
            assert isinstance(layer, lora.LoRALinear)
            layer.base.weight -= layer.alpha * layer.scale * (B @ A)
        for model in models:
            for name, layer in lora.adapted_layers(model).items():
                A, B = starts[name]
                assert isinstance(layer, lora.LoRALinear)
                layer.lora_A.data[: len(A)] = A
                layer.lora_A.data[len(A) :] = 0
                layer.lora_B.data[:, : len(A)] = B
    return models
