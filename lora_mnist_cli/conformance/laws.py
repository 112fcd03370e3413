"""The laws of LoRA: functions that try models of an implementation and return evidence, or raise ``BrokenError``.

The evidence of a law that holds is its distance from being broken, or :data:`EXACT` for bits that had to be equal. The
laws stand in one file because they are one idea, twenty times: whoever reads one can read them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from lora_mnist_cli.conformance.bench import (
    ALPHA,
    LAYERS,
    RANK,
    TOLERANCE,
    Adapted,
    Bench,
    digest,
    formula,
    gap,
    hold,
    inputs,
    merged_weights,
    plain,
)

Weights = Mapping[str, Tensor]
EXACT = "bit for bit"
ROUNDS = 20
"""Rounds of merging and unmerging, over which rounding errors would add up."""


@dataclass(frozen=True)
class Law:
    """A law of LoRA.

    Args:
        about: its demand, in a sentence.
        check: returns the evidence, or raises ``BrokenError``.
    """

    about: str
    check: Callable[[Bench], str]


LAWS: dict[str, Law] = {}
"""Laws by name, in the order in which they are tried."""


def _law(name: str, about: str) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    def enter(check: Callable[[Bench], str]) -> Callable[[Bench], str]:
        LAWS[name] = Law(about, check)
        return check

    return enter


@_law("shapes", "Every linear layer has an A (rank × in) and a B (out × rank), of the rank that was asked for.")
def _shapes(bench: Bench) -> str:
    for rank in (1, RANK, 8):
        factors = bench.adapted(rank=rank, filled=False).factors()
        hold(set(factors) == set(LAYERS), f"adapters on {_words(factors)}, not on {_words(LAYERS)}")
        for name, (fan_in, fan_out) in LAYERS.items():
            shapes = tuple(tuple(factor.shape) for factor in factors[name])
            expected = ((rank, fan_in), (fan_out, rank))
            hold(shapes == expected, f"{name} at rank {rank}: A and B are {shapes}, not {expected}")
    return "ranks 1, 3 and 8"


@_law("zero-b", "A new adapter changes nothing, bit for bit: B is zero; and A is not, so that it can learn.")
def _zero_b(bench: Bench) -> str:
    x = inputs()
    for training in (True, False):
        adapted = bench.adapted(filled=False)
        for name, (A, B) in adapted.factors().items():
            hold(not B.any(), f"B of {name} is not zero: up to {float(B.detach().abs().max()):.3g}")
            hold(A.any(), f"A of {name} is zero as well, so that neither factor ever gets a gradient")
        adapted.model.train(training)
        _equal(adapted(x), plain()(x), f"new, {_mode(training)}: outputs are not the base's")
    return EXACT


@_law("seed", "A is drawn when it is attached, from torch's generator: one seed gives one A, another seed another.")
def _seed(bench: Bench) -> str:
    first, again, other = (bench.adapted(seed=seed, filled=False).factors() for seed in (1, 1, 2))
    for name, (A, _) in first.items():
        hold(torch.equal(A, again[name][0]), f"A of {name} differs after the same torch.manual_seed")
        hold(not torch.equal(A, other[name][0]), f"A of {name} is the same after another torch.manual_seed")
    return EXACT


@_law("trainable", "The factors, and they alone, are trainable; each of them moves in a step of training.")
def _trainable(bench: Bench) -> str:
    adapted = bench.adapted()
    pairs = adapted.factors().items()
    factors = {id(factor): f"{which} of {name}" for name, pair in pairs for which, factor in _both(pair)}
    free = {id(p): name for name, p in adapted.model.named_parameters() if p.requires_grad}
    extra = [name for key, name in free.items() if key not in factors]
    frozen = [name for key, name in factors.items() if key not in free]
    hold(not extra, f"trainable as well: {_words(extra)}")
    hold(not frozen, f"not trainable: {_words(frozen)}")
    before = {name: [factor.detach().clone() for factor in pair] for name, pair in adapted.factors().items()}
    _train(adapted)
    for name, pair in adapted.factors().items():
        for which, factor, old in zip("AB", pair, before[name], strict=True):
            hold(not torch.equal(factor, old), f"{which} of {name} does not move in training")
    return f"{len(factors)} factors"


@_law("base", "The base's weights, hashed, never move: not when adapted, trained, scaled, saved or loaded.")
def _base(bench: Bench) -> str:
    adapted, moved = bench.adapted(filled=False), "the base's weights have moved by up to {:.3g}"
    _base_stays(adapted, f"{moved} when adapters are attached")
    _train(adapted)
    _base_stays(adapted, f"{moved} in training")
    adapted.code.set_alpha(adapted.model, -0.5)
    _base_stays(adapted, f"{moved} when alpha changes")
    adapted.code.load(adapted.model, _copy(adapted.code.state(adapted.model)))
    _base_stays(adapted, f"{moved} when a state is loaded")
    return f"sha256 {digest(plain().state_dict())[:12]}…"


@_law("modes", "train() and eval() alone move no weight, and without dropout no output.")
def _modes(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs()
    before = adapted(x)
    for training in (False, True, False):
        adapted.model.train(training)
        _base_stays(adapted, f"{_mode(training)}() alone moves the weights, by up to {{:.3g}}")
        _equal(adapted(x), before, f"outputs after {_mode(training)}() are others")
    return EXACT


@_law("scaling", "Outputs are W x + b + alpha · scale(rank) · B A x, with the scale that is claimed.")
def _scaling(bench: Bench) -> str:
    return _off(max(
        _follows(bench.adapted(rank=rank, alpha=alpha), alpha, f"rank {rank}, alpha {alpha:g}: outputs are")
        for rank, alpha in ((1, 1.0), (RANK, 1.0), (RANK, ALPHA), (8, -0.5), (4, 2.0))
    ))  # fmt: skip


@_law("set-alpha", "Setting alpha is as good as attaching with it, however often it is set.")
def _set_alpha(bench: Bench) -> str:
    adapted, worst = bench.adapted(alpha=2.0), 0.0
    for alpha in (0.5, 0.5, -1.0, 3.0):
        adapted.code.set_alpha(adapted.model, alpha)
        worst = max(worst, _follows(adapted, alpha, f"attached with alpha 2, then set to {alpha:g}: outputs are"))
    return _off(worst)


@_law("alpha-0", "Alpha 0 restores the base exactly, and setting alpha back restores the adapter exactly.")
def _alpha_0(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs()
    before, base = adapted(x), plain()(x)
    hold(gap(before, base) > 0.01, "the adapter changes nothing, whatever its factors hold")
    adapted.code.set_alpha(adapted.model, 0.0)
    for training in (True, False, True):
        adapted.model.train(training)
        _equal(adapted(x), base, f"at alpha 0, {_mode(training)}: outputs are not the base's")
    adapted.code.set_alpha(adapted.model, ALPHA)
    _equal(adapted(x), before, "with alpha set back, outputs are not those of before")
    return EXACT


def _merge(training: bool) -> Callable[[Bench], str]:
    def check(bench: Bench) -> str:
        adapted = bench.adapted()
        adapted.model.train(training)
        adapted.code.merge(adapted.model)
        merged, old = adapted.weights(), plain().state_dict()
        for name in LAYERS:
            moved = gap(merged[f"{name}.weight"], old[f"{name}.weight"])
            hold(moved > 1e-3, f"{_mode(training)}: merging leaves the weight of {name} as it was")
        _near(merged, merged_weights(adapted, ALPHA), f"{_mode(training)}: merged weights are")
        return _off(_follows(adapted, ALPHA, f"{_mode(training)}: outputs of the merged model are"))

    return check


_law("merge-train", "Merged in training mode, the weights hold the product, and outputs stay.")(_merge(True))
_law("merge-eval", "Merged in evaluation mode, the weights hold the product, and outputs stay.")(_merge(False))


@_law("merge-twice", "Merging what is merged changes nothing, nor does unmerging what is not.")
def _merge_twice(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.unmerge(adapted.model)
    _near(adapted.weights(), plain().state_dict(), "unmerging what was never merged leaves weights")
    for _ in range(2):
        adapted.code.merge(adapted.model)
    _near(adapted.weights(), merged_weights(adapted, ALPHA), "merged twice, the weights are")
    for _ in range(2):
        adapted.code.unmerge(adapted.model)
    return _off(_near(adapted.weights(), plain().state_dict(), "unmerged twice, the weights are"))


@_law("unmerge", "Unmerged, the model is what it was before: weights, outputs and what is trainable.")
def _unmerge(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.merge(adapted.model)
    adapted.code.unmerge(adapted.model)
    _near(adapted.weights(), plain().state_dict(), "the weights are")
    distance = _follows(adapted, ALPHA, "unmerged: outputs are")
    for name, pair in adapted.factors().items():
        for which, factor in _both(pair):
            hold(factor.requires_grad, f"{which} of {name} is no longer trainable")
    return _off(distance)


@_law("unmerge-exact", f"Merged and unmerged {ROUNDS} times, the base's weights are what they were, bit for bit.")
def _unmerge_exact(bench: Bench) -> str:
    adapted = bench.adapted()
    for i in range(ROUNDS):
        adapted.code.merge(adapted.model)
        adapted.code.unmerge(adapted.model)
        _base_stays(adapted, f"the weights are off by up to {{:.3g}} after round {i + 1}")
    return EXACT


@_law("alpha-merged", "Setting alpha while merged is refused or takes effect, and never damages the base.")
def _alpha_merged(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.merge(adapted.model)
    refused = _refusal(lambda: adapted.code.set_alpha(adapted.model, 0.5)) is not None
    _follows(adapted, ALPHA if refused else 0.5, "outputs after setting alpha while merged are")
    adapted.code.unmerge(adapted.model)
    _near(adapted.weights(), plain().state_dict(), "after setting alpha while merged, unmerging leaves weights")
    return "refused" if refused else "takes effect"


@_law("attach-twice", "Attaching twice is refused, or leaves one adapter: nothing is stacked.")
def _attach_twice(bench: Bench) -> str:
    adapted, again = bench.adapted(), list[nn.Module]()
    keys, weights = set(adapted.code.state(adapted.model)), digest(adapted.weights())
    error = _refusal(lambda: again.append(adapted.code.attach(adapted.model, rank=RANK, alpha=ALPHA, dropout=0.0)))
    if error is not None:
        after, outcome = adapted, f"refused ({type(error).__name__})"
    else:
        after, outcome = Adapted(adapted.code, again[0], RANK), "one adapter stays"
        after.fill()
    tensors = set(after.code.state(after.model))
    extra = _words(sorted(tensors - keys))
    hold(tensors == keys, f"{outcome}: there are {len(tensors)} tensors, and {len(keys)} before: {extra}")
    hold(set(after.factors()) == set(LAYERS), f"{outcome}: there are adapters on {_words(after.factors())}")
    _follows(after, ALPHA, f"attached twice ({outcome}): outputs are")
    hold(digest(after.weights()) == weights, f"{outcome}: the base's weights have moved")
    return outcome


@_law("dropout", "Dropout acts on the adapter's inputs alone, in training alone, and keeps the mean.")
def _dropout(bench: Bench) -> str:
    x, p = inputs(), 0.5
    adapted = bench.adapted(dropout=p)
    hold(not torch.equal(adapted(x), adapted(x)), "train: outputs are the same each time, so nothing is dropped")
    adapted.model.eval()
    _equal(adapted(x), adapted(x), "eval: outputs differ each time")
    _follows(adapted, ALPHA, "eval: outputs are")
    adapted = bench.adapted(dropout=p)  # a new one, whose weights no change of mode has touched
    adapted.code.set_alpha(adapted.model, 0.0)
    _equal(adapted(x), plain()(x), "train, at alpha 0: outputs are not the base's, so its own inputs are dropped")
    # A network of one layer, so that the mean goes through no ReLU.
    linear, few = bench.adapted(dropout=p, hidden=()), inputs(4)
    mean = linear(few.repeat(20_000, 1)).reshape(20_000, 4, -1).mean(0)
    distance = _near(mean, formula(linear, ALPHA, few, hidden=()), "train: the mean over 20,000 draws is", 0.05)
    return f"mean over 20,000 draws {_off(distance)}"


@_law("state", "The state holds the adapter's tensors alone, and makes another model compute the same, bit for bit.")
def _state(bench: Bench) -> str:
    adapted, other, x = bench.adapted(), bench.adapted(seed=1, filled=False), inputs()
    state = _copy(adapted.code.state(adapted.model))
    size = sum(tensor.numel() for tensor in state.values())
    expected = sum(RANK * (fan_in + fan_out) for fan_in, fan_out in LAYERS.values())
    hold(size == expected, f"the state has {size} values in {_words(state)}; the factors have {expected}")
    keys = set(other.code.state(other.model))
    hold(set(state) == keys, f"keys of one model are not those of another: {_words(sorted(set(state) ^ keys))}")
    other.code.load(other.model, state)
    _equal(other(x), adapted(x), "the model that the state was loaded into computes something else")
    return f"{len(state)} tensors, {EXACT}"


@_law("load-strict", "Loading refuses a state with a missing key, an unknown one, other names or another shape.")
def _load_strict(bench: Bench) -> str:
    state = _copy(bench.adapted().code.state(bench.adapted().model))
    first = next(iter(state))
    wrong: dict[str, dict[str, Tensor]] = {
        "other names": {f"model.{key}": value for key, value in state.items()},
        "a missing key": {key: value for key, value in state.items() if key != first},
        "an unknown key": state | {"fc9.lora_A": torch.ones(RANK, 2)},
        "another shape": state | {first: torch.ones(7, 7)},
    }
    taken = []
    for what, bad in wrong.items():
        adapted = bench.adapted(seed=1)
        if _refusal(partial(adapted.code.load, adapted.model, _copy(bad))) is None:
            taken.append(what)
    hold(not taken, f"taken without a word: a state with {', with '.join(taken)}")
    return f"{len(wrong)} wrong states refused"


@_law("gradients", "Gradients of every value of every factor agree with finite differences, in float64.")
def _gradients(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs(8).double()
    adapted.model.double()
    probe = torch.linspace(-1, 1, 8 * 3, dtype=torch.float64).reshape(8, 3)
    factors = {
        f"{which} of {name}": factor for name, pair in adapted.factors().items() for which, factor in _both(pair)
    }
    adapted.model.zero_grad()
    (adapted.model(x) * probe).sum().backward()
    worst = 0.0
    for name, factor in factors.items():
        hold(factor.grad is not None, f"{name} gets no gradient")
        numeric, values, step = torch.zeros_like(factor), factor.detach().view(-1), 1e-6
        for i in range(values.numel()):
            kept = float(values[i])
            values[i] = kept + step
            above = float((adapted(x) * probe).sum())
            values[i] = kept - step
            numeric.view(-1)[i] = (above - float((adapted(x) * probe).sum())) / (2 * step)
            values[i] = kept
        worst = max(worst, _near(torch.as_tensor(factor.grad), numeric, f"the gradient of {name} is", 1e-6))
    return _off(worst)


def _near(actual: Weights | Tensor, expected: Weights | Tensor, evidence: str, tolerance: float = TOLERANCE) -> float:
    """Demand that values are the expected ones within a tolerance, and return their distance."""
    distance = gap(actual, expected)
    hold(distance <= tolerance, f"{evidence} {_off(distance)}")
    return distance


def _follows(adapted: Adapted, alpha: float, evidence: str) -> float:
    """Demand that the outputs are the formula's, and return their distance."""
    x = inputs()
    return _near(adapted(x), formula(adapted, alpha, x), evidence)


