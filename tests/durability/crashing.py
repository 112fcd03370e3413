"""Runs a story again and again in forked processes, and kills each at its next operation; see ``apart.py``."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

from durability.faults import Counter, Power, die, torn, watched
from durability.stories import STORIES, Story, alone, between, copied, look, run_again, runs, same_tree, take_out, tree

from lora_mnist_cli.registry.catalog import TAGS
from lora_mnist_cli.registry.file_names import STATISTICS_FILE
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.system.platforms import here

WAYS = ("kill", "short", "long")


def every_way(folder: str, story: str, stride: int) -> list[dict[str, int]]:
    """Do :func:`every_operation` in each way; up to a stride of 3, each operation is stopped at in one of them."""
    found = []
    for first, way in enumerate(WAYS):
        (place := Path(folder) / way).mkdir()
        found.append(every_operation(str(place), story, way, first=first % stride, stride=stride))
    return found


def every_operation(
    folder: str, story: str, way: str, without: str = "", clean: bool = False, first: int = 0, stride: int = 1
) -> dict[str, int]:
    """Kill a story at operation 0, 1, 2 … until it runs through, and look at what is left each time.

    Args:
        way: ``kill``, or a power cut that leaves ``short`` the least or ``long`` the most that the disk may hold.
        without: the mechanism to do without.
        clean: clean up before looking, as the next publication does.
        first, stride: kill at operation ``first`` and at each ``stride``-th after it.

    Returns:
        How many operations of each kind were killed at; the last, ``end``, is none.

    Raises:
        AssertionError: for the first operation after which anything promised doesn't hold.
    """
    import safetensors.numpy  # noqa: F401 - loaded once, and not in each child

    place, told = Path(folder), STORIES[story]
    template = place / "template"
    template.mkdir()
    told.prepare(template)
    recorded, whole = alone(place, told)
    states = [state for state, _ in recorded]
    take_out(without)
    here.GRACE = 0.0  # no other process is at work: what nobody has locked is nobody's
    kinds: dict[str, int] = {}
    at = first
    while True:
        box = place / "box"
        copied(template, box)
        ended, reported, kind = _fork(box, told, at, way)
        kinds[kind] = kinds.get(kind, 0) + 1
        where = f"{story}, {way}, operation {at} ({kind}), {reported} steps reported"
        if clean:
            runs(box).clean()
        seen = look(box)
        after = states[min(reported + 1, len(states) - 1)]
        problems = [*seen.problems, *between(seen.state, states[reported], after)]
        assert not problems, f"{where}: {problems}: {sorted(tree(box))}"
        left = run_again(box, told, states[-1], where)
        assert same_tree(left, whole), f"{where}, then run again: {sorted(set(left.items()) ^ set(whole.items()))}"
        shutil.rmtree(box)
        if ended:
            return kinds
        at += stride


def tidied(folder: str, story: str, way: str, *, again: bool, first: int = 0, stride: int = 1) -> int:
    """Kill a story at operation 0, 1, 2 … as :func:`every_operation`, then tidy up, and look for what is hidden.

    Args:
        again: run the story again, which may find nothing to do; by default, clean up.

    Returns:
        How often it was killed.

    Raises:
        AssertionError: for the first operation after which something is left that no artifact needs.
    """
    place, told, kills = Path(folder), STORIES[story], 0
    told.prepare(place / "template")
    ended = False
    while not ended:
        box, at = place / "box", first + kills * stride
        copied(place / "template", box)
        ended, _, kind = _fork(box, told, at, way)
        if again:
            for step in told.steps:
                step(box)
        else:
            runs(box).clean()
        needed = [STORE for name in runs(box).names() if (box / "runs" / name / STATISTICS_FILE).exists()]
        needed += [*([TAGS] if runs(box).tags() else []), *runs(box).names()]
        left = sorted(path.name for path in box.glob("runs/*"))
        assert left == sorted(set(needed)), f"{story}, {way}, operation {at} ({kind}): {left}"
        shutil.rmtree(box)
        kills += 1
    return kills


def _fork(box: Path, story: Story, at: int, way: str) -> tuple[bool, int, str]:
    """Whether the child ran through, the number of steps that it reported, and the operation at which it died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _child(box, story, at, way, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        reports = pipe.read().split()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}, {reports}"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return "end" in reports, reports.count("done"), next((r for r in reports if r not in ("done", "end")), "end")


def _child(box: Path, story: Story, at: int, way: str, writing: int) -> None:
    try:
        write = os.write  # before it is watched
        power = Power(box, short=way == "short") if way != "kill" else None

        def fate(what: str, paths: list[str], content: bytes) -> None:
            write(writing, f"{what} ".encode())
            if what == "write":
                torn(paths, content)
            if power is not None:
                power.cut()
            die()

        counter = Counter(at, fate)

        def watcher(what: str, paths: list[str], content: bytes) -> None:
            counter(what, paths, content)
            if power is not None:
                power.note(what, paths)

        with watched(box, watcher, power.flushed if power is not None else None):
            for step in story.steps:
                step(box)
                write(writing, b"done ")
        write(writing, b"end ")
        if power is not None:
            power.cut()
        die()
    except BaseException:  # noqa: BLE001 - the child tells, and must not go on as the parent
        import traceback

        traceback.print_exc()
        os._exit(1)
