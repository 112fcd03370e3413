"""Experts fused with densities of features: a generative and a discriminative answer, multiplied.

A digit's log density (:class:`~lora_mnist_cli.models.densities.FeatureStatistics`) is added to the logarithm of the
probability that its own expert gives it among the expert's digits: a product of experts (Hinton 2002, "Training
products of experts by minimizing contrastive divergence", Neural Computation 14). The densities can compare the digits
of different experts, and an expert knows the border between its own digits better. Nothing is trained for it, so an
expert can be added later without any image of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.models.densities import FeatureStatistics, log_sums
from lora_mnist_cli.models.features import features, filters
from lora_mnist_cli.models.router import Router

Fusing = Literal["fused", "densities"]
"""Two of :data:`lora_mnist_cli.settings.choices.ROUTES`."""

DENSITY_TEMPERATURE, EXPERT_TEMPERATURE = 16.0, 4.0
"""Divisors of the log densities, which are far too confident, and of the experts' log probabilities.

Their ratio was chosen from 1 to 48 by the accuracy, and then their size from 1 to 8 times that by the loss, on
validation images of two chains (docs/forgetting.md). They are the same for all stages."""

_UNKNOWN = 100.0
"""By how much the logarithm of a digit that an expert doesn't know is below those that it knows."""


class FusedModel(Router):
    """Experts ``fused`` with densities of their digits' features; or ``densities``, which does not ask the experts."""

    def __init__(
        self, experts: Sequence[nn.Module], statistics: Sequence[FeatureStatistics], routing: Fusing = "fused"
    ) -> None:
        super().__init__(experts, statistics, routing)
        self._sizes = [known.components.tolist() for known in statistics]
        self._priors = [known.counts.double().log().float() for known in statistics]
        self._digits = [known.digits for known in statistics]
        # The digits of an expert, and for each other one the place of what stands for all of these.
        self._places = [torch.full((CLASSES,), len(digits)).index_copy(0, digits, torch.arange(len(digits)))
                        for digits in self._digits]  # fmt: skip
        known = [set(digits.tolist()) for digits in self._digits]
        self._sharers = torch.tensor([sum(digit in one for one in known) or 1 for digit in range(CLASSES)]).log()
        filters(torch.float32)  # fills its cache now, and not during an export

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities of the digits (n × 10), and of the experts (n × experts)."""
        flat = images.flatten(1)
        points = features(flat)
        of_digits, of_experts = [], []
        for number, expert in enumerate(self.experts):
            scores = self._of_digits(number, points)
            if self.routing == "fused":
                logits = expert(flat)[:, self._digits[number]]
                scores = scores + logits.log_softmax(1) / EXPERT_TEMPERATURE
            of_experts.append(scores.logsumexp(1))
            unknown = scores.amax(1, keepdim=True) - _UNKNOWN
            of_digits.append(torch.cat([scores, unknown], dim=1)[:, self._places[number]])
        digits = torch.stack(of_digits, dim=1).logsumexp(1) - self._sharers
        return digits.log_softmax(1), (torch.stack(of_experts, dim=1) + self._shares).log_softmax(1)

    def _of_digits(self, number: int, points: Tensor) -> Tensor:
        """Return an expert's ``log p(features, digit)``, divided by its temperature: n × its digits."""
        densities = log_sums(self._densities[number](points), self._sizes[number]).T
        return (densities + self._priors[number]) / DENSITY_TEMPERATURE
