"""What the tests hear of a stage's progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lora_mnist_cli.system.progress import Reporter, Silent, Work
from lora_mnist_cli.system.work import WorkLeft


class Recorder(Silent):
    """A reporter that writes down what it hears, as ``(what, …)``.

    A call that a reporter does not have, or with other arguments than it has, fails.
    """

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        for name, method in vars(Reporter).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                setattr(self, name, self._recording(name, inspect.signature(method)))

    def _recording(self, name: str, signature: inspect.Signature) -> Callable[..., None]:
        def record(*arguments: Any, **named: Any) -> None:
            _, *heard = signature.bind(self, *arguments, **named).arguments.values()
            self.events.append((name, *heard))

        return record

    def all(self, name: str) -> list[Any]:
        """What followed each event of that name; alone where it was one value."""
        assert hasattr(Reporter, name), name
        heard = [event[1:] for event in self.events if event[0] == name]
        return [values[0] if len(values) == 1 else values for values in heard]


class Planned(WorkLeft):
    """Notes the pieces, and how much work was left when each began."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self.most = 0.0
        self.unplanned: list[str] = []

    def plan(self, work: Work) -> None:
        super().plan(work)
        self.most = max(self.most, self.rest())

    def phase(self, name: str, seconds: float, part: str = "", steps: int = 0) -> None:
        super().phase(name, seconds, part, steps)
        self.pieces.append(f"{name} {part}".strip())
        if self.most and self._work[name] < seconds - 1e-9:
            self.unplanned.append(self.pieces[-1])

    def rest(self) -> float:
        return sum(self.left().values())
