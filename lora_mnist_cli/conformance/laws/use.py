"""The laws of attaching twice, dropout, files and gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from lora_mnist_cli.conformance.bench import ALPHA, LAYERS, RANK, Adapted, Bench, digest, formula, hold, inputs, plain
from lora_mnist_cli.conformance.laws.law import (
    EXACT,
    Law,
    both,
    copy,
    enter,
    equal,
    follows,
    near,
    off,
    refusal,
    words,
)

LAWS: dict[str, Law] = {}
law = partial(enter, LAWS)


@law("attach-twice", "Attaching twice is refused, or leaves one adapter: nothing is stacked.")
def _attach_twice(bench: Bench) -> str:
    adapted, again = bench.adapted(), list[nn.Module]()
    keys, weights = set(adapted.code.state(adapted.model)), digest(adapted.weights())
    error = refusal(lambda: again.append(adapted.code.attach(adapted.model, rank=RANK, alpha=ALPHA, dropout=0.0)))
    if error is not None:
        after, outcome = adapted, f"refused ({type(error).__name__})"
    else:
        after, outcome = Adapted(adapted.code, again[0], RANK), "one adapter stays"
        after.fill()
    tensors = set(after.code.state(after.model))
    extra = words(sorted(tensors - keys))
    hold(tensors == keys, f"{outcome}: there are {len(tensors)} tensors, and {len(keys)} before: {extra}")
    hold(set(after.factors()) == set(LAYERS), f"{outcome}: there are adapters on {words(after.factors())}")
    follows(after, ALPHA, f"attached twice ({outcome}): outputs are")
    hold(digest(after.weights()) == weights, f"{outcome}: the base's weights have moved")
    return outcome


@law("dropout", "Dropout acts on the adapter's inputs alone, in training alone, and keeps the mean.")
def _dropout(bench: Bench) -> str:
    x, p = inputs(), 0.5
    adapted = bench.adapted(dropout=p)
    hold(not torch.equal(adapted(x), adapted(x)), "train: outputs are the same each time, so nothing is dropped")
    adapted.model.eval()
    equal(adapted(x), adapted(x), "eval: outputs differ each time")
    follows(adapted, ALPHA, "eval: outputs are")
    adapted = bench.adapted(dropout=p)  # a new one, whose weights no change of mode has touched
    adapted.code.set_alpha(adapted.model, 0.0)
    equal(adapted(x), plain()(x), "train, at alpha 0: outputs are not the base's, so its own inputs are dropped")
    # A network of one layer, so that the mean goes through no ReLU.
    linear, few = bench.adapted(dropout=p, hidden=()), inputs(4)
    mean = linear(few.repeat(20_000, 1)).reshape(20_000, 4, -1).mean(0)
    distance = near(mean, formula(linear, ALPHA, few, hidden=()), "train: the mean over 20,000 draws is", 0.05)
    return f"mean over 20,000 draws {off(distance)}"


@law("state", "The state holds the adapter's tensors alone, and makes another model compute the same, bit for bit.")
def _state(bench: Bench) -> str:
    adapted, other, x = bench.adapted(), bench.adapted(seed=1, filled=False), inputs()
    state = copy(adapted.code.state(adapted.model))
    size = sum(tensor.numel() for tensor in state.values())
    expected = sum(RANK * (fan_in + fan_out) for fan_in, fan_out in LAYERS.values())
    hold(size == expected, f"the state has {size} values in {words(state)}; the factors have {expected}")
    keys = set(other.code.state(other.model))
    hold(set(state) == keys, f"keys of one model are not those of another: {words(sorted(set(state) ^ keys))}")
    other.code.load(other.model, state)
    equal(other(x), adapted(x), "the model that the state was loaded into computes something else")
    return f"{len(state)} tensors, {EXACT}"


@law("load-strict", "Loading refuses a state with a missing key, an unknown one, other names or another shape.")
def _load_strict(bench: Bench) -> str:
    state = copy(bench.adapted().code.state(bench.adapted().model))
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
        if refusal(partial(adapted.code.load, adapted.model, copy(bad))) is None:
            taken.append(what)
    hold(not taken, f"taken without a word: a state with {', with '.join(taken)}")
    return f"{len(wrong)} wrong states refused"


@law("gradients", "Gradients of every value of every factor agree with finite differences, in float64.")
def _gradients(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs(8).double()
    adapted.model.double()
    probe = torch.linspace(-1, 1, 8 * 3, dtype=torch.float64).reshape(8, 3)
    factors = {f"{which} of {name}": factor for name, pair in adapted.factors().items() for which, factor in both(pair)}
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
        worst = max(worst, near(torch.as_tensor(factor.grad), numeric, f"the gradient of {name} is", 1e-6))
    return off(worst)
