"""Several experts as one model, with no label of the task: which of them an image is for, its density decides.

An expert is a base or an adapter on it, with the statistics of the digits that it was trained on
(:mod:`lora_mnist_cli.models.densities`). All experts' densities are over the same pixels, so Bayes' rule gives the
probability that an image is one that an expert was trained on: experts for what they know, as in a mixture of experts
(Jacobs, Jordan, Nowlan and Hinton 1991), with a gate that is never trained, so that an expert can be added later
without an image of any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lora_mnist_cli.models.architecture import CLASSES
from lora_mnist_cli.models.densities import ClassStatistics, blur

By = Literal["mixture", "choose"]
"""One of :data:`lora_mnist_cli.settings.choices.ROUTES`."""

TEMPERATURE = 64.0
"""What log densities are divided by before they are weighed against each other.

The model takes 784 pixels for independent but for a few directions, and so is far too sure of itself. Chosen on
validation images of 0-4 and 5-9, of 1, 2, 4, …, 128, by the loss of the mixture; it moves no accuracy by more than
a few hundredths of a point."""


class RoutedModel(nn.Module):
    """Experts behind a router: normalised images (n × 784) → log probabilities (n × 10).

    Args:
        experts: images → logits (n × 10) each.
        statistics: of the digits that each was trained on, in the same order.
        by: one of :data:`lora_mnist_cli.settings.choices.ROUTES`.
    """

    def __init__(self, experts: Sequence[nn.Module], statistics: Sequence[ClassStatistics], by: By = "mixture") -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.by = by
        self._densities = [each.densities(torch.float32) for each in statistics]
        # A component's prior: any image that any expert was trained on is as likely as any other.
        self._priors = [each.counts.double().log().repeat_interleave(each.components).float() for each in statistics]
        self._shares = _shares([set(each.digits.tolist()) for each in statistics])
        blur(torch.zeros(1, self._densities[0].mean.shape[0]))  # what it needs is made now, not while it is exported

    def log_posterior(self, images: Tensor) -> Tensor:
        """``log p(expert | image)``, n × experts, from the statistics alone.

        Experts that know the same digits share what these would weigh with one expert for them.
        """
        blurred = blur(images)
        parts = zip(self._densities, self._priors, strict=True)
        marginal = [(densities(blurred) + prior).logsumexp(1) for densities, prior in parts]
        return (torch.stack(marginal, dim=1) / TEMPERATURE + self._shares).log_softmax(1)

    def likeliest(self, posterior: Tensor) -> Tensor:
        """Which expert fits each image best, n; of those that fit it alike, the first."""
        return (posterior - self._shares).argmax(1)

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log probabilities of the digits (n × 10), and of the experts (n × experts)."""
        flat = images.flatten(1)
        posterior = self.log_posterior(flat)
        each = torch.stack([expert(flat).log_softmax(1) for expert in self.experts], dim=1)
        if self.by == "choose":
            chosen = self.likeliest(posterior)[:, None, None].expand(-1, 1, each.shape[2])
            return each.gather(1, chosen).squeeze(1), posterior
        return (posterior[:, :, None] + each).logsumexp(1), posterior

    def forward(self, images: Tensor) -> Tensor:
        """Log probabilities of the digits."""
        return self.answers(images)[0]


def _shares(known: Sequence[set[int]]) -> Tensor:
    """The logarithm of each expert's share in its digits, where one that others know too is shared between them."""
    of_digit = [sum(digit in each for each in known) for digit in range(CLASSES)]
    shares = [sum(1 / of_digit[digit] for digit in each) / len(each) for each in known]
    return torch.tensor(shares, dtype=torch.float64).log().float()
