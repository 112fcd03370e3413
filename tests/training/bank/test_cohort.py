"""A bank's members against their twins: trained alone, by autograd, and by a plain loop of PyTorch's."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from members import BATCH, IMAGES, MIX, PIXELS, adapted, assert_equal, base, images, optimizer_of, rows
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.data.streams import generator
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.layers import BesideLayer, MergedLayer, SharedInputLayer

pytestmark = pytest.mark.usefixtures("one_thread")


def train(
    configs: Sequence[AdapterConfig], plain: MNISTModel, data: MNISTDataset, steps: int, batch: int = BATCH
) -> tuple[list[nn.Module], list[float]]:
    """The members trained together; their models and last losses."""
    models = [adapted(plain, config) for config in configs]
    own = [generator(config.seed, "dropout") for config in configs]
    cohort = Cohort(models, FrozenInputs(data, plain.fc1), batch, generators=own)  # type: ignore[arg-type]
    return models, cohort.steps(rows(data, steps, batch), optimizer_of(cohort, configs).step).tolist()


def plain_loop(model: nn.Module, config: AdapterConfig, data: MNISTDataset, steps: int, batch: int = BATCH) -> float:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decay = 0.01 if config.weight_decay is None else config.weight_decay
    optimizer = torch.optim.AdamW(trainable, lr=config.lr, weight_decay=decay)
    loss = torch.zeros(())
    for chosen in rows(data, steps, batch).split(batch):
        loss = F.cross_entropy(model(data.images[chosen]), data.labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_a_member_equals_its_twin_trained_alone(dtype, tolerance):
    plain, data = base(dtype=dtype), images(dtype)
    together, losses = train(MIX, plain, data, 200)
    for config, member, loss in zip(MIX, together, losses, strict=True):
        (alone,), (own_loss,) = train([config], plain, data, 200)
        assert_equal(member, alone, tolerance)
        assert loss == pytest.approx(own_loss, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("hidden", [(12, 9), (7,), (9, 8, 7), (60, 60)])
def test_many_steps_are_the_plain_loop(hidden):
    """With wide layers the products are formed beside the frozen ones, with narrow ones merged; both are the same."""
    configs = [c for c in MIX if c.alpha and (c.target_layers is None or len(hidden) == 2)]
    plain, data = base(hidden), images(torch.float64)
    members, losses = train(configs, plain, data, 60)
    for config, member, loss in zip(configs, members, losses, strict=True):
        twin = adapted(plain, config)
        assert plain_loop(twin, config, data, 60) == pytest.approx(loss, rel=1e-9)
        assert_equal(member, twin, 1e-9)


def test_seeds_in_the_same_steps_are_each_seed_alone():
    """Three seeds, four shapes, with layers left out and two rates; each seed has rows of its own."""
    shapes = [MIX[0], MIX[3], MIX[5], dataclasses.replace(MIX[0], lr=0.01)]
    configs = [dataclasses.replace(config, seed=seed) for config in shapes for seed in range(3)]
    for hidden in ((12, 9), (60, 60)):
        plain, data = base(hidden), images(torch.float64)
        models = [adapted(plain, config) for config in configs]
        cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH, seeds=3)  # type: ignore[arg-type]
        draw = torch.Generator().manual_seed(5)
        lines = torch.randint(IMAGES, (3, 60 * BATCH - 5), generator=draw)
        losses = cohort.steps(lines, optimizer_of(cohort, configs).step).tolist()
        scores = cohort.scores(lines[:, :50].contiguous())
        for seed in range(3):
            alone = [adapted(plain, config) for config in configs[seed::3]]
            own = Cohort(alone, FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
            expected = own.steps(lines[seed], optimizer_of(own, configs[seed::3]).step).tolist()
            assert losses[seed::3] == pytest.approx(expected, rel=1e-9)
            for here, there in zip(scores, own.scores(lines[seed, :50]), strict=True):
                assert here[seed::3] == pytest.approx(there, rel=1e-9)
            for member, twin in zip(models[seed::3], alone, strict=True):
                assert_equal(member, twin, 1e-9)


def test_seeds_of_other_shapes_or_with_dropout_are_refused():
    plain, data = base(), images(torch.float64)
    inputs = FrozenInputs(data, plain.fc1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not the same"):
        Cohort([adapted(plain, config) for config in MIX[:2]], inputs, BATCH, seeds=2)
    dropping = [adapted(plain, AdapterConfig(dropout=0.5)) for _ in range(2)]
    with pytest.raises(ValueError, match="dropout"):
        Cohort(dropping, inputs, BATCH, seeds=2)


def test_each_kind_of_layer_is_met():
    def kinds(hidden: tuple[int, ...]) -> list[type]:
        plain, data = base(hidden), images(torch.float64)
        cohort = Cohort([adapted(plain, MIX[0])], FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
        return [type(layer) for layer in cohort.layers]

    assert kinds((12, 9)) == [SharedInputLayer, MergedLayer, MergedLayer]
    assert kinds((60, 60)) == [SharedInputLayer, BesideLayer, MergedLayer]


@pytest.mark.parametrize("hidden", [(12, 9), (60, 60)])
def test_one_batchs_gradient_is_autograds(hidden):
    plain, data = base(hidden), images(torch.float64)
    models, twins = ([adapted(plain, config) for config in MIX] for _ in range(2))
    cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
    chosen = torch.arange(BATCH)
    cohort.steps(chosen, lambda: None)
    for m, (config, twin) in enumerate(zip(MIX, twins, strict=True)):
        own = torch.cat([cohort.gradient[part] for part in cohort.parts[m]])
        if config.alpha == 0:
            assert not own.any()
            continue
        F.cross_entropy(twin(data.images[chosen]), data.labels[chosen]).backward()
        expected = [p.grad for layer in lora.adapted_layers(twin).values() for p in (layer.lora_A, layer.lora_B)]
        assert own.norm() == pytest.approx(float(torch.cat([g.reshape(-1) for g in expected if g is not None]).norm()))
        flat, gradient = cohort.flat.clone(), cohort.gradient.clone()
        for layer, other in zip(*(lora.adapted_layers(model).values() for model in (models[m], twin)), strict=True):
            for factor in ("lora_A", "lora_B"):
                mine = getattr(layer, factor)
                place = slice(mine.storage_offset(), mine.storage_offset() + mine.numel())
                assert torch.equal(flat[place].view_as(mine), mine)
                wanted = getattr(other, factor).grad
                if wanted is None:  # frozen: no optimiser ever sees it
                    assert not any(part.start <= place.start < part.stop for part in cohort.parts[m])
                    continue
                torch.testing.assert_close(gradient[place].view_as(mine), wanted, rtol=1e-11, atol=1e-13)


def test_the_frozen_product_may_be_too_large_to_keep():
    plain, data = base((PIXELS + 1, 5)), images(torch.float64)
    assert FrozenInputs(data, plain.fc1).product is None  # type: ignore[arg-type]
    (member,), _ = train(MIX[:1], plain, data, 20)
    twin = adapted(plain, MIX[0])
    plain_loop(twin, MIX[0], data, 20)
    assert_equal(member, twin, 1e-10)


def test_scores_are_the_models():
    plain, data = base(), images(torch.float64, 1500)
    models = [adapted(plain, config) for config in MIX]
    cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
    chosen = torch.arange(7, 1400)
    losses, accuracies = cohort.scores(chosen)
    for model, loss, accuracy in zip(models, losses, accuracies, strict=True):
        with torch.no_grad():
            logits = model(data.images[chosen])
        assert loss == pytest.approx(F.cross_entropy(logits, data.labels[chosen]).item(), rel=1e-12)
        assert accuracy == pytest.approx((logits.argmax(1) == data.labels[chosen]).double().mean().item())


def with_one_filled(configs: Sequence[AdapterConfig], place: int, value: float, **more: int) -> tuple[Any, Cohort]:
    """Models of some configs, and their cohort; the factors of the one at a place are filled with a value."""
    plain = base(dtype=torch.float32)
    models = [adapted(plain, config) for config in configs]
    with torch.no_grad():
        for factor in adapter_tensors(models[place]).values():
            factor.fill_(value)
    return models, Cohort(models, FrozenInputs(images(torch.float32), plain.fc1), BATCH, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("poison", [math.nan, math.inf, 1e30])
def test_a_member_that_leaves_the_finite_numbers_disturbs_nobody(poison):
    """Bit for bit: the others meet the same operations on the same numbers, whatever their neighbour holds."""
    configs, data = MIX[:8], images(torch.float32)
    results = []
    for value in (1.0, poison):
        models, cohort = with_one_filled(configs, 2, value)
        losses = cohort.steps(rows(data, 40), optimizer_of(cohort, configs).step)
        results.append((models, losses.tolist(), cohort.scores(torch.arange(IMAGES))[0]))
    for m in range(len(configs)):
        if m == 2:
            assert not math.isfinite(results[1][1][m])
            assert not math.isfinite(results[1][2][m])
            continue
        assert (results[0][1][m], results[0][2][m]) == (results[1][1][m], results[1][2][m])
        assert_equal(results[0][0][m], results[1][0][m], 0.0)


def test_a_member_that_leaves_the_finite_numbers_disturbs_no_other_seed():
    configs = [dataclasses.replace(config, seed=seed) for config in MIX[:2] for seed in range(3)]
    results = []
    for value in (1.0, math.nan):
        models, cohort = with_one_filled(configs, 1, value, seeds=3)
        cohort.steps(torch.arange(IMAGES).repeat(3, 1), optimizer_of(cohort, configs).step)
        results.append((models, cohort.scores(torch.arange(IMAGES).repeat(3, 1))[0]))
    for m in range(len(configs)):
        if m == 1:
            assert math.isnan(results[1][1][m])
        else:
            assert results[0][1][m] == results[1][1][m]
            assert_equal(results[0][0][m], results[1][0][m], 0.0)


def test_dropout_is_each_members_own_stream():
    configs = [
        AdapterConfig(rank=r, dropout=p, seed=s) for r, p, s in ((3, 0.4, 0), (3, 0.4, 0), (2, 0.1, 0), (3, 0.4, 1))
    ]
    plain, data = base(), images(torch.float64)
    together, losses = train(configs, plain, data, 200)
    for config, member, loss in zip(configs, together, losses, strict=True):
        (alone,), (own_loss,) = train([config], plain, data, 200)
        assert_equal(member, alone, 1e-9)
        assert loss == pytest.approx(own_loss, rel=1e-9)
    without, _ = train([AdapterConfig(rank=3)], plain, data, 200)
    assert not torch.allclose(together[0].fc1.lora_A, without[0].fc1.lora_A)  # type: ignore[union-attr]


def test_the_gradient_with_dropout_is_autograds_with_the_same_masks():
    config, plain, data = AdapterConfig(rank=3, dropout=0.4, alpha=1.5), base(), images(torch.float64)
    model, twin = adapted(plain, config), adapted(plain, config)
    cohort = Cohort([model], FrozenInputs(data, plain.fc1), BATCH, generators=[generator(0, "dropout")])  # type: ignore[arg-type]
    chosen = torch.arange(BATCH)
    cohort.steps(chosen, lambda: None)
    stream, masks = generator(0, "dropout"), []
    for size in (PIXELS, 12, 9):
        masks.append(torch.empty(size, BATCH, dtype=torch.float64).bernoulli_(0.6, generator=stream).t() / 0.6)
    hidden = data.images[chosen]
    for i, (layer, mask) in enumerate(zip(lora.adapted_layers(twin).values(), masks, strict=True)):
        out = layer.base(hidden) + 1.5 * (hidden * mask) @ layer.lora_A.t() @ layer.lora_B.t()
        hidden = out if i == 2 else out.relu()
    F.cross_entropy(hidden, data.labels[chosen]).backward()
    for mine, other in zip(*(lora.adapted_layers(each).values() for each in (model, twin)), strict=True):
        for factor in ("lora_A", "lora_B"):
            value, wanted = getattr(mine, factor), getattr(other, factor).grad
            got = cohort.gradient[value.storage_offset() : value.storage_offset() + value.numel()].view_as(value)
            torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)


def test_the_frozen_weights_do_not_move():
    plain, data = base(), images(torch.float64)
    before = copy.deepcopy(plain.state_dict())
    models, _ = train(MIX, plain, data, 20)
    for model in models:
        for name, layer in model.named_children():
            inner = layer.base if isinstance(layer, lora.LoRALinear) else layer
            assert torch.equal(inner.weight, before[f"{name}.weight"])  # type: ignore[arg-type]
            assert torch.equal(inner.bias, before[f"{name}.bias"])  # type: ignore[arg-type]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_plateau_changes_one_members_rate_and_keeps_what_the_optimiser_remembers(optimizer):
    """Member 1 sees no progress; its rate falls, the other's stays, and both go on as two optimisers would."""
    configs = [AdapterConfig(rank=2, optimizer=optimizer, lr=0.01, seed=s) for s in (0, 1)]
    plain, data = base(), images(torch.float64)
    models, twins = ([adapted(plain, config) for config in configs] for _ in range(2))
    cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
    together = optimizer_of(cohort, configs)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    theirs: list[Any] = [kind([p for p in twin.parameters() if p.requires_grad], lr=0.01) for twin in twins]
    order = rows(data, 28)
    for epoch, chosen in enumerate(order.split(2 * BATCH)):
        cohort.steps(chosen, together.step)
        for twin, single in zip(twins, theirs, strict=True):
            for batch in chosen.split(BATCH):
                single.zero_grad()
                F.cross_entropy(twin(data.images[batch]), data.labels[batch]).backward()
                single.step()
        together.watch([-epoch, 1.0])
        if epoch == 11:
            theirs[1].param_groups[0]["lr"] = 0.001
    assert together.rates == pytest.approx([0.01, 0.001])
    for member, twin in zip(models, twins, strict=True):
        assert_equal(member, twin, 1e-9)


