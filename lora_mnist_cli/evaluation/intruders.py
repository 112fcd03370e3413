"""Intruder dimensions: singular vectors of an adapted weight that the base's weight does not have.

Shuttleworth et al. 2024 (arXiv:2410.21228, algorithm 1): a leading left singular vector of ``W + ΔW`` is an intruder if
its cosine with each left singular vector of W is below a threshold. Scaling the intruders' part of the weight down
takes some of ΔW back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOP = 10
"""Leading singular vectors that are looked at; PEFT's default."""


@dataclass(frozen=True)
class Intruders:
    """The intruders of a layer.

    Args:
        cosines: of each leading singular vector of ``W + ΔW`` (at most :data:`TOP`): the largest one with those of W.
        indices: of the intruders among them, from 0.
        part: the intruders' part of ``W + ΔW`` (out × in).
    """

    cosines: list[float]
    indices: list[int]
    part: Tensor

    def scaled(self, adapted: Tensor, factor: float) -> Tensor:
        """Return ``W + ΔW`` (out × in) with its intruders' part times a factor; 1 leaves it as it is."""
        return adapted if factor == 1 or not self.indices else adapted + (factor - 1) * self.part.to(adapted)


@torch.no_grad()
def left_vectors(weight: Tensor) -> Tensor:
    """Return the left singular vectors of W (out × in): out × min(out, in), in double precision."""
    U: Tensor = torch.linalg.svd(weight.detach().double(), full_matrices=False)[0]
    return U


@torch.no_grad()
def find_intruders(U_base: Tensor, adapted: Tensor, *, top: int = TOP, threshold: float = 0.5) -> Intruders:
    """Return the intruders of an adapted weight.

    Args:
        U_base: :func:`left_vectors` of W.
        adapted: W + ΔW (out × in), finite.
        top: leading singular vectors that are looked at.
        threshold: the largest cosine of an intruder, not included.
    """
    U, S, V = torch.linalg.svd(adapted.double(), full_matrices=False)
    cosines = (U[:, :top].T @ U_base).abs().amax(1)
    indices = [number for number, cosine in enumerate(cosines.tolist()) if cosine < threshold]
    part = (U[:, indices] * S[indices]) @ V[indices]
    return Intruders(cosines.tolist(), indices, part.to(adapted))
