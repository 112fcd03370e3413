"""The fused engine on a GPU, at full size: exact beside the bank of the CPU, repeatable, and no member another's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.training.bank.trainer import fit_bank
from lora_mnist_cli.training.fused import tuning
from lora_mnist_cli.training.outcomes import Outcome
from lora_mnist_cli.training.trainer import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.usefixtures("one_thread"),
]

CPU, FUSED = Runtime(accelerator="cpu"), Runtime(engine="fused")
CONFIG = AdapterConfig(epochs=1, digits=NEW_DIGITS)
STEPS = 200


@pytest.fixture(scope="module")
def learnt() -> MNISTModel:
    """A base that knows 0-4."""
    base = MNISTModel()
    fit(base, MNISTDataset.load("train", BaseConfig().digits), BaseConfig(epochs=3), runtime=CPU)
    return base


@pytest.fixture(scope="module")
def images() -> MNISTDataset:
    return MNISTDataset.load("train", NEW_DIGITS)


def of_steps(images: MNISTDataset, batch_size: int = 64) -> MNISTDataset:
    """So many images that an epoch of 80 % of them has 200 steps, as many as there are."""
    count = min(len(images), math.ceil(STEPS * batch_size / 0.8))
    return MNISTDataset(*images[:count], images.pixel_stats)


def train(
    base: MNISTModel, configs: Sequence[AdapterConfig], images: MNISTDataset, runtime: Runtime
) -> tuple[list[nn.Module], list[Outcome]]:
    models: list[nn.Module] = [twin(base, config) for config in configs]
    return models, fit_bank(models, images, configs, runtime=runtime)


def furthest(one: nn.Module, other: nn.Module) -> float:
    theirs = adapter_tensors(other)
    return max((tensor - theirs[name]).abs().max().item() for name, tensor in adapter_tensors(one).items())


MEMBERS = [
    dataclasses.replace(CONFIG, **changes)
    for changes in (
        *({"rank": rank, "seed": rank} for rank in (*RANKS, 3, 20, 50)),
        {"rank": 8, "lr": 3e-3, "schedule": "cosine"}, {"rank": 8, "optimizer": "adam", "weight_decay": 0.01},
        {"rank": 8, "alpha": 4.0, "scaling": "standard", "init": "kaiming"}, {"rank": 16, "lr_ratio_b": 4.0},
        {"rank": 8, "target_layers": ("fc1",)}, {"rank": 8, "target_layers": ("fc2", "fc3"), "weight_decay": 0.3},
        {"rank": 8, "vary": "order", "seed": 3}, {"rank": 8, "val_split": 0.0},
    )
]  # fmt: skip


@pytest.mark.parametrize("way", ["ieee", "tf32x3", "bf16x6"])
def test_a_member_is_its_twin_of_the_cpus_bank_after_200_steps(learnt, images, way, monkeypatch):
    for rank, chosen in tuning.TRAINING.items():
        monkeypatch.setitem(tuning.TRAINING, rank, dataclasses.replace(chosen, way=way))
    fused, _ = train(learnt, MEMBERS, of_steps(images), FUSED)
    bank, _ = train(learnt, MEMBERS, of_steps(images), CPU)
    found = [furthest(one, other) for one, other in zip(fused, bank, strict=True)]
    assert max(found) < 1e-4, dict(zip(map(str, MEMBERS), found, strict=True))


@pytest.mark.parametrize("rank", [4, 32, 64])
@pytest.mark.parametrize(
    ("hidden", "batch_size"),
    [((128,), 64), ((128, 128), 64), ((64, 64), 128), ((128, 128), 128), ((100, 60, 20), 50), ((64, 64), 1)],
)
def test_other_networks_and_batches(images, hidden, batch_size, rank):
    torch.manual_seed(0)
    base, configs = MNISTModel(hidden), [dataclasses.replace(CONFIG, rank=rank, batch_size=batch_size)]
    try:
        fused, _ = train(base, configs, of_steps(images, batch_size), FUSED)
    except UsageError as error:
        assert max(hidden) > 64
        pytest.skip(str(error))
    bank, _ = train(base, configs, of_steps(images, batch_size), CPU)
    assert furthest(fused[0], bank[0]) < 1e-4


def test_the_same_call_gives_the_same_bytes(learnt, images):
    first, second = (train(learnt, MEMBERS, images, FUSED) for _ in range(2))
    for one, other in zip(first[0], second[0], strict=True):
        theirs = adapter_tensors(other)
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in adapter_tensors(one).items())
    assert [outcome.history for outcome in first[1]] == [outcome.history for outcome in second[1]]


def test_what_diverges_disturbs_nobody(learnt, images):
    bad = dataclasses.replace(CONFIG, rank=4, lr=1e30)
    together, outcomes = train(learnt, [MEMBERS[0], bad, *MEMBERS[1:]], of_steps(images), FUSED)
    assert outcomes.pop(1).failed
    assert not any(outcome.failed for outcome in outcomes)
    del together[1]
    alone, _ = train(learnt, MEMBERS, of_steps(images), FUSED)
    for one, other in zip(together, alone, strict=True):
        assert furthest(one, other) == 0


def test_seventy_members_of_the_study_reach_what_the_bank_reaches(learnt, images):
    """Paired by rank and seed: the mean difference in validation accuracy is within its interval of zero."""
    configs = [dataclasses.replace(CONFIG, rank=rank, seed=seed) for rank in RANKS for seed in range(10)]
    (_, fused), (_, bank) = (train(learnt, configs, images, runtime) for runtime in (FUSED, CPU))
    paired = [
        one.history[-1].val_accuracy - other.history[-1].val_accuracy for one, other in zip(fused, bank, strict=True)
    ]  # type: ignore[operator]
    differences = torch.tensor(paired, dtype=torch.float64)
    assert differences.abs().max() < 0.005
    assert abs(differences.mean()) <= 3 * differences.std() / len(configs) ** 0.5 + 1e-9
