"""A bank's protections: the gradient of a loss of several terms, directions that adapters avoid, and members' twins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from members import BATCH, MIX, PIXELS, adapted, assert_equal, base, images, optimizer_of, rows
from torch import Tensor, nn
from torch.nn import functional as F

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.objective import LossTerm

pytestmark = pytest.mark.usefixtures("one_thread")

OLD, NEW = [0, 2, 3], [1, 4, 5, 6, 7, 8, 9]
HIDDEN = torch.full((10,), -math.inf, dtype=torch.float64)
HIDDEN[NEW] = 0
CHANGING = [*MIX[:6], dataclasses.replace(MIX[7], lr=1e-4)]
"""Settings in which members differ, with and without neighbours of their own shape."""


def objective(data: MNISTDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Soft targets, which rows see new logits alone, and targets of a second term over the old logits."""
    draw = torch.Generator().manual_seed(8)
    soft = torch.rand(len(data), 10, generator=draw, dtype=torch.float64).softmax(1)
    masked = torch.rand(len(data), generator=draw) < 0.5
    chosen = torch.tensor(NEW)[torch.randint(len(NEW), (int(masked.sum()),), generator=draw)]
    soft[masked] = F.one_hot(chosen, 10).double()
    old = torch.rand(len(data), len(OLD), generator=draw, dtype=torch.float64).softmax(1)
    return soft, masked, old


def terms(data: MNISTDataset) -> list[LossTerm]:
    soft, masked, old = objective(data)
    hidden = torch.where(masked[:, None], HIDDEN, 0.0)
    over_old = torch.full((len(data), 10), -math.inf, dtype=torch.float64)
    over_old[:, OLD] = 0
    targets = torch.zeros(len(data), 10, dtype=torch.float64)
    targets[:, OLD] = old
    return [LossTerm(soft, hidden), LossTerm(0.75 * 2 * targets, over_old, 0.75 * 2, 2.0)]


def their_loss(logits: Tensor, data: MNISTDataset, chosen: Tensor) -> Tensor:
    """The same loss, term by term and group by group."""
    soft, masked, old = (each[chosen] for each in objective(data))
    seeing_all = -(soft * torch.log_softmax(logits, 1)).sum(1)
    seeing_new = -(soft[:, NEW] * torch.log_softmax(logits[:, NEW], 1)).sum(1)
    kept = -(old * torch.log_softmax(logits[:, OLD] / 2, 1)).sum(1)
    return (torch.where(masked, seeing_new, seeing_all) + 0.75 * 4 * kept).mean()


def directions(sizes: Sequence[int]) -> list[Tensor]:
    draw = torch.Generator().manual_seed(9)
    return [torch.linalg.qr(torch.randn(n, n // 2, generator=draw, dtype=torch.float64))[0] for n in sizes]


def train(
    configs: Sequence[AdapterConfig], plain: MNISTModel, data: MNISTDataset, avoided: Sequence[Tensor], steps: int = 60
) -> list[nn.Module]:
    models = [adapted(plain, config) for config in configs]
    inputs = FrozenInputs(data, plain.fc1, terms(data))  # type: ignore[arg-type]
    cohort = Cohort(models, inputs, BATCH, avoided=avoided)
    cohort.steps(rows(data, steps), optimizer_of(cohort, configs).step)
    return models


def project(model: nn.Module, avoided: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for name, layer in lora.adapted_layers(model).items():
            U = avoided[int(name[2:]) - 1]
            layer.lora_A -= layer.lora_A @ U @ U.mT


def plain_loop(
    model: nn.Module, config: AdapterConfig, data: MNISTDataset, avoided: Sequence[Tensor], steps: int = 60
) -> None:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decay = 0.01 if config.weight_decay is None else config.weight_decay
    optimizer = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=decay)
    if avoided:
        project(model, avoided)
    for chosen in rows(data, steps).split(BATCH):
        optimizer.zero_grad()
        their_loss(model(data.images[chosen]), data, chosen).backward()
        optimizer.step()
        if avoided:
            project(model, avoided)


@pytest.mark.parametrize("hidden", [(12, 9), (60, 60)])
@pytest.mark.parametrize("avoiding", [False, True])
def test_protected_members_are_the_plain_loop(hidden, avoiding):
    plain, data = base(hidden), images(torch.float64)
    avoided = directions((PIXELS, *hidden)) if avoiding else []
    for config, member in zip(CHANGING, train(CHANGING, plain, data, avoided), strict=True):
        twin = adapted(plain, config)
        plain_loop(twin, config, data, avoided)
        assert_equal(member, twin, 1e-9)


def test_protected_seeds_in_the_same_steps_are_each_seed_alone():
    configs = [dataclasses.replace(config, seed=seed) for config in CHANGING[:3] for seed in range(3)]
    plain, data, avoided = base(), images(torch.float64), directions((PIXELS, 12, 9))
    models = [adapted(plain, config) for config in configs]
    inputs = FrozenInputs(data, plain.fc1, terms(data))  # type: ignore[arg-type]
    cohort = Cohort(models, inputs, BATCH, seeds=3, avoided=avoided)
    lines = torch.randint(len(data), (3, 20 * BATCH - 5), generator=torch.Generator().manual_seed(5))
    cohort.steps(lines, optimizer_of(cohort, configs).step)
    for seed in range(3):
        alone = [adapted(plain, config) for config in configs[seed::3]]
        own = Cohort(alone, inputs, BATCH, avoided=avoided)
        own.steps(lines[seed], optimizer_of(own, configs[seed::3]).step)
        for member, twin in zip(models[seed::3], alone, strict=True):
            assert_equal(member, twin, 1e-9)


def test_the_plain_term_is_plain_training_bit_for_bit():
    """One term over all logits, with the digits as targets, is what a bank does without any."""
    plain, data = base(dtype=torch.float32), images(torch.float32)
    results = []
    for own in ((), [LossTerm(F.one_hot(data.labels, 10).float())]):
        models = [adapted(plain, config) for config in CHANGING]
        cohort = Cohort(models, FrozenInputs(data, plain.fc1, own), BATCH)  # type: ignore[arg-type]
        losses = cohort.steps(rows(data, 30), optimizer_of(cohort, CHANGING).step)
        results.append((models, losses.tolist(), cohort.scores(torch.arange(len(data)))))
    assert results[0][1:] == results[1][1:]
    for one, other in zip(results[0][0], results[1][0], strict=True):
        assert_equal(one, other, 0.0)


def test_a_protected_member_that_leaves_the_finite_numbers_disturbs_nobody():
    data, avoided, results = images(torch.float64), directions((PIXELS, 12, 9)), []
    for value in (1.0, math.nan):
        plain = base()
        models = [adapted(plain, config) for config in CHANGING]
        with torch.no_grad():
            for factor in adapter_tensors(models[2]).values():
                factor.fill_(value)
        cohort = Cohort(models, FrozenInputs(data, plain.fc1, terms(data)), BATCH, avoided=avoided)  # type: ignore[arg-type]
        cohort.steps(rows(data, 20), optimizer_of(cohort, CHANGING).step)
        results.append(models)
    for m, (one, other) in enumerate(zip(*results, strict=True)):
        if m != 2:
            assert_equal(one, other, 0.0)
