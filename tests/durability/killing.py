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

ENOUGH = 3
"""Kills with none and with one of the two adapters published."""
ARGUMENTS = ("sweep", "--ranks", "1,2", "--epochs", "1")


def random_instants(folder: str, template: str, data: str, times: int, seed: int) -> dict[str, Any]:
    """Kill a sweep at random instants, look at what is left, and run it again to its end.

    On a busy machine the instants may all fall on one side of a publication. Then more kills follow, as many again at
    most, that wait for what is lacking: none published yet, or the first of the two.

    Returns:
        The ``seconds`` of an undisturbed sweep, and for how many of the killed ones each number of artifacts was
        ``published`` by then.

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
    i = 0
    while i < times or (min(published[0], published[1]) < ENOUGH and i < 2 * times):
        box = place / "box"
        shutil.copytree(template, box / "runs")
        before = stories.look(box).state["names"]
        # A little longer than it takes, so that its last moments are hit as well.
        child = _start(box, data_dir)
        if i < times:
            time.sleep(draw.uniform(0, 1.05 * seconds))
        elif published[0] >= ENOUGH:
            _wait_for_one_more(box, len(before))
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
        assert sorted(path.name for path in (box / "runs").iterdir()) == sorted(stories.runs(whole).names()), where
        # What was published before the kill was taken as it was.
        again = stories.look(box)
        assert not again.problems, f"{where}, then run again: {again.problems}"
        shutil.rmtree(box)
        i += 1
    return {"seconds": seconds, "published": published}


def _wait_for_one_more(box: Path, before: int) -> None:
    """Until the sweep has published its first adapter, or a minute has passed."""
    end = time.monotonic() + 60
    while len(stories.runs(box).names()) <= before and time.monotonic() < end:
        time.sleep(0.0005)


def _load_everything(place: Path, template: str, data: Path) -> None:
    """Import whatever a sweep imports, without having run one here: threads don't survive a fork."""
    import torch

    import lora_mnist_cli.cli.commands.sweep
    import lora_mnist_cli.stages.records.loading
    import lora_mnist_cli.training.trainer  # noqa: F401 - most of the rest comes with these
    from lora_mnist_cli.stages.banks import work

    # A bank each: then the adapters are published one after the other, and not all in the last moment.
    work.MAX_MEMBERS = 1
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


def _start(box: Path, data: Path) -> int:
    child = os.fork()
    if child == 0:
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
