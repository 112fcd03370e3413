"""Waiting for another process: bounded, told, and never for one that is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.system import locks
from lora_mnist_cli.system.errors import MachineError
from lora_mnist_cli.system.locks import DEFAULT_WAIT, HOST, LOCK, WAIT_VARIABLE, exclusive, read_owner, wait_seconds
from lora_mnist_cli.system.platforms import here

HOLDER = """
    import sys, time
    from pathlib import Path
    from lora_mnist_cli.system.locks import exclusive
    with exclusive(Path(sys.argv[1]), "publishing something", print):
        print("held", flush=True)
        time.sleep(3600)
"""


def nobody(text: str) -> None:
    raise AssertionError(text)


@pytest.fixture
def holder(example: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(example)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_waiting_is_bounded_and_names_who_is_waited_for(example, holder, run, monkeypatch):
    monkeypatch.setenv(WAIT_VARIABLE, "1.2")
    began = time.monotonic()
    outcome = run("runs", "tag", "base-0-4", "best")
    assert time.monotonic() - began >= 1.2
    assert (outcome.code, outcome.out) == (5, "")
    who = f"process {holder.pid} on {HOST} (publishing something), which is changing runs"
    notice, error = outcome.err.splitlines()
    assert notice == f"waiting for {who}"
    assert re.sub(r"waited \d+ s", "waited", error) == (
        f"error: waited for {who} ({WAIT_VARIABLE} says how many seconds to wait)"
    )
    assert not (example / ".tags").exists()


def test_waiting_ends_when_the_time_is_up(tmp_path, monkeypatch):
    """By a clock of its own, which only the waiting moves on: a busy machine changes nothing."""
    now, said = [0.0], list[str]()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] < 60, "it waits for ever"

    monkeypatch.setenv(WAIT_VARIABLE, "1.2")
    with exclusive(tmp_path, "testing", nobody):
        monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
        with pytest.raises(MachineError, match="waited 1 s"), exclusive(tmp_path, "again", said.append):
            pass
    assert 1.2 <= now[0] < 1.4
    assert len(said) == 1


def test_whoever_only_reads_does_not_wait(example, holder, run, monkeypatch):
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    for call in (["list"], ["show", "base-0-4"], ["verify"], ["latest"], ["clean", "--dry-run"], ["path", "base-0-4"]):
        assert run("runs", *call).code == 0
    assert run("runs", "remove", "sweep-5-9").code == 5


def test_the_lock_of_a_killed_process_is_free(example, holder, run, monkeypatch):
    monkeypatch.setenv(WAIT_VARIABLE, "0")
    holder.kill()
    holder.wait()
    assert (example / LOCK).exists()
    assert run("runs", "tag", "base-0-4", "best").code == 0
    assert not (example / LOCK).exists()


def test_who_waits_goes_on_once_the_lock_is_free(example, holder, run, monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.system.locks._SAY_AFTER", DEFAULT_WAIT)  # however long a busy machine takes
    began = time.monotonic()
    timer = threading.Timer(0.4, holder.kill)
    timer.start()
    outcome = run("runs", "tag", "base-0-4", "best")
    assert time.monotonic() - began >= 0.4
    assert (outcome.code, outcome.err) == (0, "")
    timer.join()


def test_one_is_inside_at_a_time_and_the_file_is_gone_afterwards(tmp_path):
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(20):
            with exclusive(tmp_path, "testing", lambda _: None):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(here.GRACE > 0, reason="nobody can take an open file away on Windows")
def test_a_file_that_its_last_holder_took_away_is_no_lock(tmp_path, monkeypatch):
    """Between opening the file and locking it, the holder lets go and another begins with a new file."""
    real, calls, path = here.try_lock, [0], tmp_path / LOCK

    def try_lock(handle: int) -> bool:
        calls[0] += 1
        if calls[0] == 1:
            path.unlink()
            path.touch()
        return real(handle)

    monkeypatch.setattr(here, "try_lock", try_lock)
    with exclusive(tmp_path, "testing", nobody):
        assert calls == [2]
        assert read_owner(path)["pid"] == os.getpid()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_happens_inside_the_lock_is_let_go(tmp_path, error):
    def work() -> None:
        with exclusive(tmp_path, "testing", nobody):
            found = read_owner(tmp_path / LOCK)
            assert (found["pid"], found["host"], found["doing"]) == (os.getpid(), HOST, "testing")
            raise error

    with pytest.raises(error):
        work()
    with exclusive(tmp_path, "again", nobody):
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_lock_is_left_by_any_change(example, run):
    calls = (["tag", "base-0-4", "x"], ["untag", "x"], ["clean"], ["export", "sweep-5-9", "a.zip"], ["import", "a.zip"],
             ["remove", "sweep-5-9"], ["import", "a.zip"])  # fmt: skip
    for call in calls:
        assert run("runs", *call).code == 0
        assert sorted(path.name for path in example.iterdir() if path.name.startswith(".")) in ([], [".tags"])


def test_a_symbolic_link_in_the_locks_place_is_not_written_through(example, run, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (example / LOCK).symlink_to(victim)
    outcome = run("runs", "tag", "base-0-4", "x")
    assert outcome.code == 5
    assert victim.read_text() == "precious"
    (example / LOCK).unlink()
    (example / LOCK).mkdir()
    outcome = run("runs", "tag", "base-0-4", "x")
    assert (outcome.code, len(outcome.err.splitlines())) == (5, 1)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"[" * 100_000, b"\xff"])
def test_an_owner_that_can_not_be_read_is_nobody(tmp_path, content):
    (tmp_path / LOCK).write_bytes(content)
    assert read_owner(tmp_path / LOCK) == {}
    assert read_owner(tmp_path / "missing") == {}


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "-inf"])
def test_a_wait_that_makes_no_sense_is_the_default(monkeypatch, text):
    monkeypatch.setenv(WAIT_VARIABLE, text)
    assert wait_seconds() == DEFAULT_WAIT
    monkeypatch.setenv(WAIT_VARIABLE, "0.5")
    assert wait_seconds() == 0.5


STAGER = """
    import sys, time
    from pathlib import Path
    from lora_mnist_cli.registry.registry import Registry
    registry = Registry(Path(sys.argv[1]))
    with registry.staging("child", registry.get("lora-5-9-r1").parents):
        print("staged", flush=True)
        time.sleep(3600)
"""


@pytest.fixture
def stager(example: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is making something from the base, of which nothing else is made any more."""
    registry = Registry(example)
    command = [sys.executable, "-c", textwrap.dedent(STAGER), str(example)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        registry.remove("sweep-5-9")
        registry.remove("lora-5-9-r1")
        yield process
        process.kill()


def test_a_parent_is_not_removed_while_a_child_is_being_made(example, stager, run, publish):
    for call in (["runs", "remove", "base-0-4"], ["runs", "remove", "base-0-4", "--cascade", "--yes"]):
        outcome = run(*call)
        assert outcome.code == 3
        assert f"process {stager.pid} on {HOST} is making 'child' from it" in outcome.err
    outcome = run("train-base", "--epochs", "0", "--force")
    assert outcome.code == 3
    assert "can't be replaced" in outcome.err
    assert Registry(example).has("base-0-4")
    # Once that process is gone, nothing is in the way.
    stager.kill()
    stager.wait()
    assert run("runs", "remove", "base-0-4").code == 0