def test_equal_members_are_one_group_of_one_tensor():
    plain, data = base(), images(torch.float64)
    configs = [AdapterConfig(rank=r, lr=lr) for lr in (0.01, 0.02) for r in (1, 2, 3)]

    def groups(chosen: Sequence[AdapterConfig]) -> list[int]:
        models = [adapted(plain, config) for config in chosen]
        cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH)  # type: ignore[arg-type]
        return [len(group["params"]) for group in optimizer_of(cohort, chosen).step.param_groups]

    assert (groups(configs[:3]), groups(configs)) == ([1], [2, 2])


class _Asked(TorchDispatchMode):
    """Writes down which operations ask for a value of a tensor, or move one: on a GPU, each waits for all before it."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.waiting: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        self.operations += 1
        if name in self.WAITING or (name == "_to_copy" and kwargs.get("device") is not None):
            self.waiting.append(name)
        return func(*args, **kwargs)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_block_of_steps_asks_the_device_for_nothing(dropout):
    configs = [dataclasses.replace(config, dropout=dropout) for config in MIX[:8]]
    plain, data = base(), images(torch.float64)
    models = [adapted(plain, config) for config in configs]
    own = [generator(config.seed, "dropout") for config in configs]
    cohort = Cohort(models, FrozenInputs(data, plain.fc1), BATCH, generators=own)  # type: ignore[arg-type]
    optimizer, chosen = optimizer_of(cohort, configs), rows(data, 3)
    with _Asked() as asked:
        losses = cohort.steps(chosen, optimizer.step)
        assert asked.waiting == []
        assert asked.operations > 100
        losses[0].item()
    assert asked.waiting == ["_local_scalar_dense"]
