"""Runs a story again and again, and lets its next operation fail; see ``apart.py``."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import safetensors.numpy  # noqa: F401 - loaded before anything is watched
from durability.faults import MAKING, TAKING, Counter, failing, watched
from durability.stories import STORIES, Seen, State, Story, alone, between, copied, look, run_again, tree

from lora_mnist_cli.system.errors import MachineError


def every_error(folder: str, story: str, stride: int) -> list[dict[str, int]]:
    """Do :func:`every_operation` on a full disk and on a broken one; with a stride, each of them fails elsewhere."""
    found = []
    for first, error in enumerate(("ENOSPC", "EIO")):
        (place := Path(folder) / error).mkdir()
        found.append(every_operation(str(place), story, error, first % stride, stride))
    return found


def every_operation(folder: str, story: str, error: str, first: int = 0, stride: int = 1) -> dict[str, int]:
    """Let operation 0, 1, 2 … of a story fail until it runs through, and look at what is left each time.

    Args:
        error: ``ENOSPC``: the disk is full from that operation on, and only removing works. ``EIO``: that one
            operation fails, whatever it is.
        first, stride: let operation ``first`` fail, and each ``stride``-th after it.

    Returns:
        How many failures were ``reported``, and how many were ``unheeded``: they made no difference.

    Raises:
        AssertionError: for the first operation after which anything promised doesn't hold.
    """
    place, told, number = Path(folder), STORIES[story], getattr(errno, error)
    template = place / "template"
    template.mkdir()
    told.prepare(template)
    states, whole = alone(place, told)
    at, reported, unheeded = first, 0, 0
    while True:
        box = place / "box"
        copied(template, box)
        caught, done, kind = _run(box, told, at, number)
        where = f"{story}, {error}, operation {at} ({kind}), {done} steps done, {caught!r}"
        if kind == "none":
            return {"reported": reported, "unheeded": unheeded}
        if caught is None:
            # Something that need not work (to write down who holds a lock, to remove what the next run removes).
            unheeded += 1
            assert done == len(told.steps), where
        else:
            reported += 1
            assert isinstance(caught, MachineError), where
            assert caught.exit_code == 5, where
            line = str(caught)
            assert "\n" not in line, where
            assert ("No space left on device" if error == "ENOSPC" else "Input/output error") in line, where
            assert ("free some space" in line) == (error == "ENOSPC"), where
        _check(box, told, done, states, kind, where)
        _finish(box, told, states[-1][0], whole, where)
        shutil.rmtree(box)
        at += stride


def _run(box: Path, story: Story, at: int, number: int) -> tuple[Exception | None, int, str]:
    """What was raised, how many steps were done before, and the operation that failed."""
    fate, is_full = failing(number, for_good=True)
    kinds = MAKING if number == errno.ENOSPC else MAKING + TAKING
    hit: list[str] = []

    def first(what: str, paths: list[str], content: bytes) -> None:
        hit.append(f"{what} {paths}")
        fate(what, paths, content)

    counter = Counter(at, first, kinds)

    def watcher(what: str, paths: list[str], content: bytes) -> None:
        # What needs no room works again: a step can be taken back on a full disk.
        if is_full() and what in kinds and what not in ("rename", "exchange"):
            fate(what, paths, content)
        counter(what, paths, content)

    done, caught = 0, None
    with watched(box, watcher):
        try:
            for step in story.steps:
                step(box)
                done += 1
        except Exception as error:  # noqa: BLE001 - which it is, is what is to be found out
            caught = error
    return caught, done, hit[0] if hit else "none"


def _check(
    box: Path, story: Story, done: int, states: list[tuple[State, dict[str, str]]], kind: str, where: str
) -> None:
    seen: Seen = look(box)
    assert not seen.problems, f"{where}: {seen.problems}"
    before, files = states[done]
    following, files_then = states[min(done + 1, len(states) - 1)]
    # A single file in its place can't be taken back where only its last flush fails; it is the old one or the new.
    # Of several artifacts that are removed, or taken in, those that were done may be done: each is whole.
    names = before["names"].keys() ^ following["names"].keys()
    after = following if following["names"] == before["names"] or len(names) > 1 else before
    finished = done == len(story.steps)
    if finished and "/.tags" in kind:
        # It is removed, and its alias not yet: the next run takes that away with what is left in the staging folder.
        after = {**after, "tags": states[0][0]["tags"]}
    assert not between(seen.state, before, after), f"{where}: {between(seen.state, before, after)}"
    # What could not be removed is all that may be left; the next run removes it.
    if not kind.startswith(("remove", "rmdir")) and len(names) <= 1 and not (finished and "/.tags" in kind):
        left = tree(box)
        assert left == files or (after == following and left == files_then), (
            f"{where}: {sorted(set(left.items()) ^ set(files.items()))}"
        )


def _finish(box: Path, story: Story, last: State, whole: dict[str, str], where: str) -> None:
    """Once there is room again, it is run again: then all is as if nothing had happened."""
    left = run_again(box, story, last, where, MachineError)
    if not last["tags"]:
        left.pop("runs/.tags", None)  # an empty folder that could not be removed does no harm
    assert left == whole, f"{where}, then run again: {sorted(set(left.items()) ^ set(whole.items()))}"
