"""Ctrl-C stops at once with 130 and leaves what was finished, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from patience import wait_until
from small_artifacts import TRAIN_BASE, names_in

START_LIMIT = 120
STOP_LIMIT = 10
"""Seconds from Ctrl-C to the prompt, nearly all of them the interpreter's own end; the training would take minutes."""

Started = tuple["subprocess.Popen[str]", Path]


def _crowd() -> float:
    """How many processes share a core; limits on the clock's time stretch with it."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _interrupt_at(line: str, started: Started, signal_: int = signal.SIGINT) -> tuple[int, str, str]:
    """Wait for a line on stderr, send a signal; returns the exit code, stdout and stderr."""
    process, log = started
    wait_until(
        lambda: line in log.read_text() or process.poll() is not None, START_LIMIT, lambda: f"no '{line}' in the log"
    )
    assert process.poll() is None, log.read_text()
    process.send_signal(signal_)
    wait_until(lambda: process.poll() is not None, STOP_LIMIT, lambda: "it goes on after the signal")
    out, _ = process.communicate()
    return process.returncode, out, log.read_text()


@pytest.mark.usefixtures("data")
def test_a_cancelled_job_leaves_nothing(start, tmp_path):
    started = start(*TRAIN_BASE, "--epochs", "50000", "--verbose")
    code, out, err = _interrupt_at("base-fashion-mnist-0-4: epoch 1/50000", started, signal.SIGTERM)
    assert (code, out) == (143, "")
    assert "Traceback" not in err
    assert "trained" not in err
    assert not (tmp_path / "runs").exists()


def test_an_interrupt_is_acknowledged(monkeypatch, run):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lora_mnist_cli.registry.registry.Registry.scan", interrupted)
    outcome = run("runs", "list")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "interrupted; nothing half done is left\n"


def test_an_interrupted_sweep_keeps_what_was_there_and_goes_on_from_there(start, runs, run):
    before = names_in(runs)
    # Their names say the seed, so nothing of this sweep is there yet but what comes first.
    options = ["--seed", "3", "--epochs", "1000", "--batch-size", "256"]
    assert run("finetune", "--rank", "1", *options).code == 0
    finished = (runs / "lora-fashion-mnist-5-9-r1-s3" / "artifact.json").read_bytes()
    sweep = ["sweep", "--ranks", "1,2,4", *options, "--name", "stopped"]
    code, out, err = _interrupt_at("2 adapters on 5-9: epoch 1/1000", start(*sweep, "--verbose"))
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert "lora-fashion-mnist-5-9-r1-s3 is up to date" in err
    assert names_in(runs) == sorted([*before, "lora-fashion-mnist-5-9-r1-s3"])

    again = run(*sweep, "--json")
    assert again.code == 0
    assert "trained 2 adapters on 5-9" in again.err
    names = [f"lora-fashion-mnist-5-9-r{rank}-s3" for rank in (1, 2, 4)]
    assert [row["artifact"] for row in again.json["results"]] == names
    assert (runs / "lora-fashion-mnist-5-9-r1-s3" / "artifact.json").read_bytes() == finished
    assert names_in(runs) == sorted([*before, *names, "stopped"])


def _in_processes(start: Callable[..., Started]) -> Started:
    options = ("--seeds", "3-4", "--epochs", "20000", "--batch-size", "256", "--name", "stopped")
    return start("sweep", "--ranks", "100,120", *options, "--backend", "processes", "--workers", "2", "--verbose")


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that has ended and that nobody has asked for its code is still listed.
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def _workers(log: str) -> list[int]:
    return [int(line.split()[1]) for line in log.splitlines() if line.startswith("process ")]


@pytest.mark.parametrize(("signal_", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_processes_of_a_sweep_end_with_it(start, runs, signal_, expected):
    before = names_in(runs)
    code, out, err = _interrupt_at("trains bank 2 of 2", _in_processes(start), signal_)
    assert (code, out) == (expected, "")
    assert "Traceback" not in err
    assert not any(line.startswith("trained") for line in err.splitlines())
    workers = _workers(err)
    assert len(workers) == 2
    assert all(map(_gone, workers))
    assert names_in(runs) == before


def test_the_processes_of_a_sweep_that_was_killed_end_by_themselves(start, runs):
    _interrupt_at("trains bank 2 of 2", started := _in_processes(start), signal.SIGKILL)
    workers = _workers(started[1].read_text())
    assert len(workers) == 2
    wait_until(lambda: all(map(_gone, workers)), START_LIMIT, lambda: "a process trains for nobody")
