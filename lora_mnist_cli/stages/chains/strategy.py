"""A row of the table of strategies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lora_mnist_cli.stages.chains.chain_run import ChainRun, State
from lora_mnist_cli.system.progress import Work


@dataclass(frozen=True)
class Strategy:
    """A way to learn a chain of tasks.

    Args:
        title: its name in pictures.
        about: a few words for tables and help.
        states: learns a chain and returns its state after each task; a single one where the tasks are not learned in
            turn.
        works: returns about how much work each task is, after the first one; a single one for all at once.
        by: how its state answers, one of :data:`lora_mnist_cli.settings.choices.ROUTES`; None where that is one
            network. Strategies with this learn the same experts.
        keeps: files of its artifacts that a later task needs beside the network; None where it needs all images.
        begins_plain: whether its first adapter is the one that plain LoRA begins with.
        after_first: whether it begins with the network after the first task; otherwise all chains of a seed share its
            result.
    """

    title: str
    about: str
    states: Callable[[ChainRun], list[State]]
    works: Callable[[ChainRun], list[Work]] = ChainRun.later_works
    by: str | None = None
    keeps: tuple[str, ...] | None = ()
    begins_plain: bool = False
    after_first: bool = True
