"""LoRA with golden values from NumPy. ``tests/conformance`` tries the laws (merging, gradients, dropout, …) on it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.models import lora
from lora_mnist_cli.models.adapted_linear import adapter_tensors, load_adapter_tensors
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.choices import DRAWN
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import ArtifactError, UsageError

SCALES = {"constant": 1.0, "standard": 1 / 3, "rslora": 1 / math.sqrt(3)}


def keys(layer: str) -> list[str]:
    """The keys of a layer's A and B in a file of weights."""
    return [f"base_model.model.{layer}.lora_{factor}.weight" for factor in "AB"]


def ramp(*shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return torch.linspace(low, high, math.prod(shape)).reshape(shape)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Deterministic values that differ from tensor to tensor, large enough for each to matter."""
    for i, parameter in enumerate(model.parameters()):
        parameter.copy_((torch.arange(parameter.numel()) * 1.7 + i).sin().reshape(parameter.shape) * 0.7)


def small_model(**options: object) -> nn.Module:
    """6 → 5 → 4 → 3 with adapters of rank 3 unless told otherwise, everything filled."""
    model = MNISTModel((5, 4), in_features=6, num_classes=3)
    lora.attach(model, **({"rank": 3} | options))  # type: ignore[arg-type]
    fill(model)
    return model


def numpy_forward(model: nn.Module, x: np.ndarray, alpha: float, scale: float) -> np.ndarray:
    """The formula, in float64, with nothing but NumPy."""
    state = {name: value.double().numpy() for name, value in model.state_dict().items()}
    for i in (1, 2, 3):
        plain = x @ state[f"fc{i}.base.weight"].T + state[f"fc{i}.base.bias"]
        x = plain + alpha * scale * (x @ state[f"fc{i}.lora_A"].T) @ state[f"fc{i}.lora_B"].T
        x = np.maximum(x, 0) if i < 3 else x
    return x


@pytest.mark.parametrize("alpha", [1.0, 0.5, -2.0])
@pytest.mark.parametrize("scaling", SCALES)
def test_forward_is_the_formula(scaling, alpha):
    model, x = small_model(scaling=scaling, alpha=alpha), ramp(7, 6, low=-2, high=3)
    expected = numpy_forward(model, x.double().numpy(), alpha, SCALES[scaling])
    without = numpy_forward(model, x.double().numpy(), 0.0, 1.0)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, atol=1e-5)
    assert np.abs(expected - without).max() > 0.01


@pytest.mark.parametrize(("scaling", "expected"), [("constant", 1.0), ("standard", 0.0625), ("rslora", 0.25)])
def test_scale_of_rank_16(scaling, expected):
    assert lora.scale(scaling, 16) == expected


def test_delta_is_the_scaled_product():
    layer = lora.LoRALinear(nn.Linear(4, 2), 3, alpha=0.5, scaling="standard")
    fill(layer)
    expected = 0.5 / 3 * layer.lora_B.detach().numpy() @ layer.lora_A.detach().numpy()
    np.testing.assert_allclose(layer.delta().detach().numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("init", DRAWN)
def test_a_new_adapter_changes_nothing(init):
    plain = MNISTModel((16, 8))
    x = ramp(5, 784)
    adapted = lora.attach(copy.deepcopy(plain), 4, init=init)
    assert torch.equal(adapted(x), plain(x))
    assert all(bool(value.any()) for name, value in adapter_tensors(adapted).items() if "lora_A" in name)


@pytest.mark.parametrize("bad", [math.inf, math.nan, 3e38])
def test_alpha_0_is_the_base_bit_for_bit_whatever_the_factors_hold(bad):
    plain = MNISTModel((16, 8))
    adapted = lora.attach(copy.deepcopy(plain), 4)
    for value in adapter_tensors(adapted).values():
        value.fill_(bad)
    lora.set_alpha(adapted, 0.0)
    assert torch.equal(adapted(ramp(5, 784)), plain(ramp(5, 784)))
    lora.set_alpha(adapted, 1.0)
    assert not torch.equal(adapted(ramp(5, 784)), plain(ramp(5, 784)))
    lora.set_alpha(adapted, 0.0)
    lora.merge(adapted)
    assert torch.equal(adapted(ramp(5, 784)), plain(ramp(5, 784)))


def test_merged_and_unmerged_logits_agree_where_the_weights_are_trained_ones(trained):
    """Logits of trained adapters reach 50, where a 32-bit float has steps of 4e-6: the bound is relative to them."""
    registry = Registry(trained)
    model = load_model(registry, registry.get("lora-5-9-r2")).model
    images = MNISTDataset.load("test").images
    unmerged = predict(model, images)
    lora.merge(model)
    merged = predict(model, images)
    assert float((merged - unmerged).abs().max()) <= 1e-5 * float(unmerged.abs().max())
    assert torch.equal(merged.argmax(1), unmerged.argmax(1))
    lora.unmerge(model)
    assert torch.equal(predict(model, images), unmerged)


def test_a_merged_and_detached_model_loads_strictly_into_the_plain_one():
    model, x = small_model(scaling="rslora"), ramp(7, 6)
    logits = model(x)
    lora.merge(model)
    state = lora.detach(model).state_dict()
    plain = MNISTModel((5, 4), in_features=6, num_classes=3)
    plain.load_state_dict(state, strict=True)
    torch.testing.assert_close(plain(x), logits, atol=1e-5, rtol=0)
    assert not lora.adapted_layers(model)


def test_detaching_unmerged_adapters_gives_the_base_back():
    plain = MNISTModel((5, 4), in_features=6, num_classes=3)
    before = copy.deepcopy(plain.state_dict())
    model = lora.attach(plain, 3)
    for value in adapter_tensors(model).values():
        value.fill_(0.5)
    state = lora.detach(model).state_dict()
    assert list(state) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_attach_freezes_all_but_the_factors():
    model = lora.attach(MNISTModel((5, 4)), 2, target_layers=["fc2"])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["fc2.lora_A", "fc2.lora_B"]


def test_attaching_twice_is_refused():
    model = small_model(target_layers=["fc1"])
    before = list(model.state_dict())
    with pytest.raises(UsageError, match="has adapters already"):
        lora.attach(model, 2, target_layers=["fc2"])
    assert list(model.state_dict()) == before


@pytest.mark.parametrize(("name", "hint"), [("fc4", "did you mean 'fc"), ("zzzz", "layers: fc1, fc2, fc3"), ("", "")])
def test_an_unknown_layer_is_refused_with_the_nearest(name, hint):
    model = MNISTModel((5, 4))
    with pytest.raises(UsageError) as caught:
        lora.attach(model, 2, target_layers=["fc1", name])
    assert hint in caught.value.hint
    assert caught.value.value == name
    assert not lora.adapted_layers(model)
    assert all(p.requires_grad for p in model.parameters())


def test_only_the_target_layers_are_adapted():
    model = lora.attach(MNISTModel((5, 4)), 2, target_layers=["fc3", "fc1"])
    assert list(lora.adapted_layers(model)) == ["fc1", "fc3"]
    assert list(adapter_tensors(model)) == [key for layer in ("fc1", "fc3") for key in keys(layer)]
    assert type(model.get_submodule("fc2")) is nn.Linear


def test_a_rank_above_the_smaller_side_works():
    model, x = small_model(rank=11), ramp(7, 6)
    shapes = [(11, 6), (5, 11), (11, 5), (4, 11), (11, 4), (3, 11)]
    assert [tuple(value.shape) for value in adapter_tensors(model).values()] == shapes
    np.testing.assert_allclose(model(x).detach().numpy(), numpy_forward(model, x.double().numpy(), 1, 1), atol=1e-5)


@pytest.mark.parametrize("merged", [False, True])
def test_switched_off_is_the_bare_base_inside_and_as_before_afterwards(merged):
    model, x = small_model(), ramp(7, 6)
    base = MNISTModel((5, 4), in_features=6, num_classes=3)
    base.load_state_dict({name.replace(".base", ""): v for name, v in model.state_dict().items() if "lora" not in name})
    if merged:
        lora.merge(model)
    before = model(x)
    inside = None

    def use() -> None:
        nonlocal inside
        with lora.switched_off(model) as bare:
            inside = bare(x)
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert torch.equal(inside, base(x))
    assert torch.equal(model(x), before)
    assert not torch.equal(before, base(x))
    assert all(layer.merged is merged and layer.enabled for layer in lora.adapted_layers(model).values())


def test_alpha_cannot_change_while_merged():
    model = small_model()
    lora.merge(model)
    with pytest.raises(UsageError, match="merged") as caught:
        lora.set_alpha(model, 0.0)
    assert caught.value.hint == "unmerge first"
    assert {layer.alpha for layer in lora.adapted_layers(model).values()} == {1.0}


@pytest.mark.parametrize(("init", "bound"), [("reference", 1 / math.sqrt(16)), ("kaiming", 1 / math.sqrt(2000))])
def test_uniform_initialisations(init, bound):
    torch.manual_seed(0)
    A = lora.init_A(16, 2000, init)
    assert A.shape == (16, 2000)
    assert 0.999 * bound < float(A.abs().max()) <= bound
    # 32,000 draws: the mean's deviation is bound / √96,000, the standard deviation's about 0.25 %.
    assert abs(float(A.mean())) < 5 * bound / math.sqrt(96_000)
    assert float(A.std()) == pytest.approx(bound / math.sqrt(3), rel=0.02)


@pytest.mark.parametrize(("rank", "fan_in"), [(5, 40), (40, 5), (6, 6)])
def test_orthogonal_initialisation(rank, fan_in):
    torch.manual_seed(0)
    A, other = (lora.init_A(rank, fan_in, "orthogonal") for _ in range(2))
    short = A @ A.T if rank <= fan_in else A.T @ A
    torch.testing.assert_close(short, torch.eye(min(rank, fan_in)), atol=1e-5, rtol=0)
    assert not torch.allclose(A, other, atol=0.01)


def test_gaussian_initialisation():
    torch.manual_seed(0)
    A = lora.init_A(16, 2000, "gaussian")
    assert float(A.std()) == pytest.approx(1 / 16, rel=0.02)
    assert abs(float(A.mean())) < 5 / 16 / math.sqrt(32_000)
    assert float((A.abs() > 1 / 16).float().mean()) == pytest.approx(0.3173, abs=0.02)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda state: state.pop(keys("fc2")[0]), keys("fc2")[0]),
        (lambda state: state.update({keys("fc4")[0]: torch.ones(1)}), keys("fc4")[0]),
        (lambda state: state.update({keys("fc3")[1]: torch.ones(3, 4)}), keys("fc3")[1]),
    ],
)
def test_what_does_not_fit_is_refused_with_nothing_changed(change, complaint):  # type: ignore[no-untyped-def]
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    state = {name: value + 1 for name, value in adapter_tensors(model).items()}
    change(state)
    with pytest.raises(ArtifactError, match=f"the adapter does not fit: {complaint}$"):
        load_adapter_tensors(model, state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
