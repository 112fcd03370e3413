"""The same adapters from a Ray cluster of two nodes, one of which is killed meanwhile. Needs the extra ``ray``."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import sweep
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.progress import Forwarding

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]

RANKS, SEEDS = (120, 130), range(4)
CONFIG = AdapterConfig(epochs=2, batch_size=16)
WAIT = 120


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


class AtFirstBank(Forwarding):
    """A reporter that does something when the first bank is done."""

    def __init__(self, recorder: Any, do: Callable[[], None]) -> None:
        super().__init__(recorder)
        self._do = do

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        super().advance(steps, epoch, loss)
        self._do()
        self._do = lambda: None


def test_a_node_that_dies_costs_its_bank_only(small, tmp_path, recorder, cluster, monkeypatch, capsys):
    monkeypatch.setattr("lora_mnist_cli.stages.banks.cut.WORTH_A_PROCESS", 1)
    other = dataclasses.replace(small, runs_dir=Path(shutil.copytree(small.runs_dir, tmp_path / "other")))
    here = sweep(RANKS, seeds=SEEDS, config=CONFIG, workspace=other, name="wide")
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]

    def kill_one() -> None:
        """Kill a node that has work."""
        from ray._private.state import available_resources_per_node

        deadline = time.monotonic() + WAIT
        while True:
            free = available_resources_per_node()
            busy = [node for node in nodes if not free.get(node.node_id, {"CPU": 1}).get("CPU")]
            if busy:
                cluster.remove_node(busy[0], allow_graceful=False)
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)

    runtime = Runtime(backend="ray", address=cluster.address, accelerator="cpu")
    apart = dataclasses.replace(small, runtime=runtime, reporter=AtFirstBank(recorder, kill_one))
    there = sweep(RANKS, seeds=SEEDS, config=CONFIG, workspace=apart, name="wide")
    assert capsys.readouterr().out == ""  # what Ray has to say of it is no result
    assert "dead" in "".join(recorder.all("detail"))
    assert (there.digest, there.details) == (here.digest, here.details)
    for row in there.details["results"]:
        one, two = small.registry.get(row["artifact"]), other.registry.get(row["artifact"])
        assert one.read("adapter_model.safetensors") == two.read("adapter_model.safetensors")
        assert (one.scores, one.files, one.environment) == (two.scores, two.files, two.environment)
    assert recorder.all("begin") == [("8 adapters on 5-9", 2, 52)]
    assert sum(steps for steps, _, _ in recorder.all("advance")) == 104
    assert not (small.runs_dir / ".staging").exists()
    assert not ray.is_initialized()


def test_an_address_without_a_cluster_is_refused(small):
    runtime = Runtime(backend="ray", address="127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        sweep([1], config=CONFIG, workspace=dataclasses.replace(small, runtime=runtime), name="wide")
    assert not (small.runs_dir / ".staging").exists()


def test_a_sweep_on_ray_that_is_told_to_end_says_so(small, small_data, tmp_path):
    log = tmp_path / "stderr.txt"
    places = ["--runs-dir", str(small.runs_dir), "--data-dir", str(small_data)]
    command = [sys.executable, "-m", "lora_mnist_cli", "sweep", "--name", "wide", "--epochs", "4000", "--verbose"]
    before = sorted(path.name for path in small.runs_dir.iterdir())
    with log.open("w") as stderr:
        process = subprocess.Popen([*command, "--ranks", "3,4", "--backend", "ray", *places], stderr=stderr)
    try:
        deadline = time.monotonic() + WAIT
        while "Ray has" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 143
    finally:
        process.kill()
    assert "nothing half done is left" in log.read_text()
    assert sorted(path.name for path in small.runs_dir.iterdir()) == before
