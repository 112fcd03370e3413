"""Strategies for learning tasks one after the other, each out of the stages that there are.

When a strategy learns a task it has the training images of that task, and the artifacts published for earlier tasks; it
has no image of an earlier task. A new strategy is a function and a row in :data:`USUAL`, or among the
:mod:`~.baselines`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from lora_mnist_cli.registry.file_names import ADAPTER_FILE, FEATURES_FILE, STATISTICS_FILE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.recipes import recipe
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.chains.baselines import BASELINES
from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.stages.chains.holding import PENALTY_FILE, ewc_works, held_states
from lora_mnist_cli.stages.chains.rehearsing import UPRIGHT_FILE, rehearsal_works, rehearsed
from lora_mnist_cli.stages.chains.strategy import Strategy
from lora_mnist_cli.stages.training_base import train_base
from lora_mnist_cli.system.progress import Work
from lora_mnist_cli.system.work import total


def plain(chain_run: ChainRun) -> list[State]:
    """Merge each task's LoRA adapter before the next task: sequential fine-tuning, the baseline that forgets (McCloskey
    and Cohen 1989, Psychology of Learning and Motivation 24; for the adapters Hu et al. 2021, arXiv:2106.09685).
    """
    return chain_run.one_after_the_other("plain")


def full(chain_run: ChainRun) -> list[State]:
    """Train the whole network on one task after the other: what continual learning calls "fine-tuning" or "none", as in
    van de Ven and Tolias 2019 (arXiv:1904.07734).
    """
    return chain_run.one_after_the_other("full", whole_network(chain_run))


def ewc(chain_run: ChainRun) -> list[State]:
    """Train the whole network by elastic weight consolidation: the more earlier tasks depend on a weight, the stronger
    it is held (Kirkpatrick et al. 2017, arXiv:1612.00796).
    """
    return held_states(chain_run, "ewc")


def protected(chain_run: ChainRun) -> list[State]:
    """Learn samples of old digits along with each task (Shin et al. 2017, arXiv:1705.08690), where the loss of an image
    sees the logits of its own task only (Caccia et al. 2022, arXiv:2104.05025). Each adapter is merged before the next,
    and so are the statistics from which old digits are sampled.
    """
    return chain_run.one_after_the_other("protected", protected_config(chain_run))


def routed(chain_run: ChainRun) -> list[State]:
    """Learn an adapter per task, all on the first task's base, and route by the digits' densities: experts with a gate
    that is never trained (Jacobs, Jordan, Nowlan and Hinton 1991, Neural Computation 3(1); a generative gate between
    experts of tasks as in Lee et al. 2020, CN-DPM, arXiv:2001.00689).
    """
    base = chain_run.first()
    experts = [base]
    states: list[State] = [(base,)]
    for number, (task, turn) in enumerate(chain_run.turns(chain_run.later_works())):
        experts.append(turn.learn("routed" if number else "plain", task, base))
        states.append(tuple(experts))
    return states


def densities(chain_run: ChainRun) -> list[State]:
    """Answer by the densities of the digits' features alone, and ask no network: a generative classifier, as those of
    van de Ven, Li and Tolias 2021 (arXiv:2104.10093), where each class has a variational autoencoder.
    """
    return routed(chain_run)


def fused(chain_run: ChainRun) -> list[State]:
    """Multiply the densities of the digits' features and the answers of :func:`routed`'s experts: a product of a
    generative and a discriminative answer (Hinton 2002, Neural Computation 14(8)).
    """
    return routed(chain_run)


def joint(chain_run: ChainRun) -> list[State]:
    """Learn all digits at once by the base's recipe, which no chain is expected to surpass with a single network (the
    "joint" or "offline" training of van de Ven and Tolias 2019, arXiv:1904.07734).
    """
    return [(train_base(_joint_config(chain_run), workspace=chain_run.workspace),)]


def _joint_config(chain_run: ChainRun) -> BaseConfig:
    return dataclasses.replace(chain_run.base, digits=chain_run.every)


def corda(chain_run: ChainRun) -> list[State]:
    """Start each task's LoRA adapter from what the weight does least on samples of old digits, by ``--init corda``
    (Yang et al. 2024, arXiv:2406.05223).
    """
    return chain_run.one_after_the_other("corda", _started(chain_run, "corda"))


def lora_null(chain_run: ChainRun) -> list[State]:
    """Start each task's LoRA adapter in the null space of samples of old digits, by ``--init lora-null`` (Tang et al.
    2025, arXiv:2503.02659).
    """
    return chain_run.one_after_the_other("lora_null", _started(chain_run, "lora-null"))


def lora_null_v2(chain_run: ChainRun) -> list[State]:
    """Keep A there and train B alone, by ``--init lora-null --train B`` (LoRA-Null-v2; Tang et al. 2025,
    arXiv:2503.02659).
    """
    return chain_run.one_after_the_other("lora_null_v2", _null_v2(chain_run))


def _started(chain_run: ChainRun, init: str) -> AdapterConfig:
    return dataclasses.replace(chain_run.adapter, init=init)


def _null_v2(chain_run: ChainRun) -> AdapterConfig:
    """Return how B alone is trained: at 25 times the rate, chosen on validation images of new digits
    (docs/forgetting.md).
    """
    return dataclasses.replace(_started(chain_run, "lora-null"), train="B", lr=25 * chain_run.adapter.lr)


USUAL = {
    "plain": Strategy("Plain LoRA", "LoRA on one task after the other", plain, begins_plain=True),
    "full": Strategy(
        "Full fine-tuning", "the whole network on one task after the other", full,
        works=lambda chain_run: chain_run.later_works(whole_network(chain_run)),
    ),
    "ewc": Strategy(
        "EWC", "the whole network, weights that mattered held in place", ewc, works=ewc_works, keeps=(PENALTY_FILE,)
    ),
    "protected": Strategy(
        "Protected", "one network, by --protect replay,mask in half the epochs", protected,
        works=lambda chain_run: chain_run.later_works(protected_config(chain_run)), keeps=(STATISTICS_FILE,),
    ),
    "densities": Strategy(
        "Densities alone", "a density of features per digit, and no network", densities, by="densities",
        keeps=(FEATURES_FILE,), begins_plain=True,
    ),
    "routed": Strategy(
        "Routed", "an adapter per task on the first task's base, and a router", routed, by="mixture",
        keeps=(STATISTICS_FILE, ADAPTER_FILE), begins_plain=True,
    ),
    "fused": Strategy(
        "Fused", "the densities, multiplied by the answers of the adapters", fused, by="fused",
        keeps=(FEATURES_FILE, ADAPTER_FILE), begins_plain=True,
    ),
    "joint": Strategy(
        "Joint training", "a network on all digits at once, the yardstick", joint,
        works=lambda chain_run: [costs.of_base(_joint_config(chain_run))], keeps=None, after_first=False,
    ),
}  # fmt: skip
"""Name → strategy, in the order of tables: those that are compared by default."""

FURTHER = {
    "rehearsed": Strategy(
        "Rehearsed", "one network, on samples of upright densities and each task's images", rehearsed,
        works=rehearsal_works, keeps=(UPRIGHT_FILE,),
    ),
    "corda": Strategy(
        "CorDA", "plain LoRA from what the weight does least on old samples", corda,
        works=lambda chain_run: chain_run.later_works(_started(chain_run, "corda")), keeps=(STATISTICS_FILE,),
    ),
    "lora_null": Strategy(
        "LoRA-Null", "plain LoRA from the null space of old samples", lora_null,
        works=lambda chain_run: chain_run.later_works(_started(chain_run, "lora-null")), keeps=(STATISTICS_FILE,),
    ),
    "lora_null_v2": Strategy(
        "LoRA-Null-v2", "the same, and A stays there", lora_null_v2,
        works=lambda chain_run: chain_run.later_works(_null_v2(chain_run)), keeps=(STATISTICS_FILE,),
    ),
}  # fmt: skip
"""Strategies that are compared where they are named."""

STRATEGIES = USUAL | FURTHER | BASELINES


def works_of(strategies: Sequence[str], chain_run: ChainRun) -> list[Work]:
    """Return about how much work each strategy is; what several of them share is that of the first one."""
    works: list[Work] = []
    begun = with_experts = False
    for strategy in (STRATEGIES[name] for name in strategies):
        pieces = strategy.works(chain_run)
        shared = len(pieces) if with_experts and strategy.by else int(begun and strategy.begins_plain)
        works.append(total(pieces[shared:]))
        begun, with_experts = begun or strategy.begins_plain, with_experts or strategy.by is not None
    return works


def whole_network(chain_run: ChainRun) -> AdapterConfig:
    """Return how the whole network is trained on a later task: by the reference recipe.

    The learning rates of the other recipes were found for adapters.
    """
    reference = recipe("reference").adapter
    return dataclasses.replace(
        reference, method="full", rank=0, seed=chain_run.adapter.seed, epochs=chain_run.adapter.epochs
    )


def protected_config(chain_run: ChainRun) -> AdapterConfig:
    """Return how an adapter learns a later task and the samples of earlier ones: in half the epochs.

    An epoch has at least three times as many rows. On validation images and samples half the epochs cost 0.04 points
    with two tasks, and 0.14 with five (docs/forgetting.md).
    """
    epochs = math.ceil(chain_run.adapter.epochs / 2)
    return dataclasses.replace(chain_run.adapter, protect=("replay", "mask"), epochs=epochs)
