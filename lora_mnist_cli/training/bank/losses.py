"""The operations of a bank's step that protections add: a loss of several terms, and directions that adapters avoid.

As in ``training.bank.layers``, they are written down once and then replayed, on memory that is there already,
and no member takes part in another's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lora_mnist_cli.training.bank.inputs import TermBatch
from lora_mnist_cli.training.bank.layers import Call, Run, product


def loss_calls(logits: Tensor, gradient: Tensor, terms: Sequence[TermBatch], grouped: tuple[int, int]) -> list[Call]:
    """Fill the gradient of a loss by logits, summed over its terms; see ``LossTerm``.

    Args:
        logits: members × classes × n.
        gradient: the same size.
        terms: at least one.
        grouped: members as shapes × seeds.
    """
    classes, n = logits.shape[1:]

    def by_seed(tensor: Tensor) -> Tensor:
        return tensor.view(*grouped, classes, n)

    shown, share = torch.empty_like(logits), torch.empty_like(logits)
    calls: list[Call] = []
    for number, term in enumerate(terms):
        own = gradient if number == 0 else share
        seen = logits
        if term.hidden is not None:
            calls.append(partial(torch.add, by_seed(logits), term.hidden, out=by_seed(shown)))
            seen = shown
        if term.term.temperature != 1:
            calls.append(partial(torch.div, seen, term.term.temperature, out=shown))
            seen = shown
        calls.append(partial(torch.softmax, seen, 1, out=own))
        if term.term.weight != 1:
            calls.append(partial(own.mul_, term.term.weight))
        calls.append(partial(by_seed(own).sub_, term.targets))
        if number:
            calls.append(partial(gradient.add_, share))
    return calls


def avoid_calls(runs: Sequence[Run], directions: Tensor) -> list[Call]:
    """``A ← A − (A U) Uᵀ`` for the adapters of a layer, where U are orthonormal columns (in × d)."""
    calls: list[Call] = []
    for run in runs:
        count, rank, _ = run.A.shape
        U = directions.expand(count, -1, -1)
        along = run.A.new_empty(count, rank, directions.shape[1])
        calls.append(product(along, run.A, U))
        calls.append(product(run.A, along, U.mT, scale=-1.0, add=run.A))
    return calls
