"""The laws of methods other than LoRA: those of all of them, and those of one.

They see an adapted model from outside, by its outputs and its trainable tensors, because what a method trains and keeps
is its own. The weight and bias in use are read off a network of one layer, by the outputs of zeros and of unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lora_mnist_cli.conformance.bench import (
    IN,
    LAYERS,
    OUT,
    TOLERANCE,
    Adapted,
    Bench,
    digest,
    gap,
    hold,
    inputs,
    plain,
)
from lora_mnist_cli.conformance.laws import law as a
from lora_mnist_cli.models.methods import method_named
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS

LAWS: dict[str, a.Law] = {}
_FITS: dict[str, Callable[[str], bool]] = {}
ONE_LAYER: tuple[int, ...] = ()


def fits(name: str, method: str) -> bool:
    """Tell whether a law is one of a method."""
    return _FITS[name](method)


def _law(name: str, about: str, of: Callable[[str], bool] = METHODS.__contains__) -> Callable[[a.Check], a.Check]:
    _FITS[name] = of
    return a.enter(LAWS, name, about)


def _keeps_biases(method: str) -> bool:
    return not method_named(method).changes_biases


def _has_low_rank(method: str) -> bool:
    return _rank_of_change(method) < min(IN, OUT)


@_law("start", "A new adapter changes no output, and each tensor that it trains moves when it learns.")
def _start(bench: Bench) -> str:
    x, worst = inputs(), 0.0
    for training in (False, True):
        adapted = bench.adapted(filled=False)
        adapted.model.train(training)
        worst = max(worst, a.near(adapted(x), plain()(x), f"new, {a.mode(training)}: outputs are"))
    before = {name: tensor.detach().clone() for name, tensor in _trained(adapted).items()}
    adapted.learn()
    for name, tensor in _trained(adapted).items():
        hold(not torch.equal(tensor, before[name]), f"{name} does not move in training")
    return a.off(worst)


@_law("trainable", "As many numbers are trainable as the method has.")
def _trainable(bench: Bench) -> str:
    adapted = bench.adapted(filled=False)
    count = sum(tensor.numel() for tensor in _trained(adapted).values())
    method, config = method_named(bench.method), _config(bench.method, adapted.rank)
    fans = list(LAYERS.values())[-1:] if METHODS[bench.method].last_layer_only else LAYERS.values()
    expected = sum(method.trainable(config, *each) for each in fans)
    hold(count == expected, f"{count} numbers in {a.words(_trained(adapted))}; the method has {expected}")
    return f"{count} numbers"


@_law("base", "The base's weights, hashed, never move: not when adapted, trained or loaded.")
def _base(bench: Bench) -> str:
    adapted, moved = bench.adapted(filled=False), "the base's weights have moved by up to {:.3g}"
    a.base_stays(adapted, f"{moved} when adapters are attached")
    adapted.learn()
    a.base_stays(adapted, f"{moved} in training")
    adapted.code.load(adapted.model, a.copy(adapted.code.state(adapted.model)))
    a.base_stays(adapted, f"{moved} when a state is loaded")
    return f"sha256 {digest(plain().state_dict())[:12]}…"


@_law("set-alpha", "Alpha multiplies the change of weight and bias, however often it is set.")
def _set_alpha(bench: Bench) -> str:
    adapted, (W, b), worst = bench.adapted(hidden=ONE_LAYER), _plain_layer(), 0.0
    change = [now - base for now, base in zip(_in_use(adapted), (W, b), strict=True)]
    for alpha in (0.5, 0.5, -1.0, 2.0):
        adapted.code.set_alpha(adapted.model, alpha)
        for now, base, part in zip(_in_use(adapted), (W, b), change, strict=True):
            worst = max(worst, a.near(now, base + alpha * part, f"at alpha {alpha:g}, the change is"))
    return a.off(worst)


@_law("merge", "Merged, the weights and biases compute by themselves what the adapted model computes.")
def _merge(bench: Bench) -> str:
    x, worst = inputs(), 0.0
    for training in (True, False):
        adapted = bench.adapted()
        adapted.model.train(training)
        before = adapted(x)
        hold(gap(before, plain()(x)) > 0.01, "the adapter changes nothing, however it is trained")
        for times in ("", " twice"):
            adapted.code.merge(adapted.model)
            evidence = f"{a.mode(training)}, merged{times}"
            worst = max(worst, a.near(adapted(x), before, f"{evidence}: outputs are"))
            alone = plain()
            alone.load_state_dict(adapted.weights())
            with torch.no_grad():
                worst = max(worst, a.near(alone(x), before, f"{evidence}: outputs of the weights alone are"))
    return a.off(worst)


@_law("state", "The state of a trained adapter makes another model compute the same.")
def _state(bench: Bench) -> str:
    adapted, other, x = bench.adapted(), bench.adapted(seed=1, filled=False), inputs()
    state = a.copy(adapted.code.state(adapted.model))
    other.code.load(other.model, state)
    distance = a.near(other(x), adapted(x), "the outputs of the model that the state was loaded into are")
    return f"{len(state)} tensors, {a.off(distance)}"


@_law("biases", "Biases stay as they are.", _keeps_biases)
def _biases(bench: Bench) -> str:
    _, bias = _in_use(bench.adapted(hidden=ONE_LAYER))
    return a.off(a.near(bias, _plain_layer()[1], "the bias in use is"))


@_law("rank", "The change of a weight has no more than the rank that the method promises.", _has_low_rank)
def _rank(bench: Bench) -> str:
    weight, _ = _in_use(bench.adapted(rank=1, hidden=ONE_LAYER))
    values, rank = torch.linalg.svdvals(weight - _plain_layer()[0]), _rank_of_change(bench.method)
    rest = float(values[rank] / values[0])
    hold(rest < TOLERANCE, f"singular value {rank + 1} of a change of rank {rank} is {rest:.2g} of the first")
    return f"{rest:.2g} is left"


@_law("weight", "Weights stay as they are, and biases move.", lambda method: method == "bitfit")
def _weight(bench: Bench) -> str:
    weight, bias = _in_use(bench.adapted(hidden=ONE_LAYER))
    hold(gap(bias, _plain_layer()[1]) > 0.01, "the bias does not move")
    return a.off(a.near(weight, _plain_layer()[0], "the weight in use is"))


@_law("columns", "Each input has one multiplier: a column of the weight keeps its direction.", lambda m: m == "ia3")
def _columns(bench: Bench) -> str:
    weight, _ = _in_use(bench.adapted(hidden=ONE_LAYER))
    # The multiplier that fits a column best, so that no division by a small weight is part of the evidence.
    multipliers = (weight * _plain_layer()[0]).sum(0) / _plain_layer()[0].square().sum(0)
    hold(gap(multipliers, torch.ones(IN)) > 0.01, "no multiplier moves")
    return a.off(a.near(weight, _plain_layer()[0] * multipliers, "columns are multiplied, and then they are"))


@_law("orthogonal", "Lengths and angles between the rows of a weight stay as they are.", lambda m: m == "hra")
def _orthogonal(bench: Bench) -> str:
    weight, _ = _in_use(bench.adapted(hidden=ONE_LAYER))
    hold(gap(weight, _plain_layer()[0]) > 0.01, "the weight does not move")
    return a.off(a.near(weight @ weight.T, _plain_layer()[0] @ _plain_layer()[0].T, "products of rows are"))


@_law("magnitude", "A state holds the lengths of the rows of the weight in use.", lambda method: method == "dora")
def _magnitude(bench: Bench) -> str:
    adapted, worst = bench.adapted(filled=False, hidden=ONE_LAYER), 0.0
    for when in ("new", "trained"):
        state = adapted.code.state(adapted.model)
        vectors = [tensor.flatten() for tensor in state.values() if tensor.shape.numel() == OUT]
        hold(len(vectors) == 1, f"{len(vectors)} tensors of {a.words(state)} are one number per row")
        lengths = _in_use(adapted)[0].norm(dim=1)
        worst = max(worst, a.near(vectors[0], lengths, f"{when}: the magnitudes are"))
        adapted.learn()
    return a.off(worst)


@_law("one-pair", "All layers share one random pair, and it is not trained.", lambda method: method == "vera")
def _one_pair(bench: Bench) -> str:
    found = []
    for steps in (3, 6):
        adapted = bench.adapted(rank=1, filled=False)
        adapted.learn(steps)
        adapted.code.merge(adapted.model)
        found.append([_row(adapted, name) for name in LAYERS])
    first, worst = found[0][0], 0.0
    for when, rows in zip(("after 3 steps", "after 6 steps"), found, strict=True):
        for name, row in zip(LAYERS, rows, strict=True):
            expected = F.normalize(first[: len(row)], dim=0)
            worst = max(worst, a.near(row, expected * (row @ expected).sign(), f"{when}: the direction of {name} is"))
    return a.off(worst)


@_law("principal", "The factors start as the weight's first singular values.", lambda method: method == "pissa")
def _principal(bench: Bench) -> str:
    adapted = bench.adapted(rank=2, filled=False, hidden=ONE_LAYER)
    tensors = {tuple(tensor.shape): tensor.detach() for tensor in _trained(adapted).values()}
    hold(set(tensors) == {(2, IN), (OUT, 2)}, f"trained tensors are {a.words(tensors)}, not {(2, IN)} and {(OUT, 2)}")
    U, S, V = torch.linalg.svd(_plain_layer()[0], full_matrices=False)
    product, best = tensors[OUT, 2] @ tensors[2, IN], (U[:, :2] * S[:2]) @ V[:2]
    # The scale is the implementation's own.
    return a.off(a.near(product / product.norm(), best / best.norm(), "the product of the factors, of length one, is"))


@_law("shards", "Inputs that are one rank apart share their column of the change.", lambda method: method == "miss")
def _shards(bench: Bench) -> str:
    adapted = bench.adapted(hidden=ONE_LAYER)
    change = _in_use(adapted)[0] - _plain_layer()[0]
    hold(gap(change, torch.zeros(OUT, IN)) > 0.01, "the weight does not move")
    return a.off(a.near(change[:, adapted.rank :], change[:, : -adapted.rank], "columns are"))


@_law("kronecker", "The change is a Kronecker product: its blocks are multiples of one another.", lambda m: m == "lokr")
def _kronecker(bench: Bench) -> str:
    change = _in_use(bench.adapted(hidden=ONE_LAYER))[0] - _plain_layer()[0]
    # 3 = 1 · 3 outputs and 6 = 2 · 3 inputs: two blocks of 3 × 3.
    values = torch.linalg.svdvals(change.reshape(OUT, 2, IN // 2).transpose(0, 1).flatten(1))
    rest = float(values[1] / values[0])
    hold(rest < TOLERANCE, f"the second singular value of the blocks is {rest:.2g} of the first")
    return f"{rest:.2g} is left"


@_law(
    "strength", "A change of rank 1, over the lengths of columns, is as long as λ.", lambda method: method == "delora"
)
def _strength(bench: Bench) -> str:
    adapted, (W, _) = bench.adapted(rank=1, hidden=ONE_LAYER), _plain_layer()
    numbers = [tensor.abs().flatten() for tensor in adapted.code.state(adapted.model).values() if tensor.numel() == 1]
    hold(len(numbers) == 1, f"{len(numbers)} tensors of the state are a single number")
    length = ((_in_use(adapted)[0] - W) / W.norm(dim=0)).norm()
    return a.off(a.near(length / numbers[0], torch.ones(1), "the length, over λ, is"))


def _trained(adapted: Adapted) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in adapted.model.named_parameters() if tensor.requires_grad}


def _plain_layer() -> tuple[Tensor, Tensor]:
    state = plain(ONE_LAYER).state_dict()
    return state["fc1.weight"], state["fc1.bias"]


def _in_use(adapted: Adapted) -> tuple[Tensor, Tensor]:
    """Return the weight (out × in) and the bias (out) by which a network of one layer computes."""
    bias, *columns = adapted(torch.cat([torch.zeros(1, IN), torch.eye(IN)]))
    return torch.stack([column - bias for column in columns], 1), bias


def _row(adapted: Adapted, name: str) -> Tensor:
    """Return the direction of the rows of a layer's change of rank 1."""
    change = adapted.weights()[f"{name}.weight"] - plain().state_dict()[f"{name}.weight"]
    return F.normalize(change[change.abs().sum(1).argmax()], dim=0)


def _config(method: str, rank: int) -> AdapterConfig:
    return AdapterConfig(method=method, rank=rank if METHODS[method].ranked else 0)


def _rank_of_change(method: str) -> int:
    return method_named(method).change_rank(_config(method, 1), IN, OUT)
