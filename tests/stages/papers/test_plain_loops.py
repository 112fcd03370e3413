"""Every claim's figures are those of plain loops: PEFT for adapters, autograd and ``torch.optim`` for everything."""

from __future__ import annotations

import copy
import importlib
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset, ShuffledBlocks
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import CLAIMS
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages.papers.seed_runs import NEW, OLD, SUBSPACE_STREAM, SeedRuns, best
from lora_mnist_cli.stages.papers.study import claim_named
from lora_mnist_cli.stages.records.loading import twin, untrained_base
from lora_mnist_cli.system.errors import DivergedError
from lora_mnist_cli.training.trainer import fit
from lora_mnist_cli.training.trials.watching import Images, Run, Weights
from lora_mnist_cli.training.trials.whole import SubspaceTrial

LORA = [
    {"rank": 1, "scaling": "standard", "alpha": 32.0, "lr": 2e-3}, {"rank": 4, "scaling": "rslora", "alpha": 16.0},
    {"rank": 4, "lr_ratio_b": 16.0, "lr": 5e-4}, {"rank": 80}, {"rank": 2, "train": "B"}, {"rank": 2, "train": "A"},
    {"rank": 1, "target_layers": ("fc2",)},
]  # fmt: skip


@pytest.fixture(scope="module")
def studied(small_images: Callable[..., tuple[Any, Any]]) -> Callable[[type[SeedRuns]], SeedRuns]:
    """Makes the runs of one seed, in double precision, on few images; every look at test images has its own count."""
    stats = (0.3, 0.3)
    pixels, labels = small_images(1000, 1)
    train = MNISTDataset.from_pixels(pixels, labels, stats)
    test = MNISTDataset.from_pixels(*small_images(400, 2), stats)

    def of(digits: Any) -> MNISTDataset:
        rows = torch.isin(train.labels, torch.tensor(digits.members))
        return MNISTDataset(train.images[rows], train.labels[rows])

    config = BaseConfig(epochs=2)
    base = untrained_base(config)
    fit(base, of(OLD), config)
    base = base.double().requires_grad_(False)
    new = of(NEW).to(torch.device("cpu"), torch.float64)
    held = test.to(torch.device("cpu"), torch.float64)

    def make(kind: type[SeedRuns]) -> SeedRuns:
        return kind(0, copy.deepcopy(base), Images.of(new, config), held, 2)

    return make


