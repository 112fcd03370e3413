"""Lineage among entries: everything made from some artifacts, and an order with children before parents. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lora_mnist_cli.registry.entries import Entry, age


def generations(entries: Sequence[Entry], first: Sequence[Entry]) -> list[Entry]:
    """Return some artifacts and everything made from them, directly or not, oldest first."""
    made_from: dict[str, list[Entry]] = {}
    for entry in entries:
        for digest in {parent.digest for parent in entry.parents}:
            made_from.setdefault(digest, []).append(entry)
    reached, pending = {entry.name: entry for entry in first}, list(first)
    while pending:
        for entry in made_from.get(pending.pop().digest, []):
            if entry.name not in reached:
                reached[entry.name] = entry
                pending.append(entry)
    return sorted(reached.values(), key=age)


def children_first(entries: Sequence[Entry]) -> list[str]:
    """Return the names in an order in which an artifact comes before its parents."""
    by_digest = {entry.digest: entry for entry in entries}
    parents = {e.digest: {p.digest for p in e.parents if p.digest in by_digest} for e in by_digest.values()}
    waiting = Counter(digest for of_one in parents.values() for digest in of_one)
    ordered: list[str] = []
    pending = [digest for digest in by_digest if not waiting[digest]]
    while pending:
        digest = pending.pop()
        ordered.append(digest)
        for parent in parents[digest]:
            waiting[parent] -= 1
            if not waiting[parent]:
                pending.append(parent)
    # The rest stands in a circle, which only a forged lineage has: any order will do.
    rank = {digest: i for i, digest in enumerate([*ordered, *(by_digest.keys() - set(ordered))])}
    return [entry.name for entry in sorted(entries, key=lambda entry: rank[entry.digest])]
