"""What the tests of stages share."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.stages import Workspace
from lora_mnist_cli.system.processes import Message


class SameProcessPool:
    """A pool whose one worker is this process: the messages are those of ``serve``, without the cost of a process."""

    def __init__(self, serve: Callable[[Any], None], tasks: Sequence[Any], *, tries: int) -> None:
        self._serve, self._tasks = serve, list(enumerate(tasks))
        self._number = 0
        self._sent: list[Message] = []

    def recv(self) -> Any:
        if not self._tasks:
            raise EOFError
        self._number, task = self._tasks.pop(0)
        return pickle.loads(pickle.dumps(task))

    def send(self, message: tuple[Any, ...]) -> None:
        kind, *payload = pickle.loads(pickle.dumps(message))
        self._sent.append(Message(self._number, os.getpid(), kind, tuple(payload)))

    def run(self, workers: int) -> Iterator[Message]:
        with contextlib.suppress(EOFError):
            self._serve(self)
        yield from self._sent


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace, where ``sweeper`` publishes."""
    return Workspace(tmp_path / "runs")


@pytest.fixture
def pool_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes do is done in this one, where a process is not what is tested."""
    monkeypatch.setattr("lora_mnist_cli.stages.banks.backends.Pool", SameProcessPool)
    monkeypatch.setattr("lora_mnist_cli.stages.papers.study.Pool", SameProcessPool)
