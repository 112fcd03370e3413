"""Worker processes: none outlives its parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from patience import wait_until

LIMIT = 10
PARENT = """
import time

import occupied
from lora_mnist_cli.system.processes import Worker

worker = Worker(occupied.{occupation})
print(worker.connection.recv(), worker.pid, flush=True)
time.sleep(3600)
"""


@pytest.mark.parametrize("occupation", ["sleeping", "holding_the_interpreter", "computing_without_signals"])
def test_a_worker_ends_with_its_parent_whatever_it_is_doing(occupation):
    if occupation == "holding_the_interpreter" and sys.platform != "linux":
        pytest.skip("only Linux ends a process that runs no Python")
    places = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(occupation=occupation)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": places},
    )  # fmt: skip
    with parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        begun, pid = parent.stdout.readline().split()
        parent.kill()
        # The worker has the same stderr: that ends when both are gone.
        ended = [parent.stderr]
        try:
            wait_until(lambda: bool(select.select(ended, [], [], 0)[0]), LIMIT, lambda: "the worker goes on")
        except AssertionError:
            os.kill(int(pid), signal.SIGKILL)
            raise
        assert (begun, parent.stderr.read()) == (b"begun", b"")