class PlainRuns(SeedRuns):
    """The same trainings by plain loops, one after the other."""

    def runs(self, configs: Sequence[AdapterConfig], moments: Sequence[int] = ()) -> list[Run]:
        for config in configs:
            self._made.setdefault((config, *moments), [])
            if not self._made[config, *moments]:
                self._made[config, *moments] = [self._one(config, moments)]
        return [self._made[config, *moments][0] for config in configs]

    def subspace(self, dimensions: int, rates: Sequence[float]) -> list[Run]:
        found = []
        for rate in rates:
            config = self.config(method="full", lr=rate)
            drawn = torch.Generator().manual_seed(SUBSPACE_STREAM + self.seed)
            P = SubspaceTrial(self.base, config, self.images, dimensions, drawn).projection()
            assert torch.allclose(P.T @ P, torch.eye(dimensions, dtype=P.dtype))  # orthonormal directions
            start = {name: value.detach() for name, value in self.base.named_parameters()}
            z = torch.zeros(dimensions, dtype=P.dtype, requires_grad=True)

            def weights(z: Tensor = z, P: Tensor = P, start: Weights = start) -> Weights:
                parts = torch.split(P @ z, [value.numel() for value in start.values()])
                return {k: v + part.view(v.shape) for (k, v), part in zip(start.items(), parts, strict=True)}

            def answer(x: Tensor, weights: Callable[[], Weights] = weights) -> Tensor:
                return functional_call(self.base, weights(), (x,))

            optimizer = torch.optim.Adam([z], lr=rate)
            found.append(self._loop(config, answer, weights, optimizer, (), lambda: None))
        return found

    def _one(self, config: AdapterConfig, moments: Sequence[int]) -> Run:
        if config.method == "full":
            model: nn.Module = copy.deepcopy(self.base).requires_grad_(True)
            optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
            return self._loop(config, model, lambda: dict(model.state_dict()), optimizer, moments, lambda: None)
        model = self._peft(config)
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        of_b = [p for name, p in named if "lora_B" in name]
        others = [p for name, p in named if "lora_B" not in name]
        groups = [{"params": others}] if others else []
        groups += [{"params": of_b, "lr": config.lr * config.lr_ratio_b}] if of_b else []
        optimizer = torch.optim.Adam(groups, lr=config.lr)

        def norms() -> tuple[float, float] | None:
            def norm(some: list[Any]) -> float:
                return float(sum((p.grad**2).sum() for p in some)) ** 0.5

            return (norm(others), norm(of_b)) if config.method in ("lora", "pissa") else None

        def weights() -> Weights:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return dict(copy.deepcopy(model).merge_and_unload().state_dict())

        return self._loop(config, model, weights, optimizer, moments, norms)

    def _peft(self, config: AdapterConfig) -> nn.Module:
        from peft import LoraConfig, get_peft_model

        scale = {"constant": config.alpha * config.rank}.get(config.scaling, config.alpha)
        settings = LoraConfig(
            r=config.rank, lora_alpha=scale, use_rslora=config.scaling == "rslora", use_dora=config.method == "dora",
            target_modules=list(config.target_layers or ("fc1", "fc2", "fc3")),
            init_lora_weights="pissa" if config.method == "pissa" else True,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # PEFT's PiSSA refuses double precision.
            start = copy.deepcopy(self.base).float() if config.method == "pissa" else copy.deepcopy(self.base)
            model = get_peft_model(start, settings).double()
        if config.method == "pissa":
            _sharpen(model, self.base)
        else:
            ours = dict(twin(self.base, config).named_parameters())
            for name, parameter in model.named_parameters():
                layer, _, factor = name.removeprefix("base_model.model.").partition(".")
                for key in ("lora_A", "lora_B"):
                    if key in factor:
                        held = ours.get(f"{layer}.{key}")
                        parameter.data = ours[f"{layer}.trained.{key}_weight"] if held is None else held.detach()
                        parameter.data = parameter.data.clone()
                        if config.train not in ("both", key[-1]):
                            parameter.requires_grad_(False)
        return model

    def _loop(
        self, config: AdapterConfig, model: Callable[[Tensor], Tensor], weights: Callable[[], Weights],
        optimizer: torch.optim.Optimizer, moments: Sequence[int], norms: Callable[[], Any],
    ) -> Run:  # fmt: skip
        data, run, step = self.images.data, Run(config), 0
        order = ShuffledBlocks(data, self.images.train, config.batch_size, config.seed_of("order"))
        for _ in range(config.epochs):
            for rows in torch.split(order.next_order(), config.batch_size):
                optimizer.zero_grad()
                F.cross_entropy(model(data.images[rows]), data.labels[rows]).backward()
                optimizer.step()
                step += 1
                if step in moments or step == self.steps:
                    with torch.no_grad():
                        logits, labels = model(data.images[self.images.val]), data.labels[self.images.val]
                    run.moments.append(step)
                    run.val_losses.append(F.cross_entropy(logits, labels).item())
                    run.val_accuracies.append((logits.argmax(1) == labels).double().mean().item())
                    run.weights.append({name: value.detach().clone() for name, value in weights().items()})
                    run.gradients += [found] if (found := norms()) is not None else []
        return run


def _sharpen(model: nn.Module, base: nn.Module) -> None:
    """Bring PEFT's principal parts from single to double precision; each vector keeps the sign that PEFT gave it."""
    modules = dict(model.named_modules())
    for name, layer in base.named_children():
        adapted = modules[f"base_model.model.{name}"]
        A, B = adapted.lora_A.default.weight, adapted.lora_B.default.weight
        U, S, V = (torch.from_numpy(part) for part in np.linalg.svd(layer.weight.detach().numpy(), full_matrices=False))
        for rank in range(min(len(A), len(S))):
            sign = torch.sign(A[rank] @ V[rank]).detach()
            root = (S[rank] / adapted.scaling["default"]).sqrt()
            torch.testing.assert_close(A[rank].detach(), sign * root * V[rank], rtol=1e-3, atol=1e-5)
            A.data[rank], B.data[:, rank] = sign * root * V[rank], sign * root * U[:, rank]
        adapted.base_layer.weight.data = layer.weight - adapted.scaling["default"] * (B @ A).detach()


def assert_same(ours: Run, plain: Run) -> None:
    assert ours.moments == plain.moments
    np.testing.assert_allclose(ours.val_losses, plain.val_losses, rtol=1e-6)
    assert ours.val_accuracies == pytest.approx(plain.val_accuracies)
    for mine, other in zip(ours.weights, plain.weights, strict=True):
        assert mine.keys() == other.keys()
        for name, value in mine.items():
            torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(ours.gradients, plain.gradients, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "settings", [*LORA, {"method": "pissa", "rank": 4, "lr": 2e-3}, {"method": "dora", "rank": 2}, {"method": "full"}]
)
def test_a_trial_is_a_plain_loop(studied, settings):
    pytest.importorskip("peft")
    ours, plain = studied(SeedRuns), studied(PlainRuns)
    config = ours.config(**settings)
    for mine, other in zip(ours.runs([config], (1, 4)), plain.runs([config], (1, 4)), strict=True):
        assert_same(mine, other)


def test_a_random_subspace_is_a_dense_product(studied):
    for mine, other in zip(
        studied(SeedRuns).subspace(16, [0.03]), studied(PlainRuns).subspace(16, [0.03]), strict=True
    ):
        assert_same(mine, other)


def test_members_of_any_kind_keep_their_places_and_are_trained_once(studied):
    runs = studied(SeedRuns)
    configs = [
        runs.config(method="full"), runs.config(rank=8), runs.config(method="pissa", rank=2),
        runs.config(rank=2, lr=2e-3), runs.config(method="pissa", rank=4), runs.config(rank=8, lr=2e-3),
    ]  # fmt: skip
    found = runs.runs(configs)
    assert [run.config for run in found] == configs
    assert runs.runs(list(configs)) is found
    assert runs.looks == 0
    base = runs.base.state_dict()
    assert all(not torch.equal(run.weights[-1]["fc2.weight"], base["fc2.weight"]) for run in found)
    runs.scores(found[0].weights[-1])
    assert runs.looks == 1


@pytest.fixture(scope="module")
def both(studied: Callable[[type[SeedRuns]], SeedRuns]) -> tuple[SeedRuns, SeedRuns]:
    """Ours and the plain ones, which the claims share as in a study."""
    return studied(SeedRuns), studied(PlainRuns)


FEW = (2e-3, 4e-3, 8e-3)


@pytest.fixture
def few_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every grid has three rates, and levels that few images reach."""
    modules = [importlib.import_module("lora_mnist_cli.stages.papers.grids")]
    modules += [importlib.import_module(claim_named(name).measure.__module__) for name in CLAIMS]
    values: dict[str, Any] = {"RATES": FEW, "FACTOR_RATES": FEW, "SLOW_RATES": FEW[:2], "DIMENSIONS": (32, 128)}
    # A dense product of 848 directions takes half a gigabyte.
    values["LAYERS"] = {"fc1": 120, "fc2": 80, "fc3": 40}
    for module in modules:
        for name, value in values.items():
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
        if hasattr(module, "VARIANTS"):
            monkeypatch.setattr(module, "VARIANTS", {k: (v, FEW) for k, (v, _) in module.VARIANTS.items()})
        for level, low in (("LEVEL", 0.0), ("SHARE", 0.2)):
            if hasattr(module, level):
                monkeypatch.setattr(module, level, low)


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claims_figures_are_those_of_plain_loops(both, few_rates, name):
    pytest.importorskip("peft")
    ours, plain = both
    measure = claim_named(name).measure
    mine, other = measure(ours), measure(plain)
    assert ours.looks == plain.looks > 0 or name == "best-rate"
    assert mine.figures.keys() == {figure.key for figure in claim_named(name).figures}
    found, expected = (
        {key: math.nan if value is None else value for key, value in each.figures.items()} for each in (mine, other)
    )
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
    assert any(value is not None for value in mine.figures.values())
    assert mine.curves.keys() == {panel.key for panel in claim_named(name).panels}
    for key, lines in mine.curves.items():
        for label, points in lines.items():
            assert [x for x, _ in points] == pytest.approx([x for x, _ in other.curves[key][label]])
            assert [y for _, y in points] == pytest.approx([y for _, y in other.curves[key][label]], rel=1e-4)


def test_the_best_run_has_the_lowest_finite_loss_and_there_has_to_be_one(studied):
    config = studied(SeedRuns).config(rank=1)
    runs = [Run(config, val_losses=[0.1, loss]) for loss in (math.nan, 0.3, 0.2, math.inf)]
    assert best(runs) is runs[2]
    with pytest.raises(DivergedError, match="every rate"):
        best([runs[0], runs[3]])


def test_a_network_is_its_weights(studied):
    runs = studied(SeedRuns)
    model = runs.network(runs.base.state_dict())
    assert isinstance(model, MNISTModel)
    scores, logits = runs.scores(runs.base.state_dict()), runs.logits(runs.base.state_dict()).numpy()
    labels = runs.test.labels.numpy()
    old = labels < 5
    assert scores.old == pytest.approx((logits.argmax(1) == labels)[old].mean())
    assert scores.old_known == pytest.approx((logits[old, :5].argmax(1) == labels[old]).mean())
    assert scores.new == pytest.approx((logits.argmax(1) == labels)[~old].mean())
