"""What users do with a registry, step by step, for tests that interrupt it at every operation. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durability import small

from lora_mnist_cli.registry import archive, registry, staging
from lora_mnist_cli.registry.artifact import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.system import files
from lora_mnist_cli.system.errors import ArtifactError
from lora_mnist_cli.system.platforms import here

Step = Callable[[Path], None]


@dataclass(frozen=True)
class Story:
    """Steps, each of which is a command that reports when it is done.

    Args:
        prepare: what is there before.
        steps: in a folder that has ``runs``, and room for other files.
    """

    prepare: Step
    steps: tuple[Step, ...]


def runs(box: Path) -> Registry:
    return Registry(box / "runs")


def _nothing(box: Path) -> None:
    box.mkdir(exist_ok=True)


def _base(box: Path) -> None:
    small.base(runs(box))


def _adapter(box: Path) -> None:
    small.adapter(runs(box), "child", "base")


def _report(box: Path) -> None:
    small.report(runs(box), "report", parents=[runs(box).get("child")])


def _family(box: Path) -> None:
    for step in (_base, _adapter, _report):
        step(box)
    small.base(runs(box), "other", seed=1)


def _replace(box: Path) -> None:
    small.base(runs(box), "other", seed=2, force=True)


def _two(seed: int, *, force: bool = False) -> Step:
    return lambda box: small.together(runs(box), ["one", "two"], seed, [runs(box).get("base")], force=force)


def _base_and_two(box: Path) -> None:
    for step in (_base, _two(1)):
        step(box)


def _remove(name: str, *, cascade: bool = False) -> Step:
    def step(box: Path) -> None:
        try:
            runs(box).remove(name, cascade=cascade)
        except ArtifactError:
            if runs(box).has(name):  # otherwise it was removed before the kill
                raise

    return step


def _tag(name: str, alias: str) -> Step:
    return lambda box: runs(box).tag(name, alias) and None


def _untag(alias: str) -> Step:
    def step(box: Path) -> None:
        if alias in runs(box).tags():
            runs(box).untag(alias)

    return step


def _tagged(box: Path) -> None:
    _family(box)
    runs(box).tag("other", "best")


def _sharing(name: str, seed: int = 0, *, force: bool = False) -> Step:
    return lambda box: small.adapter(runs(box), name, "base", seed, force=force, shares=True) and None


def _shared(box: Path) -> None:
    for step in (_base, _sharing("one"), _sharing("two")):
        step(box)


def _shared_and_tagged(box: Path) -> None:
    _shared(box)
    runs(box).tag("one", "best")


def _export(box: Path) -> None:
    archive.export_artifact(runs(box), "child", box / "child.zip", force=True)


def _exported(box: Path) -> None:
    for step in (_base, _adapter, _export):
        step(box)
    runs(box).remove("base", cascade=True)


def _import(box: Path) -> None:
    archive.import_artifacts(runs(box), box / "child.zip")


STORIES = {
    "publish": Story(_nothing, (_base,)),
    "publish with parents": Story(_base, (_adapter, _report)),
    "publish together": Story(_base, (_two(1),)),
    "replace": Story(_family, (_replace,)),
    "replace together": Story(_base_and_two, (_two(3, force=True),)),
    "remove": Story(_tagged, (_remove("other"),)),
    "remove with descendants": Story(_family, (_remove("base", cascade=True),)),
    "remove all": Story(_shared_and_tagged, (_remove("base", cascade=True),)),
    "share statistics": Story(_base, (_sharing("one"), _sharing("two"))),
    "remove what shares": Story(_shared, (_remove("one"), _remove("two"))),
    "tag": Story(_tagged, (_tag("child", "best"), _tag("base", "first"), _untag("best"))),
    "export": Story(_family, (_export,)),
    "import": Story(_exported, (_import,)),
}


def copied(source: Path, target: Path) -> None:
    """Copy a folder; files that are one file there are one file in the copy."""
    first: dict[int, str] = {}

    def copy(path: str, to: str) -> str:
        inode = os.stat(path, follow_symlinks=False).st_ino
        if inode in first:
            os.link(first[inode], to)
            return to
        first[inode] = to
        return str(shutil.copy2(path, to, follow_symlinks=False))

    shutil.copytree(source, target, symlinks=True, copy_function=copy)


State = dict[str, dict[str, str]]


@dataclass
class Seen:
    """What a reader finds in a box: digests by name, what aliases stand for, and digests of exported files."""

    state: State = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def look(box: Path) -> Seen:
    """Read all that is visible, and note whatever is not sound."""
    seen = Seen()
    there = runs(box)
    _, errors = there.scan()
    seen.problems += [str(error) for error in errors]
    names = {}
    for name in there.names():
        artifact = there.get(name)
        artifact.check_files()
        names[name] = artifact.digest
    for verdict in verify(there):
        seen.problems += [f"{verdict.name}: {file}: {problem}" for file, problem in verdict.problems]
    tags = {alias: digest for alias, (_, digest) in there.tags().items()}
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in box.glob("*.zip")}
    seen.state = {"names": names, "tags": tags, "files": files}
    return seen


def tree(box: Path) -> dict[str, str]:
    """Every path in a box, and what is in it; of a manifest, which says when, only that it is there."""
    return {
        path.relative_to(box).as_posix(): "" if path.is_dir() or path.name == MANIFEST
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(box.rglob("*"))
    }  # fmt: skip


def same_tree(left: dict[str, str], whole: dict[str, str]) -> bool:
    """Tell whether two trees are equal, but for shared statistics: after a power cut, nobody may know them any more."""
    optional = {path: content for path, content in whole.items() if f"/{STORE}" in path}
    return left == whole or (left == {path: whole[path] for path in whole.keys() - optional.keys()})


def between(seen: State, before: State, after: State) -> list[str]:
    """What is neither as it was nor as it was to become."""
    return [
        f"{kind} {name}: {seen[kind].get(name)} is neither {before[kind].get(name)} nor {after[kind].get(name)}"
        for kind in before
        for name in seen[kind].keys() | before[kind].keys() | after[kind].keys()
        if seen[kind].get(name) not in (before[kind].get(name), after[kind].get(name))
    ]


def alone(place: Path, story: Story) -> tuple[list[tuple[State, dict[str, str]]], dict[str, str]]:
    """Run a story that nothing disturbs; return what is visible and all files by each step, and the files at last."""
    box = place / "undisturbed"
    copied(place / "template", box)
    states = [(look(box).state, tree(box))]
    for step in story.steps:
        step(box)
        seen = look(box)
        assert not seen.problems, seen.problems
        states.append((seen.state, tree(box)))
    small.report(runs(box), "next", seed=99)
    return states, tree(box)


def run_again(box: Path, story: Story, last: State, where: str, *in_cleaning: type[Exception]) -> dict[str, str]:
    """Run a story once more, publish something else and clean up: all is as if nothing had happened. Return all files.

    Cleaning may raise the errors ``in_cleaning``.
    """
    for step in story.steps:
        step(box)
    small.report(runs(box), "next", seed=99)
    with contextlib.suppress(*in_cleaning):
        runs(box).clean()
    seen = look(box)
    seen.state["names"].pop("next")
    assert not seen.problems, f"{where}, then run again: {seen.problems}"
    assert seen.state == last, f"{where}, then run again: {seen.state}"
    return tree(box)


def _copied_and_removed(source: Path, target: Path) -> None:
    """What should be renamed in one step, file by file."""
    shutil.copytree(source, target)
    shutil.rmtree(source)


def take_out(mechanism: str) -> None:
    """Do without one of the mechanisms, to see that its absence is noticed."""

    def nothing(*_: object, **__: object) -> Any:
        return None

    if mechanism == "flush":
        files.flush = registry.flush = staging.flush = registry.flush_trees = registry.flush_all = nothing
    elif mechanism == "flush of each file":
        files._MANY = 0
    elif mechanism == "exchange":
        here.exchange_call = nothing  # type: ignore[assignment]
    elif mechanism == "lock":
        staging.exclusive = lambda *_: contextlib.nullcontext()  # type: ignore[assignment]
    elif mechanism == "rename":
        here.rename = _copied_and_removed  # type: ignore[assignment]
    elif mechanism:
        raise ValueError(mechanism)
