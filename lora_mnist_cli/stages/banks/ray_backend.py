"""Banks as tasks of a Ray cluster. No torch here."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.banks.backend import TRIES, Answers, CombinedProgress, Lost, Task
from lora_mnist_cli.stages.banks.job import Answer, train_bank
from lora_mnist_cli.system.errors import UsageError


class RayBackend:
    """Trains banks as tasks of a Ray cluster, whose machines have lora-mnist installed and share no disk.

    Args:
        runtime: its ``address`` names the cluster; by default, the one that Ray finds, or one on this machine alone.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    def run(self, tasks: Sequence[Task], progress: CombinedProgress) -> Answers:
        """See :meth:`Backend.run`; a bank's progress is reported when the bank is done."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        # Ray prints its news of dead nodes to stdout, which is for results alone.
        with contextlib.redirect_stdout(_Lines(progress.reporter.detail)), _connected(self.runtime.address):
            progress.loaded()  # nothing is heard of a bank before it is done
            progress.reporter.detail(f"Ray has {ray.cluster_resources().get('CPU', 0):g} cores")
            # Only a task whose process or node died is tried again: an error of the bank itself would come again.
            train = ray.remote(train_bank).options(
                num_cpus=self.runtime.threads, num_gpus=1 if self.runtime.accelerator == "gpu" else 0,
                max_retries=TRIES - 1, retry_exceptions=False,
            )  # fmt: skip
            shared = {id(images): ray.put(images) for _, images in tasks}
            pending = {train.remote(job, shared[id(images)]): number for number, (job, images) in enumerate(tasks)}
            try:
                while pending:
                    (first, *_), _ = ray.wait(list(pending))
                    number = pending.pop(first)
                    try:
                        answer: Answer | Lost = ray.get(first)
                    except RayTaskError as error:
                        raise error.cause from None
                    except RayError as error:
                        answer = Lost(f"{type(error).__name__}: {str(error).splitlines()[0]}")
                    else:
                        progress.done(number)
                    yield number, answer
            finally:
                for reference in pending:
                    ray.cancel(reference, force=True)


class _Lines(io.TextIOBase):
    """A stream that passes each line written to it on to a function."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                self._say(line)
        return len(text)


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Hold a connection to a cluster; use one that is open already, and leave it open."""
    # Ray sends usage statistics by default; the user has not agreed to that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    _refuse_unreachable(address)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stops: list[SystemExit] = []

    def stop(number: int, frame: Any) -> None:
        """Call the handler from before; keep its exit, because Ray would replace it by another one."""
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        try:
            handler(number, frame)
        except SystemExit as error:
            stops.append(error)
            raise

    try:
        ray.init(
            address=address, include_dashboard=None if address else False, log_to_driver=False, logging_level="ERROR"
        )
    except (ConnectionError, ValueError) as error:
        raise _no_cluster(address, error) from error
    try:
        # Ray takes the signals for itself; the caller needs its own handlers, to learn what ended the work.
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number, handler in handlers.items():
                signal.signal(number, stop if callable(handler) else handler)
        yield
    except SystemExit:
        if stops:
            raise stops[0] from None
        raise
    finally:
        ray.shutdown()
        with contextlib.suppress(ValueError):
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _refuse_unreachable(address: str | None) -> None:
    """Refuse ``HOST:PORT`` where nothing listens: Ray would retry for minutes."""
    host, colon, port = (address or "").rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> UsageError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UsageError(
        f"no Ray cluster at '{address or 'auto'}': {reason}", hint="ray start --head begins one", value=address
    )
