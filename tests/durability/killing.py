"""Kills whole sweeps, training included, at random instants; see ``apart.py``. This one loads torch."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from durability import stories

from lora_mnist_cli.registry.shared_statistics import STORE

HALTED = "halted"
ARGUMENTS = ("sweep", "--ranks", "1,2", "--epochs", "1")


def random_instants(folder: str, template: str, data: str, times: int, seed: int) -> dict[int, int]:
    """Kill a sweep at random instants, look at what is left, and run it again to its end.

    On a busy machine the instants may all fall on one side of a publication. Therefore two more sweeps stop by
    themselves, before and after they publish the first of their two adapters, and are killed there.

    Returns:
        Number of artifacts published → how many of the sweeps had published so many when they were killed.

    Raises:
        AssertionError: for the first kill after which anything promised doesn't hold.
    """
    place, draw = Path(folder), random.Random(seed)
    data_dir = Path(data)
    whole = place / "whole"
    shutil.copytree(template, whole / "runs")
    _load_everything(place, template, data_dir)
    seconds = _sweep(whole, data_dir)
    expected, published = _weights(whole), dict.fromkeys(range(4), 0)
    old = len(stories.runs(place / "warm").names())
    for i in range(times + 2):
        box = place / "box"
        shutil.copytree(template, box / "runs")
        before = stories.look(box).state["names"]
        if i < times:
            child = _start(box, data_dir)
            # A little longer than it takes, so that its last moments are hit as well.
            time.sleep(draw.uniform(0, 1.05 * seconds))
        else:
            child = _start(box, data_dir, halt="before" if i == times else "after")
            _wait_for_halt(box, child)
        listed = stories.runs(box).names()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        seen, where = stories.look(box), f"kill {i} of {times}"
        assert not seen.problems, f"{where}: {seen.problems}"
        assert set(listed) <= set(seen.state["names"]), f"{where}: {listed} were there, and now {seen.state['names']}"
        assert before.items() <= seen.state["names"].items(), where
        _is_part(_weights(box), expected, where)
        told = (box / "stderr").read_text().splitlines()
        assert not any("error" in line or "Traceback" in line for line in told), f"{where}: {told}"
        published[len(seen.state["names"]) - old] += 1
        _sweep(box, data_dir)
        assert _weights(box) == expected, where
        left = sorted(path.name for path in (box / "runs").iterdir())
        assert left == [STORE, *sorted(stories.runs(whole).names())], where
        # What was published before the kill was taken as it was.
        again = stories.look(box)
        assert not again.problems, f"{where}, then run again: {again.problems}"
        shutil.rmtree(box)
    return published


def _halt(box: Path, where: str) -> None:
    """Let this process stop for good before or after it first publishes."""
    from lora_mnist_cli.registry.registry import Registry

    publish = Registry.publish_all

    def halting(*arguments: Any, **options: Any) -> NoReturn:
        if where == "after":
            publish(*arguments, **options)
        (box / HALTED).touch()
        while True:
            signal.pause()

    Registry.publish_all = halting  # type: ignore[method-assign]


def _wait_for_halt(box: Path, child: int) -> None:
    while not (box / HALTED).exists():
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        assert ended is None, (box / "stderr").read_text()
        time.sleep(0.001)


def _load_everything(place: Path, template: str, data: Path) -> None:
    """Import whatever a sweep imports, without having run one here: threads don't survive a fork."""
    import torch

    import lora_mnist_cli.cli.commands.sweep
    import lora_mnist_cli.stages.records.loading
    import lora_mnist_cli.training.trainer  # noqa: F401 - most of the rest comes with these
    from lora_mnist_cli.stages.banks import cut

    # A bank each: then the adapters are published one after the other, and not all in the last moment.
    cut.MAX_MEMBERS = 1
    torch.set_num_threads(1)
    shutil.copytree(template, place / "warm" / "runs")
    listing = place / "modules"
    child = os.fork()
    if child == 0:
        code = _run(place / "warm", data)
        listing.write_text("\n".join(sys.modules))
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, (place / "warm" / "stderr").read_text()
    for name in listing.read_text().splitlines():
        if name not in sys.modules and name.split(".")[0] in ("torch", "pytorch_lightning", "lightning_fabric",
                                                              "lora_mnist_cli", "numpy", "rich", "typer"):  # fmt: skip
            try:
                __import__(name)
            except ImportError:
                continue  # it is no module of its own
    for name in list(stories.runs(place / "warm").names()):
        if not (Path(template) / name).exists() and stories.runs(place / "warm").has(name):
            stories.runs(place / "warm").remove(name, cascade=True)


def _sweep(box: Path, data: Path) -> float:
    start = time.perf_counter()
    _, status = os.waitpid(_start(box, data), 0)
    assert os.waitstatus_to_exitcode(status) == 0, (box / "stderr").read_text()
    return time.perf_counter() - start


def _start(box: Path, data: Path, halt: str = "") -> int:
    child = os.fork()
    if child == 0:
        if halt:
            _halt(box, halt)
        _be_the_program(box, data)
    return child


def _be_the_program(box: Path, data: Path) -> NoReturn:
    code = 70
    try:
        code = _run(box, data)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(box: Path, data: Path) -> int:
    from lora_mnist_cli.cli import main

    for handle, name in ((1, "stdout"), (2, "stderr")):
        target = os.open(box / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, handle)
    places = ("--runs-dir", str(box / "runs"), "--data-dir", str(data))
    return main([*ARGUMENTS, *places])


def _weights(box: Path) -> dict[str, bytes]:
    paths = sorted((box / "runs").glob("*/*.safetensors"))
    return {path.relative_to(box).as_posix(): path.read_bytes() for path in paths}


def _is_part(some: dict[str, bytes], of: dict[str, bytes], where: str) -> None:
    for path, content in some.items():
        assert of[path] == content, f"{where}: {path} has other bytes than an undisturbed sweep makes"
