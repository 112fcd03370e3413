"""Methods whose change has a structure of its own, beside PEFT: DeLoRA, LoKr, MiSS, RandLoRA."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from method_training import LAYERS, adapted, compare_with_peft, loop, plain, settings, train
from torch import nn

from lora_mnist_cli.models import adapted_linear, lora
from lora_mnist_cli.models.methods import delora, method_named, randlora
from lora_mnist_cli.settings.adapter_config import AdapterConfig

pytestmark = pytest.mark.usefixtures("one_thread")

RATES = {"delora": (0.01, 0.1), "lokr": (0.02, 1.0), "miss": (0.01, 0.1), "randlora": (0.01, 0.003)}
"""By adamw and by sgd."""
CASES = [("delora", 1), ("delora", 3), ("lokr", 1), ("lokr", 3), ("lokr", 20), ("miss", 1), ("miss", 5), ("miss", 12)]
CASES += [("randlora", 1), ("randlora", 5), ("randlora", 20)]
"""Methods and ranks."""


def with_peft(config: AdapterConfig) -> nn.Module:
    """PEFT's model at the same start as ours, described by PEFT's own words rather than by our file."""
    peft = pytest.importorskip("peft")
    named: dict[str, Any] = {"r": config.rank, "target_modules": list(LAYERS)}
    theirs = peft.get_peft_model(plain(), {
        "delora": lambda: peft.DeloraConfig(**named, delora_lambda=delora.LAMBDA_START),
        "lokr": lambda: peft.LoKrConfig(**named, alpha=config.alpha * config.rank),
        "miss": lambda: peft.MissConfig(**named),
        "randlora": lambda: peft.RandLoraConfig(**named, randlora_alpha=20 * config.rank),
    }[config.method]())  # fmt: skip
    for name, layer in lora.adapted_layers(adapted(config)).items():
        module = theirs.get_submodule(f"base_model.model.{name}")
        for key, tensor in layer.trained.items():  # type: ignore[union-attr, operator]
            parameter = getattr(module, key)["default"]
            assert parameter.shape == tensor.shape
            assert parameter.requires_grad
            parameter.data.copy_(tensor.data)
    if config.method == "randlora":
        A, B = randlora.random_pair(config.seed, config.rank, 784, 16)
        theirs.base_model.randlora_A["default"][:, 0] = torch.tensor(A)
        theirs.base_model.randlora_B["default"].copy_(torch.tensor(B).reshape(784, -1, config.rank))
    return theirs  # type: ignore[no-any-return]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(("method", "rank"), CASES)
def test_a_training_is_what_peft_makes_of_it(method, rank, optimizer, images):
    lr = RATES[method][optimizer == "sgd"]
    config = settings(method, rank=rank, optimizer=optimizer, lr=lr, weight_decay=0.01)
    ours, theirs = train(config, images), with_peft(config)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in adapted(config).parameters() if p.requires_grad)
    loop(theirs, config, images, [{"params": trained}])
    theirs.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(images.images), theirs(images.images), rtol=1e-3, atol=3e-4)
        assert float((ours(images.images) - plain()(images.images)).abs().max()) > 0.02
    merged = theirs.merge_and_unload()  # type: ignore[operator]
    for name, layer in lora.adapted_layers(ours).items():
        reached = layer.base.weight + layer.change()[0]
        torch.testing.assert_close(reached, merged.get_submodule(name).weight, rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("scaling", ["constant", "standard", "rslora"])
@pytest.mark.parametrize("rank", [2, 9])
def test_peft_loads_the_folder_of_lokr(rank, scaling, images, tmp_path):
    own = {"alpha": 0.5, "scaling": scaling, "lr": 0.05}
    config = settings("lokr", rank=rank, rank_pattern="fc2r1" if rank == 2 else "uniform", **own)
    compare_with_peft(train(config, images), config, images, tmp_path)


@pytest.mark.parametrize("pattern", ["uniform", "fc2r1-fc3r3"])
def test_peft_loads_the_folder_of_delora(pattern, images, tmp_path):
    config = settings("delora", rank=5, rank_pattern=pattern)
    compare_with_peft(train(config, images), config, images, tmp_path)


@pytest.mark.parametrize("rank", [4, 5])
def test_peft_loads_the_folder_of_miss(rank, images, tmp_path):
    config = settings("miss", rank=rank, dropout=0.3)
    compare_with_peft(train(config, images).eval(), config, images, tmp_path)


def test_lokr_divides_each_side_into_two_numbers_near_its_root():
    shapes = method_named("lokr").shapes
    assert shapes(3, 784, 64) == {"lokr_w1": (8, 28), "lokr_w2_a": (8, 3), "lokr_w2_b": (3, 28)}
    assert shapes(14, 784, 64) == {"lokr_w1": (8, 28), "lokr_w2": (8, 28)}
    assert shapes(3, 127, 10) == {"lokr_w1": (2, 1), "lokr_w2_a": (5, 3), "lokr_w2_b": (3, 127)}


@pytest.mark.parametrize(("method", "rank"), CASES)
def test_what_is_read_without_torch_is_the_same_change_of_the_rank_that_is_told(method, rank, images):
    config = settings(method, rank=rank, lr=0.05)
    for layer in lora.adapted_layers(train(config, images)).values():
        assert isinstance(layer, adapted_linear.MethodLinear)
        kept = {name: tensor.double().numpy() for name, tensor in layer.kept().items()}
        weight, bias = layer.method.change(kept, layer.base.weight.double().numpy(), config)
        torch.testing.assert_close(torch.from_numpy(weight).float(), layer.change()[0], rtol=1e-4, atol=1e-6)
        assert bias is None
        told = layer.method.change_rank(config, layer.base.in_features, layer.base.out_features)
        values = torch.linalg.svdvals(torch.from_numpy(weight))
        assert not (values[told:] > 1e-9 * values[0]).any()
        if method in ("lokr", "randlora"):  # whose point is a high rank of few numbers
            assert values[told - 1] > 1e-9 * values[0]


def test_randlora_s_layers_share_one_random_pair_that_the_seed_gives_back():
    A, B = randlora.random_pair(7, 3, 784, 64)
    assert (A.shape, B.shape) == ((3, 64), (784, 66))
    narrow_A, narrow_B = randlora.random_pair(7, 3, 16, 10)
    assert (narrow_A == A[:, :10]).all()
    assert (narrow_B == B[:16, :12]).all()
    assert len({float(number) for number in B.flatten()}) > 0.99 * B.size
    assert (randlora.random_pair(8, 3, 784, 64)[0] != A).all()
    assert B.std() == pytest.approx(1, abs=0.01)
    # The same numbers on every machine and with every version of NumPy.
    assert A[0, :3].tolist() == pytest.approx([-0.6709805, 0.1810495, 1.3462986], rel=1e-5)


def test_randlora_s_start_varies_with_the_stream_of_starts_alone():
    def first(**more: Any) -> torch.Tensor:
        layer = lora.adapted_layers(adapted(settings("randlora", rank=2, **more)))["fc1"]
        return layer.held_randlora_B.clone()  # type: ignore[operator, union-attr]

    assert torch.equal(first(seed=3), first(seed=3))
    assert not torch.equal(first(seed=3), first(seed=4))
    assert torch.equal(first(seed=4, held_seed=3, vary="order"), first(seed=3))
