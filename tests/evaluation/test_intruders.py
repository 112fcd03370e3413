"""Intruder dimensions: what they are, and that PEFT scales the same ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lora_mnist_cli.evaluation.intruders import TOP, find_intruders, left_vectors


def weight(rows: int = 12, columns: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_weight_has_no_intruders_in_itself_or_a_multiple_of_it():
    W = weight()
    for adapted in (W, 3 * W):
        found = find_intruders(left_vectors(W), adapted, threshold=0.99)
        assert found.indices == []
        assert found.cosines == pytest.approx([1.0] * TOP)
        assert torch.equal(found.scaled(adapted, 0.0), adapted)


def test_a_large_direction_that_is_none_of_the_weights_is_the_first_intruder_and_zero_takes_it_out():
    W = weight()
    U = left_vectors(W)
    mixed = U @ torch.ones(12, dtype=U.dtype) / 12**0.5  # its cosine with each of them is 0.29
    adapted = W + 1e4 * torch.outer(mixed, weight(1, 20, 1)[0])
    found = find_intruders(U, adapted, threshold=0.5)
    assert found.indices[0] == 0
    assert found.cosines[0] == pytest.approx(12**-0.5, rel=1e-3)
    assert float((mixed @ found.scaled(adapted, 0.0)).norm()) < 1e-2
    assert torch.equal(found.scaled(adapted, 1.0), adapted)
    halves = (found.scaled(adapted, 0.0) + adapted) / 2
    torch.testing.assert_close(found.scaled(adapted, 0.5), halves)
    assert 0 not in find_intruders(U, adapted, threshold=0.25).indices


def test_only_leading_vectors_are_looked_at():
    found = find_intruders(left_vectors(weight()), weight(seed=3), top=4, threshold=1.0)
    assert (len(found.cosines), found.indices) == (4, [0, 1, 2, 3])


@pytest.mark.parametrize("factor", [0.75, 0.25])
def test_peft_scales_the_same_intruders(factor):
    peft = pytest.importorskip("peft")
    intruders = pytest.importorskip("peft.tuners.lora.intruders")
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(30, 24), nn.ReLU(), nn.Linear(24, 16))
    config = peft.LoraConfig(r=24, lora_alpha=48, target_modules=["0", "2"])  # of full rank: PEFT cuts at the rank
    model = peft.get_peft_model(copy.deepcopy(plain), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.15)
    layers = {"0": plain[0], "2": plain[2]}
    adapted = {
        name: layer.weight + model.base_model.model[int(name)].get_delta_weight("default")
        for name, layer in layers.items()
    }
    intruders.reduce_intruder_dimension(model, mitigation_lambda=factor, logging_sink=None)
    for name, layer in layers.items():
        found = find_intruders(left_vectors(layer.weight), adapted[name], threshold=0.5)
        assert 0 < len(found.indices) < TOP
        theirs = layer.weight + model.base_model.model[int(name)].get_delta_weight("intruder_reduced")
        torch.testing.assert_close(found.scaled(adapted[name], factor), theirs, rtol=1e-3, atol=1e-4)
