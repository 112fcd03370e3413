"""What the tests hear of a stage's progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from lora_mnist_cli.system.progress import Reporter, Silent


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
