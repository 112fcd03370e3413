"""The laws of a new adapter and of what is trained."""

from __future__ import annotations

from functools import partial

import torch

from lora_mnist_cli.conformance.bench import LAYERS, RANK, Bench, digest, hold, inputs, plain
from lora_mnist_cli.conformance.laws.law import (
    EXACT,
    Law,
    base_stays,
    both,
    copy,
    enter,
    equal,
    mode,
    train,
    words,
)

LAWS: dict[str, Law] = {}
law = partial(enter, LAWS)


@law("shapes", "Every linear layer has an A (rank × in) and a B (out × rank), of the rank that was asked for.")
def _shapes(bench: Bench) -> str:
    for rank in (1, RANK, 8):
        factors = bench.adapted(rank=rank, filled=False).factors()
        hold(set(factors) == set(LAYERS), f"adapters on {words(factors)}, not on {words(LAYERS)}")
        for name, (fan_in, fan_out) in LAYERS.items():
            shapes = tuple(tuple(factor.shape) for factor in factors[name])
            expected = ((rank, fan_in), (fan_out, rank))
            hold(shapes == expected, f"{name} at rank {rank}: A and B are {shapes}, not {expected}")
    return "ranks 1, 3 and 8"


@law("zero-b", "A new adapter changes nothing, bit for bit: B is zero; and A is not, so that it can learn.")
def _zero_b(bench: Bench) -> str:
    x = inputs()
    for training in (True, False):
        adapted = bench.adapted(filled=False)
        for name, (A, B) in adapted.factors().items():
            hold(not B.any(), f"B of {name} is not zero: up to {float(B.detach().abs().max()):.3g}")
            hold(A.any(), f"A of {name} is zero as well, so that neither factor ever gets a gradient")
        adapted.model.train(training)
        equal(adapted(x), plain()(x), f"new, {mode(training)}: outputs are not the base's")
    return EXACT


@law("seed", "A is drawn when it is attached, from torch's generator: one seed gives one A, another seed another.")
def _seed(bench: Bench) -> str:
    first, again, other = (bench.adapted(seed=seed, filled=False).factors() for seed in (1, 1, 2))
    for name, (A, _) in first.items():
        hold(torch.equal(A, again[name][0]), f"A of {name} differs after the same torch.manual_seed")
        hold(not torch.equal(A, other[name][0]), f"A of {name} is the same after another torch.manual_seed")
    return EXACT


@law("trainable", "The factors, and they alone, are trainable; each of them moves in a step of training.")
def _trainable(bench: Bench) -> str:
    adapted = bench.adapted()
    pairs = adapted.factors().items()
    factors = {id(factor): f"{which} of {name}" for name, pair in pairs for which, factor in both(pair)}
    free = {id(p): name for name, p in adapted.model.named_parameters() if p.requires_grad}
    extra = [name for key, name in free.items() if key not in factors]
    frozen = [name for key, name in factors.items() if key not in free]
    hold(not extra, f"trainable as well: {words(extra)}")
    hold(not frozen, f"not trainable: {words(frozen)}")
    before = {name: [factor.detach().clone() for factor in pair] for name, pair in adapted.factors().items()}
    train(adapted)
    for name, pair in adapted.factors().items():
        for which, factor, old in zip("AB", pair, before[name], strict=True):
            hold(not torch.equal(factor, old), f"{which} of {name} does not move in training")
    return f"{len(factors)} factors"


@law("base", "The base's weights, hashed, never move: not when adapted, trained, scaled, saved or loaded.")
def _base(bench: Bench) -> str:
    adapted, moved = bench.adapted(filled=False), "the base's weights have moved by up to {:.3g}"
    base_stays(adapted, f"{moved} when adapters are attached")
    train(adapted)
    base_stays(adapted, f"{moved} in training")
    adapted.code.set_alpha(adapted.model, -0.5)
    base_stays(adapted, f"{moved} when alpha changes")
    adapted.code.load(adapted.model, copy(adapted.code.state(adapted.model)))
    base_stays(adapted, f"{moved} when a state is loaded")
    return f"sha256 {digest(plain().state_dict())[:12]}…"


@law("modes", "train() and eval() alone move no weight, and without dropout no output.")
def _modes(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs()
    weights, before = adapted.weights(), adapted(x)
    for training in (False, True, False):
        adapted.model.train(training)
        base_stays(adapted, f"{mode(training)}() alone moves the weights, by up to {{:.3g}}", weights)
        equal(adapted(x), before, f"outputs after {mode(training)}() are others")
    return EXACT
