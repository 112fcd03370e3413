"""Published results on chains of tasks, class-incremental: over all ten logits, without a label of the task.

Accuracies are fractions of the 10,000 test images of MNIST after the last task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lora_mnist_cli.settings.digits import DigitSet

TWO_TASKS = (DigitSet(range(5)), DigitSet(range(5, 10)))
FIVE_TASKS = tuple(DigitSet((digit, digit + 1)) for digit in range(0, 10, 2))
"""Split-MNIST, the usual chain of the literature."""


@dataclass(frozen=True)
class LiteratureResult:
    """A published result of a method.

    ``setup`` gives the differences from this project's chains: hidden units, and the data kept of earlier tasks.
    """

    what: str
    accuracy: float
    setup: str
    source: str


_VAN_DE_VEN = "van de Ven and Tolias 2019, arXiv:1904.07734"
_FOUR_HUNDRED = "400-400"
_ZENG = "Zeng et al. 2019, arXiv:1810.01256"
_GENERATIVE = "van de Ven et al. 2021, arXiv:2104.10093"
_FIGURES: dict[Sequence[DigitSet], tuple[LiteratureResult, ...]] = {
    TWO_TASKS: (
        LiteratureResult("CAB", 0.9484, "conceptors", "He and Jaeger 2018, ICLR"),
        LiteratureResult("OWM", 0.9635, "800, projectors", _ZENG),
        LiteratureResult("OWM", 0.9668, "800-800, projectors", _ZENG),
    ),
    FIVE_TASKS: (
        LiteratureResult("EWC", 0.200, _FOUR_HUNDRED, _VAN_DE_VEN),
        LiteratureResult("LwF", 0.239, _FOUR_HUNDRED, _VAN_DE_VEN),
        LiteratureResult("DGR", 0.908, f"{_FOUR_HUNDRED}, generator", _VAN_DE_VEN),
        LiteratureResult("DGR, distilled", 0.918, f"{_FOUR_HUNDRED}, generator", _VAN_DE_VEN),
        LiteratureResult("SI", 0.1995, _FOUR_HUNDRED, _GENERATIVE),
        LiteratureResult("SLDA", 0.8730, "pixels, covariance", _GENERATIVE),
        LiteratureResult("VAE-GC", 0.9379, "generator per digit", _GENERATIVE),
        LiteratureResult("CN-DPM", 0.932, "experts, 500 images", "Lee et al. 2020, arXiv:2001.00689"),
        LiteratureResult("HNET+R", 0.953, f"{_FOUR_HUNDRED}, generator", "von Oswald et al. 2020, arXiv:1906.00695"),
    ),
}


def literature_results(tasks: Sequence[DigitSet], dataset: str = "mnist") -> list[dict[str, object]]:
    """Return the published results on a chain of tasks, as plain rows; an empty list for other chains."""
    return [asdict(result) for result in _FIGURES.get(tuple(tasks), ())] if dataset == "mnist" else []
