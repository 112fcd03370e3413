"""Compare two artifacts: settings, scores, and weights. No torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.registry.deltas import adapter_changes, load_matrices
from lora_mnist_cli.registry.weights import BASE_FILE

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lora_mnist_cli.registry.deltas import Matrices


def diff(catalog: Catalog, first: str, second: str) -> dict[str, Any]:
    """Return the differences between two artifacts.

    Returns:
        ``settings``: rows of ``setting``, ``a``, ``b`` where they differ; ``scores``: rows of ``digits`` with both
        accuracies and losses; ``weights``: rows of ``tensor`` with both Frobenius norms, that of the difference, and
        the cosine between them, where both are bases or both adapters of one base's shape, with None for a figure that
        is no finite number; and ``same_weights``, or None where they can't be compared. Of adapters the changes of
        weights (and biases) are compared, LoRA's products ``alpha · scale(rank) · B A``: factors of one product can
        differ in everything, and products of different ranks can still be compared, or with full fine-tuning.

    Raises:
        ArtifactError: where one is missing or damaged.
    """
    a, b = catalog.get(first), catalog.get(second)
    old, new = a.settings.flat() | {"note": a.note}, b.settings.flat() | {"note": b.note}
    settings = [
        {"setting": key, "a": old.get(key), "b": new.get(key)}
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    weights = _weights(catalog, a, b)
    # Tensors can be equal although their difference has no finite norm.
    equal = None if weights is None else [row.pop("equal") for row in weights]
    return {
        "a": a.name,
        "b": b.name,
        "same_content": a.digest == b.digest,
        "settings": settings,
        "scores": scores_side_by_side(a, b),
        "weights": weights,
        "same_weights": None if equal is None else all(equal),
    }


def scores_side_by_side(a: Artifact, b: Artifact) -> list[dict[str, Any]]:
    """Return a row per digit set that either was scored on: ``digits`` with both accuracies and losses."""
    ours = {row["digits"]: row for row in a.scores.get("subsets", [])}
    theirs = {row["digits"]: row for row in b.scores.get("subsets", [])}
    empty = {"accuracy": None, "loss": None}
    return [
        {
            "digits": digits,
            **{f"accuracy_{n}": of.get(digits, empty)["accuracy"] for n, of in (("a", ours), ("b", theirs))},
            **{f"loss_{n}": of.get(digits, empty)["loss"] for n, of in (("a", ours), ("b", theirs))},
        }
        for digits in dict.fromkeys([*ours, *theirs])
    ]


def _weights(catalog: Catalog, a: Artifact, b: Artifact) -> list[dict[str, Any]] | None:
    if a.kind != b.kind or a.kind not in ("base", "adapter") or any(x.details.get("failed") for x in (a, b)):
        return None
    import numpy as np

    ours, theirs = _matrices(catalog, a), _matrices(catalog, b)
    rows = []
    for key in dict.fromkeys([*ours, *theirs]):
        x, y = ours.get(key), theirs.get(key)
        if x is None or y is None or x.shape != y.shape:
            if a.kind == "base":
                return None
            # A layer that one of them does not adapt has a product of zero there.
            other = x if y is None else y
            if other is None or (x is not None and y is not None):
                return None
            zero = np.zeros_like(other)
            x, y = (zero if x is None else x), (zero if y is None else y)
        with np.errstate(all="ignore"):  # imported weights may be huge, infinite or NaN
            norm_a, norm_b, difference = _norm(x), _norm(y), _norm(x - y)
            cosine = float((x / norm_a * (y / norm_b)).sum()) if norm_a and norm_b else None
        rows.append(
            {
                "tensor": key,
                "norm_a": norm_a,
                "norm_b": norm_b,
                "difference": difference,
                "cosine": cosine,
                "equal": bool(np.array_equal(x, y, equal_nan=True)),
            }
        )
    return rows


def _norm(matrix: npt.NDArray[np.float64]) -> float | None:
    """Return the Frobenius norm, or None if it is not finite."""
    largest = float(abs(matrix).max(initial=0.0))
    if not math.isfinite(largest) or largest == 0:
        return None if largest else 0.0
    norm = largest * math.sqrt(float(((matrix / largest) ** 2).sum()))  # squares of large numbers are too large
    return norm if math.isfinite(norm) else None


def _matrices(catalog: Catalog, artifact: Artifact) -> Matrices:
    """Return the tensors of a base, or the changes by an adapter per layer, in double precision."""
    if artifact.kind == "base":
        return load_matrices(artifact, artifact, BASE_FILE)
    return adapter_changes(catalog, artifact)
