"""The operations of a bank's step that protections add: a loss of several terms, and directions that adapters avoid.

As in ``training.bank.layers``, they are listed once and then replayed on memory that exists, and no member takes part
in another's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lora_mnist_cli.training.bank.inputs import TermBatch
from lora_mnist_cli.training.bank.layers import Call, MemberGroup, product


def loss_calls(logits: Tensor, gradient: Tensor, terms: Sequence[TermBatch], shape: tuple[int, int]) -> list[Call]:
    """Return the operations that fill the gradient of a loss by logits, summed over its terms; see ``LossTerm``.

    Args:
        logits: members × classes × n.
        gradient: members × classes × n.
        terms: at least one.
        shape: how many shapes and how many seeds the members have.
    """
    classes, n = logits.shape[1:]

    def by_seed(tensor: Tensor) -> Tensor:
        return tensor.view(*shape, classes, n)

    shown, share = torch.empty_like(logits), torch.empty_like(logits)
    calls: list[Call] = []
    for number, term in enumerate(terms):
        part = gradient if number == 0 else share
        seen = logits
        if term.hidden is not None:
            calls.append(partial(torch.add, by_seed(logits), term.hidden, out=by_seed(shown)))
            seen = shown
        if term.term.temperature != 1:
            calls.append(partial(torch.div, seen, term.term.temperature, out=shown))
            seen = shown
        calls.append(partial(torch.softmax, seen, 1, out=part))
        if term.term.weight != 1:
            calls.append(partial(part.mul_, term.term.weight))
        calls.append(partial(by_seed(part).sub_, term.targets))
        if number:
            calls.append(partial(gradient.add_, share))
    return calls


def avoid_calls(groups: Sequence[MemberGroup], directions: Tensor) -> list[Call]:
    """Return ``A ← A − (A U) Uᵀ`` for the adapters of a layer, where U are orthonormal columns (in × d)."""
    calls: list[Call] = []
    for group in groups:
        count, rank, _ = group.A.shape
        U = directions.expand(count, -1, -1)
        along = group.A.new_empty(count, rank, directions.shape[1])
        calls.append(product(along, group.A, U))
        calls.append(product(group.A, along, U.mT, scale=-1.0, add=group.A))
    return calls
