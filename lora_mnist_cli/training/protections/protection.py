"""What a protection has to say of itself. No torch: what needs it is handed tensors, or imports it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from lora_mnist_cli.training.objective import Lesson, Situation


@dataclass(frozen=True)
class Setting:
    """A number that a protection takes, a field of :class:`~lora_mnist_cli.settings.config.AdapterConfig`.

    Args:
        holds: whether a value is one that it can have.
        rule: the same in words, as ``at least 0``.
    """

    holds: Callable[[float], bool]
    rule: str


class Protection:
    """A way to keep what the base knows; each is one instance in ``PROTECTIONS``."""

    name: ClassVar[str]
    about: ClassVar[str]
    """A few words for tables and help."""
    settings: ClassVar[dict[str, Setting]] = {}
    """Fields of the config that mean something to it alone."""
    needs_statistics: ClassVar[bool] = False
    """Whether it asks for the class statistics of the base."""

    def apply(self, lesson: Lesson, situation: Situation) -> Lesson:
        """The lesson as it is with this protection.

        Args:
            situation: what is known at this stage.
        """
        raise NotImplementedError
