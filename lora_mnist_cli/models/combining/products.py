"""Products ``B A`` of two thin matrices, in double precision: put side by side, cut to a rank, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]


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
        """How many columns B has; the matrix may have fewer dimensions."""
        return len(self.A)

    def matrix(self) -> Matrix:
        """out × in."""
        return self.B @ self.A

    def padded(self, rank: int) -> Product:
        """The same matrix from factors of a higher rank, by zeros."""
        more = rank - self.rank
        return Product(np.pad(self.B, ((0, 0), (0, more))), np.pad(self.A, ((0, more), (0, 0))))

    def stored(self) -> Product:
        """The product as it is once its factors were written as float32."""
        return Product(self.B.astype(np.float32).astype(np.float64), self.A.astype(np.float32).astype(np.float64))


def side_by_side(products: Sequence[Product], weights: Sequence[float]) -> Product:
    """``Σ w B A``, of the sum of the ranks."""
    B = np.concatenate([weight * product.B for weight, product in zip(weights, products, strict=True)], axis=1)
    return Product(B, np.concatenate([product.A for product in products]))


def truncated(matrix: Matrix, rank: int) -> Product:
    """The nearest product of a rank in the Frobenius norm, ``U √S`` times ``√S Vᵀ``; by zeros where the matrix has
    fewer dimensions.
    """
    U, S, V = np.linalg.svd(matrix, full_matrices=False)
    roots = np.sqrt(S[:rank])
    kept = Product(U[:, :rank] * roots, roots[:, None] * V[:rank])
    return kept.padded(rank)


def relative_residual(wanted: Matrix, held: Matrix) -> float:
    """``‖wanted − held‖ / ‖wanted‖`` in the Frobenius norm; 0 where nothing was wanted and nothing is held."""
    norm, difference = float(np.linalg.norm(wanted)), float(np.linalg.norm(wanted - held))
    return difference / norm if norm else difference
