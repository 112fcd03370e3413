"""The digit whose mean image is nearest.

Mensink et al. 2013, "Distance-based image classification: generalizing to new classes at near-zero cost", IEEE TPAMI
35; in continual learning Rebuffi et al. 2017, arXiv:1611.07725.
"""

from __future__ import annotations

from torch import Tensor

from lora_mnist_cli.models.closed_form import ClosedForm, Kept, means_of


class NearestMean(ClosedForm):
    """The squared distance from each mean, ``‖x − μ‖²``, without ``‖x‖²``, which is the same for all digits."""

    def __init__(self) -> None:
        super().__init__(products=False)

    def solve(self, kept: Kept) -> tuple[Tensor, Tensor]:
        """Return the means and half their squared lengths."""
        means = means_of(kept)
        return means.T, -means.square().sum(1) / 2


IMPLEMENTATION = NearestMean