def _base_stays(adapted: Adapted, evidence: str) -> None:
    """Demand that the weights in use are the plain network's, bit for bit; the evidence is given their distance."""
    weights, base = adapted.weights(), plain().state_dict()
    hold(digest(weights) == digest(base), evidence.format(gap(weights, base)))


def _refusal(call: Callable[[], object]) -> Exception | None:
    """Return the exception by which a call is refused, whatever it is; None where the call is accepted."""
    try:
        call()
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - any exception is a refusal
        return error
    return None


def _train(adapted: Adapted) -> None:
    """Take a few steps with weight decay, which moves every trainable tensor, even without a gradient."""
    free = [parameter for parameter in adapted.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(free, lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        adapted.model(inputs()).square().mean().backward()
        optimizer.step()


def _equal(actual: Tensor, expected: Tensor, evidence: str) -> None:
    hold(torch.equal(actual, expected.detach()), f"{evidence} (up to {gap(actual, expected.detach()):.3g} apart)")


def _copy(state: Weights) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}


def _both(pair: tuple[Tensor, Tensor]) -> list[tuple[str, Tensor]]:
    return list(zip("AB", pair, strict=True))


def _mode(training: bool) -> str:
    return "train" if training else "eval"


def _words(names: object) -> str:
    words = [str(name) for name in names]  # type: ignore[attr-defined]
    return ", ".join(words) or "none"


def _off(distance: float) -> str:
    return "no numbers" if math.isinf(distance) else f"{distance:.2g} off"
