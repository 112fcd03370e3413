"""The laws of the formula and of its multiplier."""

from __future__ import annotations

from functools import partial

from lora_mnist_cli.conformance.bench import ALPHA, RANK, Bench, gap, hold, inputs, plain
from lora_mnist_cli.conformance.laws.law import (
    EXACT,
    Law,
    enter,
    equal,
    follows,
    mode,
    off,
)

LAWS: dict[str, Law] = {}
law = partial(enter, LAWS)


@law("scaling", "Outputs are W x + b + alpha · scale(rank) · B A x, with the scale that is claimed.")
def _scaling(bench: Bench) -> str:
    return off(max(
        follows(bench.adapted(rank=rank, alpha=alpha), alpha, f"rank {rank}, alpha {alpha:g}: outputs are")
        for rank, alpha in ((1, 1.0), (RANK, 1.0), (RANK, ALPHA), (8, -0.5), (4, 2.0))
    ))  # fmt: skip


@law("set-alpha", "Setting alpha is as good as attaching with it, however often it is set.")
def _set_alpha(bench: Bench) -> str:
    adapted, worst = bench.adapted(alpha=2.0), 0.0
    for alpha in (0.5, 0.5, -1.0, 3.0):
        adapted.code.set_alpha(adapted.model, alpha)
        worst = max(worst, follows(adapted, alpha, f"attached with alpha 2, then set to {alpha:g}: outputs are"))
    return off(worst)


@law("alpha-0", "Alpha 0 restores the base exactly, and setting alpha back restores the adapter exactly.")
def _alpha_0(bench: Bench) -> str:
    adapted, x = bench.adapted(), inputs()
    before, base = adapted(x), plain()(x)
    hold(gap(before, base) > 0.01, "the adapter changes nothing, whatever its factors hold")
    adapted.code.set_alpha(adapted.model, 0.0)
    for training in (True, False, True):
        adapted.model.train(training)
        equal(adapted(x), base, f"at alpha 0, {mode(training)}: outputs are not the base's")
    adapted.code.set_alpha(adapted.model, adapted.alpha)
    equal(adapted(x), before, "with alpha set back, outputs are not those of before")
    return EXACT
