"""Several experts as one model, without a label of the task: the density of an image decides which expert answers.

An expert is a base or an adapter on it, with the statistics of the digits that it was trained on
(:mod:`lora_mnist_cli.models.densities`). All densities are over the same pixels, so Bayes' rule gives the probability
that an image is of the kind that an expert was trained on. This is a mixture of experts (Jacobs, Jordan, Nowlan and
Hinton 1991) with a gate that is never trained: an expert can be added later without any image of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.models.blur import blur
from lora_mnist_cli.models.densities import ClassStatistics, Mixtures, log_sums

Routing = Literal["mixture", "choose"]
"""Two of :data:`lora_mnist_cli.settings.choices.ROUTES`; :mod:`~lora_mnist_cli.models.fused` has the others."""

TEMPERATURE = 64.0
"""Divisor of the log densities before they are compared.

The densities take 784 pixels to be independent except for a few directions, and are far too confident. It was chosen
from 1, 2, 4, …, 128 on validation images of 0-4 and 5-9, by the loss of the mixture; it changes no accuracy by more
than a few hundredths of a point."""


class Router(nn.Module):
    """Experts with densities of their digits: normalised images (n × 784) → log probabilities (n × 10).

    Args:
        experts: models of images that give logits (n × 10).
        statistics: statistics of each expert's digits, in the same order.
        routing: one of :data:`lora_mnist_cli.settings.choices.ROUTES`.
    """

    def __init__(self, experts: Sequence[nn.Module], statistics: Sequence[Mixtures], routing: str) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.routing = routing
        self._densities = [known.densities(torch.float32) for known in statistics]
        self._shares = shares([set(known.digits.tolist()) for known in statistics])

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities of the digits (n × 10), and of the experts (n × experts)."""
        raise NotImplementedError

    def likeliest(self, posterior: Tensor) -> Tensor:
        """Return the expert that fits each image best, n; of equal ones the first."""
        return (posterior - self._shares).argmax(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return log probabilities of the digits."""
        return self.answers(images)[0]


class RoutedModel(Router):
    """Experts of which the density of an image decides: a ``mixture``, or those that it would ``choose``."""

    def __init__(
        self, experts: Sequence[nn.Module], statistics: Sequence[ClassStatistics], routing: Routing = "mixture"
    ) -> None:
        super().__init__(experts, statistics, routing)
        # The prior of a component: all training images of all experts are equally likely.
        priors = [known.counts.double().log().repeat_interleave(known.components) for known in statistics]
        self._priors = [prior.float()[:, None] for prior in priors]
        blur(torch.zeros(1, self._densities[0].mean.shape[0]))  # fills its cache now, and not during an export

    def log_posterior(self, images: Tensor) -> Tensor:
        """Return ``log p(expert | image)``, n × experts, from the statistics alone.

        Experts with the same digits share the weight that one expert for them would have.
        """
        blurred = blur(images)
        parts = zip(self._densities, self._priors, strict=True)
        marginal = [log_sums(densities(blurred).add_(prior), [len(prior)]) for densities, prior in parts]
        return (torch.cat(marginal).T / TEMPERATURE + self._shares).log_softmax(1)

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities of the digits (n × 10), and of the experts (n × experts)."""
        flat = images.flatten(1)
        posterior = self.log_posterior(flat)
        of_experts = torch.stack([expert(flat).log_softmax(1) for expert in self.experts], dim=1)
        if self.routing == "choose":
            chosen = self.likeliest(posterior)[:, None, None].expand(-1, 1, of_experts.shape[2])
            return of_experts.gather(1, chosen).squeeze(1), posterior
        return (posterior[:, :, None] + of_experts).logsumexp(1), posterior


def shares(digit_sets: Sequence[set[int]]) -> Tensor:
    """Return the logarithm of each expert's share in its digits; experts of one digit share it equally."""
    experts_of = [sum(digit in digits for digits in digit_sets) for digit in range(CLASSES)]
    shares = [sum(1 / experts_of[digit] for digit in digits) / len(digits) for digits in digit_sets]
    return torch.tensor(shares, dtype=torch.float64).log().float()
