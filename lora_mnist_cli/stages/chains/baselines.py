"""Baselines of the literature, which show what a figure of a strategy is worth. They run when they are asked for.

Their settings are chosen on validation images, those in closed form on images of all digits at once: that is more than
a strategy may see, and to the baselines' advantage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.stages.chains.holding import PENALTY_FILE, held_states, si_works
from lora_mnist_cli.stages.chains.strategy import Strategy
from lora_mnist_cli.stages.chains.succession import Succession, Turn
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import STATISTICS

if TYPE_CHECKING:
    from torch import Tensor

SUMS_FILE = "sums.safetensors"


def nearest_mean(chain_run: ChainRun) -> list[State]:
    """Answer with the digit whose mean image is nearest (Mensink et al. 2013, IEEE TPAMI 35; Rebuffi et al. 2017,
    arXiv:1611.07725).
    """
    return _closed_form(chain_run, "nearest_mean", "nearest_mean")


def slda(chain_run: ChainRun) -> list[State]:
    """Streaming linear discriminant analysis of pixels: a Gaussian per digit with one covariance (Hayes and Kanan 2020,
    arXiv:1909.01520).
    """
    return _closed_form(chain_run, "slda", "streaming_lda")


def slda_edges(chain_run: ChainRun) -> list[State]:
    """Streaming linear discriminant analysis of the features that the densities are over (Hayes and Kanan 2020,
    arXiv:1909.01520): what these features alone are worth.
    """
    return _closed_form(chain_run, "slda_edges", "streaming_lda", of_features=True)


def ridge_2000(chain_run: ChainRun) -> list[State]:
    """Ridge regression on 2,000 random Fourier features of pixels, from sums over a stream (Rahimi and Recht 2007,
    NeurIPS 20; as RanDumb, Prabhu et al. 2024, arXiv:2402.08823, with 25,000).
    """
    return _closed_form(chain_run, "ridge_2000", "random_features", width=2000)


def ridge_5000(chain_run: ChainRun) -> list[State]:
    """The same with 5,000 features (Prabhu et al. 2024, arXiv:2402.08823)."""
    return _closed_form(chain_run, "ridge_5000", "random_features", width=5000)


def ridge_edges(chain_run: ChainRun) -> list[State]:
    """The same with 2,000 random features of the features that the densities are over (Prabhu et al. 2024,
    arXiv:2402.08823).
    """
    return _closed_form(chain_run, "ridge_edges", "random_features", width=2000, of_features=True)


def si(chain_run: ChainRun) -> list[State]:
    """Train the whole network by synaptic intelligence: the more a weight's way took off the loss of earlier tasks, the
    stronger it is held (Zenke, Poole and Ganguli 2017, arXiv:1703.04200).
    """
    return held_states(chain_run, "si")


def lwf(chain_run: ChainRun) -> list[State]:
    """Learn each task's adapter by learning without forgetting: on its images the answers of the network before are
    kept among the old digits (Li and Hoiem 2016, arXiv:1606.09282).
    """
    return chain_run.one_after_the_other("lwf", _distilled(chain_run))


def _distilled(chain_run: ChainRun) -> AdapterConfig:
    return dataclasses.replace(chain_run.adapter, protect=("distill",))


def _closed_form(chain_run: ChainRun, label: str, module: str, **settings: int) -> list[State]:
    """Learn each task by a classifier of :mod:`lora_mnist_cli.models.closed_form`, without a network."""

    def learn(chain_run: ChainRun, turn: Turn) -> Callable[[Tensor], Tensor]:
        from lora_mnist_cli.data.streams import generator
        from lora_mnist_cli.models.closed_form import closed_form_named
        from lora_mnist_cli.registry.checkpoint import load_tensors, save_tensors

        draws = {"generator": generator(chain_run.base.seed_of("init"), "init")} if "width" in settings else {}
        made = closed_form_named(module, **settings, **draws)
        turn.reporter.phase(STATISTICS, turn.work[STATISTICS])
        kept = {} if turn.first else load_tensors(turn.before, SUMS_FILE, made.shapes)
        kept = made.with_task(kept, *turn.data[turn.rows])
        save_tensors(kept, turn.folder / SUMS_FILE)
        return partial(made.answer, kept)

    works = partial(_closed_form_works, width=settings.get("width", 0))
    return Succession(label, BASELINES[label].title, dict(settings), works, learn).states(chain_run)


def _closed_form_works(chain_run: ChainRun, width: int = 0) -> list[Work]:
    """Return the work of each task."""
    return [costs.of_closed_form(chain_run.base, task, width) for task in chain_run.tasks]


def _baseline(title: str, about: str, states: Callable[[ChainRun], list[State]], width: int = 0) -> Strategy:
    works = partial(_closed_form_works, width=width)
    return Strategy(title, about, states, works=works, keeps=(SUMS_FILE,))


BASELINES = {
    "nearest_mean": _baseline("Nearest mean", "the digit with the nearest mean image", nearest_mean),
    "slda": _baseline("Streaming LDA", "a Gaussian per digit, one covariance", slda),
    "slda_edges": _baseline("Streaming LDA, edges", "the same, of the densities' features", slda_edges),
    "ridge_2000": _baseline("Ridge, 2,000", "ridge regression on random features of pixels", ridge_2000, 2000),
    "ridge_5000": _baseline("Ridge, 5,000", "the same with 5,000", ridge_5000, 5000),
    "ridge_edges": _baseline(
        "Ridge, edges", "2,000 random features of the densities' features", ridge_edges, 2000
    ),
    "si": Strategy(
        "SI", "the whole network, weights held by what their way was worth", si, works=si_works, keeps=(PENALTY_FILE,)
    ),
    "lwf": Strategy(
        "LwF", "plain LoRA that keeps old answers on new images", lwf,
        works=lambda chain_run: chain_run.later_works(_distilled(chain_run)),
    ),
}  # fmt: skip
"""Name → baseline, in the order of tables."""
