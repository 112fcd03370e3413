"""What does not hold of a set of values, all of it at once: the checks that settings share."""

from __future__ import annotations

import math
from collections.abc import Callable

from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.errors import nearest


class Problems(list[str]):
    """Collects what does not hold, a sentence each."""

    def choice(self, name: str, value: object, known: tuple[str, ...]) -> None:
        """It is one of some words."""
        if value not in known:
            guess = nearest(str(value), known)
            self.append(f"{name} is one of {', '.join(known)}, not '{value}'" + (f", {guess}" if guess else ""))

    def whole(self, name: str, value: object, low: int, high: int | None = None) -> None:
        """It is a whole number in a range."""
        if not isinstance(value, int) or isinstance(value, bool):
            self.append(f"{name} is a whole number, not {value!r}")
        elif value < low:
            self.append(f"{name} is at least {low}, not {value}")
        elif high is not None and value > high:
            self.append(f"{name} is at most {high}, not {value}")

    def digits(self, value: object) -> None:
        """It is a digit set."""
        if not isinstance(value, DigitSet):
            self.append(f"digits are a digit set, not {value!r}")

    def real(self, name: str, value: object, holds: Callable[[float], bool], rule: str) -> None:
        """It is a finite number of which something holds, which ``rule`` has in words."""
        if not isinstance(value, float) or not math.isfinite(value) or not holds(value):
            self.append(f"{name} is {rule}, not {value}")
