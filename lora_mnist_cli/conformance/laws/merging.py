"""The laws of merging."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lora_mnist_cli.conformance.bench import ALPHA, LAYERS, Bench, gap, hold, merged_weights, plain
from lora_mnist_cli.conformance.laws.law import (
    EXACT,
    Law,
    base_stays,
    both,
    enter,
    follows,
    mode,
    near,
    off,
    refusal,
)

ROUNDS = 20
"""Rounds of merging and unmerging, over which rounding errors would add up."""
LAWS: dict[str, Law] = {}
law = partial(enter, LAWS)


def _merge(training: bool) -> Callable[[Bench], str]:
    def check(bench: Bench) -> str:
        adapted = bench.adapted()
        adapted.model.train(training)
        adapted.code.merge(adapted.model)
        merged, old = adapted.weights(), plain().state_dict()
        for name in LAYERS:
            moved = gap(merged[f"{name}.weight"], old[f"{name}.weight"])
            hold(moved > 1e-3, f"{mode(training)}: merging leaves the weight of {name} as it was")
        near(merged, merged_weights(adapted, ALPHA), f"{mode(training)}: merged weights are")
        return off(follows(adapted, ALPHA, f"{mode(training)}: outputs of the merged model are"))

    return check


law("merge-train", "Merged in training mode, the weights hold the product, and outputs stay.")(_merge(True))
law("merge-eval", "Merged in evaluation mode, the weights hold the product, and outputs stay.")(_merge(False))


@law("merge-twice", "Merging what is merged changes nothing, nor does unmerging what is not.")
def _merge_twice(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.unmerge(adapted.model)
    near(adapted.weights(), plain().state_dict(), "unmerging what was never merged leaves weights")
    for _ in range(2):
        adapted.code.merge(adapted.model)
    near(adapted.weights(), merged_weights(adapted, ALPHA), "merged twice, the weights are")
    for _ in range(2):
        adapted.code.unmerge(adapted.model)
    return off(near(adapted.weights(), plain().state_dict(), "unmerged twice, the weights are"))


@law("unmerge", "Unmerged, the model is what it was before: weights, outputs and what is trainable.")
def _unmerge(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.merge(adapted.model)
    adapted.code.unmerge(adapted.model)
    near(adapted.weights(), plain().state_dict(), "the weights are")
    distance = follows(adapted, ALPHA, "unmerged: outputs are")
    for name, pair in adapted.factors().items():
        for which, factor in both(pair):
            hold(factor.requires_grad, f"{which} of {name} is no longer trainable")
    return off(distance)


@law("unmerge-exact", f"Merged and unmerged {ROUNDS} times, the base's weights are what they were, bit for bit.")
def _unmerge_exact(bench: Bench) -> str:
    adapted = bench.adapted()
    before = adapted.weights()
    for i in range(ROUNDS):
        adapted.code.merge(adapted.model)
        adapted.code.unmerge(adapted.model)
        base_stays(adapted, f"the weights are off by up to {{:.3g}} after round {i + 1}", before)
    return EXACT


@law("alpha-merged", "Setting alpha while merged is refused or takes effect, and never damages the base.")
def _alpha_merged(bench: Bench) -> str:
    adapted = bench.adapted()
    adapted.code.merge(adapted.model)
    refused = refusal(lambda: adapted.code.set_alpha(adapted.model, 0.5)) is not None
    follows(adapted, ALPHA if refused else 0.5, "outputs after setting alpha while merged are")
    adapted.code.unmerge(adapted.model)
    near(adapted.weights(), plain().state_dict(), "after setting alpha while merged, unmerging leaves weights")
    return "refused" if refused else "takes effect"
