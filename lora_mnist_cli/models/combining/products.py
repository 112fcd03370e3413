"""Products ``B A`` of two thin matrices, in double precision: stacked, truncated to a rank, with the residual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Changes = Mapping[str, Matrix]
"""Layer → ΔW (out × in)."""


@dataclass(frozen=True)
class Product:
    """``B A``.

    Args:
        B: out × rank.
        A: rank × in.
    """

    B: Matrix
    A: Matrix

    @property
    def rank(self) -> int:
        """The number of columns of B; the rank of the matrix may be lower."""
        return len(self.A)

    def matrix(self) -> Matrix:
        """Compute the matrix (out × in)."""
        return self.B @ self.A

    def padded(self, rank: int) -> Product:
        """Return the same matrix as factors of a higher rank, padded with zeros."""
        more = rank - self.rank
        return Product(np.pad(self.B, ((0, 0), (0, more))), np.pad(self.A, ((0, more), (0, 0))))

    def stored(self) -> Product:
        """Round the factors to float32, as in a file."""
        return Product(self.B.astype(np.float32).astype(np.float64), self.A.astype(np.float32).astype(np.float64))


def side_by_side(products: Sequence[Product], weights: Sequence[float]) -> Product:
    """Return ``Σ w B A`` as one product, with the sum of the ranks."""
    B = np.concatenate([weight * product.B for weight, product in zip(weights, products, strict=True)], axis=1)
    return Product(B, np.concatenate([product.A for product in products]))


def truncated(matrix: Matrix, rank: int) -> Product:
    """Return the nearest product of a rank in the Frobenius norm, ``U √S`` times ``√S Vᵀ``, padded with zeros."""
    U, S, V = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(S[:rank])
    kept = Product(U[:, :rank] * roots, roots[:, None] * V[:rank])
    return kept.padded(rank)


def relative_residual(wanted: Matrix, held: Matrix) -> float:
    """Return ``‖wanted − held‖ / ‖wanted‖`` in the Frobenius norm; 0 where both are zero."""
    norm, difference = float(np.linalg.norm(wanted)), float(np.linalg.norm(wanted - held))
    return difference / norm if norm else difference


def residuals(wanted: Changes, held: Mapping[str, Product]) -> dict[str, Any]:
    """Return the ``residual`` of products over all layers; for each of ``layers`` the ``norm`` wanted and its own."""
    layers = {
        layer: {"norm": float(np.linalg.norm(change)), "residual": relative_residual(change, held[layer].matrix())}
        for layer, change in wanted.items()
    }
    norm = math.hypot(*(of["norm"] for of in layers.values()))
    lost = math.hypot(*(of["norm"] * of["residual"] for of in layers.values()))
    return {"residual": lost / norm if norm else 0.0, "layers": layers}
