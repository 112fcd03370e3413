"""Disks that are full, broken, read-only or closed, and clocks that jump: one clear line, and everything as before."""

from __future__ import annotations

import datetime as clocks
import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from durability import apart, small
from durability.stories import STORIES, look, tree

from lora_mnist_cli.registry import creation as creation_module
from lora_mnist_cli.registry import registry as registry_module
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.system import files
from lora_mnist_cli.system.errors import MachineError

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="paths of open files come from /proc")
@pytest.mark.parametrize("stride", [pytest.param(3, id="a third"), pytest.param(1, id="all", marks=pytest.mark.slow)])
@pytest.mark.parametrize("story", STORIES)
def test_whatever_operation_fails_it_is_told_in_a_line_and_changes_nothing(quick, story, stride):
    """On a disk that is full from that operation on, and where that one operation fails."""
    full, broken = apart.call("failing", "every_error", folder=str(quick), story=story, stride=stride)
    assert full["unheeded"] <= 1
    assert min(full["reported"], broken["reported"]) >= (5 if stride == 1 else 1)


def test_a_disk_that_really_is_full_takes_all_of_it_or_nothing(mount):
    """With 0, 1, 2 … free pages: it is refused until there is room, and what is there is never touched."""
    root = mount("size=160k,nr_inodes=100")
    registry = Registry(root / "runs")
    small.base(registry)
    refused = 0
    for pages in range(40):
        filler = root / "filler"
        with filler.open("wb") as file:
            free = os.statvfs(root).f_bfree - pages
            if free < 0:
                raise AssertionError("it never became possible")
            file.write(bytes(free * 4096))
        before = tree(root)
        try:
            small.adapter(registry, "child", "base")
        except MachineError as error:
            refused += 1
            assert error.exit_code == 5  # noqa: PT017 - it is refused several times before it works
            assert "No space left on device" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            assert tree(root) == before
        else:
            break
        filler.unlink()
    assert 1 < refused < 10
    assert look(root).problems == []
    assert registry.names() == ["base", "child"]


def test_a_read_only_folder_can_be_read_listed_verified_and_exported_from(mount, small, run, tmp_path):
    root = mount("size=4m")
    shutil.copytree(small.runs_dir, root / "runs")
    where = ("--runs-dir", root / "runs")
    assert run("runs", "tag", "lora-fashion-mnist-5-9-r2-a0.5", "best", *where).code == 0
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    before = tree(root)
    commands = (
        ("runs", "list"), ("runs", "latest"), ("runs", "verify"), ("runs", "show", "@best"),
        ("runs", "lineage", "@best"), ("runs", "diff", "@best", "@best"), ("runs", "path", "@best"),
        ("runs", "clean", "--dry-run"), ("runs", "export", "@best", tmp_path / "best.zip"),
        ("evaluate", "@best", "--data-dir", small.data_dir),
    )  # fmt: skip
    for command in commands:
        outcome = run(*command, *where)
        assert outcome.code == 0, (command, outcome.err)
    assert run("runs", "import", tmp_path / "best.zip", "--runs-dir", tmp_path / "elsewhere").code == 0
    changes = (
        ("runs", "remove", "sweep-fashion-mnist-5-9-a0.5"), ("runs", "tag", "@best", "other"),
        ("runs", "untag", "best"),
        ("finetune", "--rank", "3", "--epochs", "1", "--data-dir", small.data_dir),
        ("runs", "export", "@best", root / "best.zip"),
    )  # fmt: skip
    for command in changes:
        outcome = run(*command, *where)
        assert outcome.code == 5, (command, outcome.err)
        assert "Read-only file system" in outcome.err.splitlines()[-1]
    assert tree(root) == before


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS])
def test_the_advice_names_the_option_that_the_path_came_by(error, small, run, monkeypatch):
    """And not that of the artifacts' folder, which has nothing to do with an exported file."""
    where = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    base, sweep = "base-fashion-mnist-0-4", "sweep-fashion-mnist-5-9-a0.5"
    calls: dict[tuple[object, ...], str] = {
        ("export", base, "--output", "out", *where): "--output",
        ("gate", sweep, "--require", "5-9=0", "--junit", "out", "--allow-inconclusive", *where): "--junit",
        ("conformance", "ours", "--junit", "out"): "--junit",
        ("runs", "export", base, "out", *where[:2]): "FILE",
        ("merge", *where): "--runs-dir",
    }

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(files, "_begin", fail)  # of files beside the registry
    monkeypatch.setattr(registry_module, "flush", fail)
    for call, place in calls.items():
        outcome = run(*call)
        assert (outcome.code, outcome.err.count("\n")) == (5, 1 + ("merge" in call)), outcome.err
        (advice,) = re.findall(r"\(([^()]*)\)$", outcome.err.strip())
        assert f"choose another {place}" in advice
        assert ("free some space" in advice) == (error == errno.ENOSPC)
        assert {"--output", "--junit", "--runs-dir", "FILE"} & set(re.split(r"[ ,]", advice)) == {place}


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_folder_without_permission_is_the_machines_fault(small, run, tmp_path):
    small.runs_dir.chmod(0o500)
    try:
        outcome = run("runs", "remove", "sweep-fashion-mnist-5-9-a0.5", "--runs-dir", small.runs_dir)
        assert outcome.code == 5
        assert "Permission denied" in outcome.err
        assert run("runs", "verify", "--runs-dir", small.runs_dir).code == 0
        small.runs_dir.chmod(0)
        assert run("runs", "list", "--runs-dir", small.runs_dir).code == 5
    finally:
        small.runs_dir.chmod(0o700)


def test_the_newest_is_the_last_that_was_published_whatever_the_clock_says(quick, monkeypatch):
    registry = Registry(quick / "runs")
    now = clocks.datetime(2030, 6, 1, tzinfo=clocks.UTC)

    class Clock(clocks.datetime):
        @classmethod
        def now(cls, tz: clocks.tzinfo | None = None) -> clocks.datetime:
            return now

    monkeypatch.setattr(creation_module, "datetime", Clock)
    created = []
    for i, jump in enumerate((0, -3600, -86_400 * 365 * 40, 0, -1)):
        now += clocks.timedelta(seconds=jump)
        created.append(small.report(registry, f"report-{9 - i}", i).created)
        assert registry.latest("report").name == f"report-{9 - i}"
        assert registry.scan()[0][-1].name == f"report-{9 - i}"
    assert created == sorted(set(created))
    assert created[0].startswith("2030-06-01T00:00:00.000000")
    assert created[-1] == "2030-06-01T00:00:00.000004+00:00"


def test_a_clock_that_jumps_back_keeps_no_one_waiting_longer(quick, monkeypatch):
    """Waiting is measured by a clock that no one can set."""
    import time

    registry = Registry(quick / "runs")
    small.report(registry, "one")
    monkeypatch.setenv("LORA_MNIST_LOCK_WAIT", "0.2")
    monkeypatch.setattr(time, "time", lambda: -1e9)
    with registry._lock("working"), pytest.raises(MachineError, match=r"waited \d+ s for process \d+ .*working"):
        registry.remove("one")
    registry.remove("one")
