"""The laws of LoRA: each a function that looks at models of an implementation and says what it found, or breaks.

The evidence of a law that holds is how far from broken it was; where none is returned, what had to be equal was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_mnist_cli.conformance.bench import (
    ALPHA,
    LAYERS,
    RANK,
    TOLERANCE,
    Adapted,
    Bench,
    BrokenError,
    digest,
    formula,
    gap,
    hold,
    inputs,
    merged_weights,
    plain,
)

EXACT = "bit for bit"
ROUNDS = 20
"""Times that an adapter is merged and unmerged, in which rounding errors would add up."""


@dataclass(frozen=True)
class Law:
    """A law.

    Args:
        about: what it demands, in a sentence.
        check: gives the evidence; raises ``BrokenError``.
    """

    name: str
    about: str
    check: Callable[[Bench], str]


LAWS: dict[str, Law] = {}
"""Name → law, in the order in which they are tried."""


def _law(name: str, about: str) -> Callable[[Callable[[Bench], str]], Callable[[Bench], str]]:
    def enter(check: Callable[[Bench], str]) -> Callable[[Bench], str]:
        LAWS[name] = Law(name, about, check)
        return check

    return enter


@_law("shapes", "Every linear layer has an A (rank × in) and a B (out × rank), of the rank that was asked for.")
def _shapes(bench: Bench) -> str:
    for rank in (1, RANK, 8):
        factors = bench.adapted(rank=rank, filled=False).factors()
        hold(set(factors) == set(LAYERS), f"adapters on {_words(factors)}, not on {_words(LAYERS)}")
        for name, (fan_in, fan_out) in LAYERS.items():
            found = tuple(tuple(factor.shape) for factor in factors[name])
            expected = ((rank, fan_in), (fan_out, rank))
            hold(found == expected, f"{name} at rank {rank}: A and B are {found}, not {expected}")
    return "ranks 1, 3 and 8"


@_law("zero-b", "A new adapter changes nothing, bit for bit: B is zero; and A is not, so that it can learn.")
def _zero_b(bench: Bench) -> str:
    x = inputs()
    for training in (True, False):
        made = bench.adapted(filled=False)
        for name, (A, B) in made.factors().items():
            hold(not B.any(), f"B of {name} is not zero: up to {float(B.detach().abs().max()):.3g}")
            hold(A.any(), f"A of {name} is zero as well, so that neither factor ever gets a gradient")
        made.model.train(training)
        _equal(made(x), plain()(x), f"new, {_mode(training)}: outputs are not the base's")
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
    made = bench.adapted()
    own = {id(factor): f"{which} of {name}" for name, pair in made.factors().items() for which, factor in _both(pair)}
    free = {id(p): name for name, p in made.model.named_parameters() if p.requires_grad}
    extra = [name for key, name in free.items() if key not in own]
    frozen = [name for key, name in own.items() if key not in free]
    hold(not extra, f"trainable as well: {_words(extra)}")
    hold(not frozen, f"not trainable: {_words(frozen)}")
    before = {name: [factor.detach().clone() for factor in pair] for name, pair in made.factors().items()}
    _train(made)
    for name, pair in made.factors().items():
        for which, factor, old in zip("AB", pair, before[name], strict=True):
            hold(not torch.equal(factor, old), f"{which} of {name} does not move in training")
    return f"{len(own)} factors"


@_law("base", "The base's weights, hashed, never move: not when adapted, trained, scaled, saved or loaded.")
def _base(bench: Bench) -> str:
    expected = digest(plain().state_dict())
    made = bench.adapted(filled=False)

    def same(when: str) -> None:
        weights = made.weights()
        distance = gap(weights, plain().state_dict())
        hold(digest(weights) == expected, f"the base's weights have moved by up to {distance:.3g} {when}")

    same("when adapters are attached")
    _train(made)
    same("in training")
    made.code.set_alpha(made.model, -0.5)
    same("when alpha changes")
    made.code.load(made.model, _copy(made.code.state(made.model)))
    same("when a state is loaded")
    return f"sha256 {expected[:12]}…"


@_law("modes", "train() and eval() alone move no weight, and without dropout no output.")
def _modes(bench: Bench) -> str:
    made, x = bench.adapted(), inputs()
    expected, before = digest(plain().state_dict()), made(x)
    for training in (False, True, False):
        made.model.train(training)
        hold(
            digest(made.weights()) == expected,
            f"{_mode(training)}() alone moves the weights, by up to {gap(made.weights(), plain().state_dict()):.3g}",
        )
        _equal(made(x), before, f"outputs after {_mode(training)}() are others")
    return EXACT


@_law("scaling", "Outputs are W x + b + alpha · scale(rank) · B A x, with the scale that is claimed.")
def _scaling(bench: Bench) -> str:
    worst = 0.0
    for rank, alpha in ((1, 1.0), (RANK, 1.0), (RANK, ALPHA), (8, -0.5), (4, 2.0)):
        made = bench.adapted(rank=rank, alpha=alpha)
        worst = max(worst, _follows(made, alpha, f"rank {rank}, alpha {alpha:g}"))
    return _off(worst)


@_law("set-alpha", "Setting alpha is as good as attaching with it, however often it is set.")
def _set_alpha(bench: Bench) -> str:
    made, worst = bench.adapted(alpha=2.0), 0.0
    for alpha in (0.5, 0.5, -1.0, 3.0):
        made.code.set_alpha(made.model, alpha)
        worst = max(worst, _follows(made, alpha, f"attached with alpha 2, then set to {alpha:g}"))
    return _off(worst)


@_law("alpha-0", "Alpha 0 restores the base exactly, and setting alpha back restores the adapter exactly.")
def _alpha_0(bench: Bench) -> str:
    made, x = bench.adapted(), inputs()
    before, base = made(x), plain()(x)
    hold(gap(before, base) > 0.01, "the adapter changes nothing, whatever its factors hold")
    made.code.set_alpha(made.model, 0.0)
    for training in (True, False, True):
        made.model.train(training)
        _equal(made(x), base, f"at alpha 0, {_mode(training)}: outputs are not the base's")
    made.code.set_alpha(made.model, ALPHA)
    _equal(made(x), before, "with alpha set back, outputs are not those of before")
    return EXACT


def _merge(training: bool) -> Callable[[Bench], str]:
    def check(bench: Bench) -> str:
        made, x = bench.adapted(), inputs()
        made.model.train(training)
        made.code.merge(made.model)
        found, old = made.weights(), plain().state_dict()
        for name in LAYERS:
            moved = gap(found[f"{name}.weight"], old[f"{name}.weight"])
            hold(moved > 1e-3, f"{_mode(training)}: merging leaves the weight of {name} as it was")
        distance = gap(found, merged_weights(made, ALPHA))
        hold(distance <= TOLERANCE, f"{_mode(training)}: merged weights are {_off(distance)}")
        distance = gap(made(x), formula(made, ALPHA, x))
        hold(distance <= TOLERANCE, f"{_mode(training)}: outputs of the merged model are {_off(distance)}")
        return _off(distance)

    return check


_law("merge-train", "Merged in training mode, the weights hold the product, and outputs stay.")(_merge(True))
_law("merge-eval", "Merged in evaluation mode, the weights hold the product, and outputs stay.")(_merge(False))


@_law("merge-twice", "Merging what is merged changes nothing, nor does unmerging what is not.")
def _merge_twice(bench: Bench) -> str:
    made = bench.adapted()
    made.code.unmerge(made.model)
    distance = gap(made.weights(), plain().state_dict())
    hold(distance <= TOLERANCE, f"unmerging what was never merged leaves weights {_off(distance)}")
    for _ in range(2):
        made.code.merge(made.model)
    distance = gap(made.weights(), merged_weights(made, ALPHA))
    hold(distance <= TOLERANCE, f"merged twice, the weights are {_off(distance)}")
    for _ in range(2):
        made.code.unmerge(made.model)
    distance = gap(made.weights(), plain().state_dict())
    hold(distance <= TOLERANCE, f"unmerged twice, the weights are {_off(distance)}")
    return _off(distance)


@_law("unmerge", "Unmerged, the model is what it was before: weights, outputs and what is trainable.")
def _unmerge(bench: Bench) -> str:
    made = bench.adapted()
    made.code.merge(made.model)
    made.code.unmerge(made.model)
    distance = gap(made.weights(), plain().state_dict())
    hold(distance <= TOLERANCE, f"the weights are {_off(distance)}")
    distance = _follows(made, ALPHA, "unmerged")
    for name, pair in made.factors().items():
        for which, factor in _both(pair):
            hold(factor.requires_grad, f"{which} of {name} is no longer trainable")
    return _off(distance)


@_law("unmerge-exact", f"Merged and unmerged {ROUNDS} times, the base's weights are what they were, bit for bit.")
def _unmerge_exact(bench: Bench) -> str:
    made = bench.adapted()
    for i in range(ROUNDS):
        made.code.merge(made.model)
        made.code.unmerge(made.model)
        if digest(made.weights()) != digest(plain().state_dict()):
            raise BrokenError(
                f"the weights are off by up to {gap(made.weights(), plain().state_dict()):.3g} after round {i + 1}"
            )
    return EXACT


@_law("alpha-merged", "Setting alpha while merged is refused or takes effect, and never damages the base.")
def _alpha_merged(bench: Bench) -> str:
    made, x, refused = bench.adapted(), inputs(), False
    made.code.merge(made.model)
    try:
        made.code.set_alpha(made.model, 0.5)
    except NotImplementedError:
        raise
    except Exception:  # noqa: BLE001 - whatever it raises is a refusal
        refused = True
    expected = ALPHA if refused else 0.5
    distance = gap(made(x), formula(made, expected, x))
    hold(distance <= TOLERANCE, f"outputs after setting alpha while merged are {_off(distance)}")
    made.code.unmerge(made.model)
    distance = gap(made.weights(), plain().state_dict())
    hold(distance <= TOLERANCE, f"after setting alpha while merged, unmerging leaves weights {_off(distance)}")
    return "refused" if refused else "takes effect"


@_law("attach-twice", "Attaching twice is refused, or leaves one adapter: nothing is stacked.")
def _attach_twice(bench: Bench) -> str:
    made = bench.adapted()
    keys, weights = set(made.code.state(made.model)), digest(made.weights())
    try:
        again = made.code.attach(made.model, rank=RANK, alpha=ALPHA, dropout=0.0)
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it raises is a refusal
        after, told = made, f"refused ({type(error).__name__})"
    else:
        after, told = Adapted(made.code, again, RANK), "one adapter stays"
        after.fill()
    found = set(after.code.state(after.model))
    hold(
        found == keys, f"{told}: there are {len(found)} tensors, and {len(keys)} before: {_words(sorted(found - keys))}"
    )
    hold(set(after.factors()) == set(LAYERS), f"{told}: there are adapters on {_words(after.factors())}")
    _follows(after, ALPHA, f"attached twice ({told})")
    hold(digest(after.weights()) == weights, f"{told}: the base's weights have moved")
    return told


@_law("dropout", "Dropout acts on the adapter's inputs alone, in training alone, and keeps the mean.")
def _dropout(bench: Bench) -> str:
    x, p = inputs(), 0.5
    made = bench.adapted(dropout=p)
    hold(not torch.equal(made(x), made(x)), "train: outputs are the same each time, so nothing is dropped")
    made.model.eval()
    _equal(made(x), made(x), "eval: outputs differ each time")
    _follows(made, ALPHA, "eval")
    made = bench.adapted(dropout=p)  # a new one, whose weights no change of mode has touched
    made.code.set_alpha(made.model, 0.0)
    _equal(made(x), plain()(x), "train, at alpha 0: outputs are not the base's, so its own inputs are dropped")
    # Of one layer, so that the mean goes through no ReLU.
    linear, few = bench.adapted(dropout=p, hidden=()), inputs(4)
    mean = linear(few.repeat(20_000, 1)).reshape(20_000, 4, -1).mean(0)
    distance = gap(mean, formula(linear, ALPHA, few, hidden=()))
    hold(distance <= 0.05, f"train: the mean over 20,000 draws is {_off(distance)}")
    return f"mean over 20,000 draws {_off(distance)}"


@_law("state", "The state holds the adapter's tensors alone, and makes another model compute the same, bit for bit.")
def _state(bench: Bench) -> str:
    made, other, x = bench.adapted(), bench.adapted(seed=1, filled=False), inputs()
    state = _copy(made.code.state(made.model))
    size = sum(tensor.numel() for tensor in state.values())
    expected = sum(RANK * (fan_in + fan_out) for fan_in, fan_out in LAYERS.values())
    hold(size == expected, f"the state has {size} values in {_words(state)}; the factors have {expected}")
    keys = set(other.code.state(other.model))
    hold(set(state) == keys, f"keys of one model are not those of another: {_words(sorted(set(state) ^ keys))}")
    other.code.load(other.model, state)
    _equal(other(x), made(x), "the model that the state was loaded into computes something else")
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
        made = bench.adapted(seed=1)
        try:
            made.code.load(made.model, _copy(bad))
        except NotImplementedError:
            raise
        except Exception:  # noqa: BLE001 - whatever it raises is a refusal
            continue
        taken.append(what)
    hold(not taken, f"taken without a word: a state with {', with '.join(taken)}")
    return f"{len(wrong)} wrong states refused"


@_law("gradients", "Gradients of every value of every factor agree with finite differences, in float64.")
def _gradients(bench: Bench) -> str:
    made, x = bench.adapted(), inputs(8).double()
    made.model.double()
    probe = torch.linspace(-1, 1, 8 * 3, dtype=torch.float64).reshape(8, 3)
    factors = {f"{which} of {name}": factor for name, pair in made.factors().items() for which, factor in _both(pair)}
    made.model.zero_grad()
    (made.model(x) * probe).sum().backward()
    worst = 0.0
    for name, factor in factors.items():
        hold(factor.grad is not None, f"{name} gets no gradient")
        numeric, values, step = torch.zeros_like(factor), factor.detach().view(-1), 1e-6
        for i in range(values.numel()):
            kept = float(values[i])
            values[i] = kept + step
            above = float((made(x) * probe).sum())
            values[i] = kept - step
            numeric.view(-1)[i] = (above - float((made(x) * probe).sum())) / (2 * step)
            values[i] = kept
        distance = gap(torch.as_tensor(factor.grad), numeric)
        hold(distance <= 1e-6, f"the gradient of {name} is {_off(distance)}")
        worst = max(worst, distance)
    return _off(worst)


def _follows(made: Adapted, alpha: float, when: str) -> float:
    """How far outputs are from the formula's.

    Raises:
        BrokenError: where that is too far.
    """
    x = inputs()
    distance = gap(made(x), formula(made, alpha, x))
    hold(distance <= TOLERANCE, f"{when}: outputs are {_off(distance)}")
    return distance


def _train(made: Adapted) -> None:
    """A few steps on whatever is trainable, with weight decay, which moves even what gets no gradient."""
    free = [parameter for parameter in made.model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(free, lr=0.05, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        made.model(inputs()).square().mean().backward()
        optimizer.step()


def _equal(found: Tensor, expected: Tensor, evidence: str) -> None:
    hold(torch.equal(found, expected.detach()), f"{evidence} (up to {gap(found, expected.detach()):.3g} apart)")


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
