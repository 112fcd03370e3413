"""Many processes at once on one registry; see ``apart.py``."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from durability import small
from durability.stories import take_out

from lora_mnist_cli.registry.file_names import STATISTICS_FILE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError

ROUNDS = "rounds"
"""The file that has a byte for each time that the reader has been round."""
STOPPED = "stopped"
"""The file that is there once the reader has ended, for whatever reason."""
MOST = 50
"""How many times as many reads there are at most, where the others are slow."""


def _at_once(folder: Path, works: list[Callable[[], Any]]) -> list[Any]:
    """Run functions in a process each, all starting together; their results, which are JSON."""
    gate = folder / "gate"
    children = []
    for i, work in enumerate(works):
        child = os.fork()
        if child == 0:
            try:
                while not gate.exists():
                    time.sleep(0.001)
                (folder / f"result{i}").write_text(json.dumps(work()))
                os._exit(0)
            except BaseException:  # noqa: BLE001 - the child tells, and must not go on as the parent
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    gate.touch()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    gate.unlink()
    assert not any(codes), f"processes ended with {codes}"
    return [json.loads((folder / f"result{i}").read_text()) for i in range(len(works))]


def publish_and_all_else(folder: str, names: int = 60, seed: int = 0, without: str = "") -> dict[str, Any]:
    """Six processes publish 200 times under so many names and two settings each, while two more do everything else.

    Returns:
        ``published``: name → how often it was published; ``same``, ``other``: how many attempts found it there with
        the same and with other settings; ``seen``: how much the others did; ``problems`` and ``left`` at the end.
    """
    import safetensors.numpy  # noqa: F401 - loaded once, and not in each child

    place = Path(folder)
    root = place / "runs"
    small.base(Registry(root))
    take_out(without)
    taken = Registry.taken

    def slowly_taken(self: Registry, name: str) -> bool:
        found = taken(self, name)
        time.sleep(0.001)  # whatever two processes could both find true, they do
        return found

    Registry.taken = slowly_taken  # type: ignore[method-assign]
    (place / ROUNDS).touch()
    draw = random.Random(seed)
    attempts = [(f"name-{draw.randrange(names)}", draw.choice([0, 0, 0, 1])) for _ in range(200)]
    shares = [attempts[i::6] for i in range(6)]
    works = [
        *(lambda i=i, share=share: _publish(root, share, place / f"done{i}") for i, share in enumerate(shares)),
        lambda: _read(root, [place / f"done{i}" for i in range(len(shares))]),
        lambda: _keep(root),
    ]
    results = _at_once(place, works)
    published = Counter(name for result in results[:6] for name in result["published"])
    last = Registry(root)
    return {
        "published": dict(published),
        "asked": sorted({name for name, _ in attempts}),
        "same": sum(result["same"] for result in results[:6]),
        "other": sum(result["other"] for result in results[:6]),
        "seen": results[6:],
        "names": last.names(),
        "problems": [f"{v.name}: {v.problems}" for v in verify(last) if v.problems],
        "left": sorted(path.name for path in root.iterdir() if path.name.startswith(".")),
    }


def _publish(root: Path, attempts: list[tuple[str, int]], done: Path) -> dict[str, Any]:
    try:
        return _publish_all(root, attempts)
    finally:
        done.touch()


def _publish_all(root: Path, attempts: list[tuple[str, int]]) -> dict[str, Any]:
    ours = Registry(root)
    told: dict[str, Any] = {"published": [], "same": 0, "other": 0}
    made: list[str] = []
    install = Registry._install

    def installing(self: Registry, staged: Any, artifacts: Any, force: bool) -> Any:
        (found,) = install(self, staged, artifacts, force)
        (ours,) = artifacts
        # It is ours if what is in place was created when we created it, and not what another was first with.
        if found.seal == json.loads((root / ours.name / "artifact.json").read_text())["seal"] == ours.seal:
            made.append(ours.name)
        return [found]

    Registry._install = installing  # type: ignore[method-assign, assignment]
    for i, (name, seed) in enumerate(attempts):
        _wait_for_rounds(root, i // 4)
        before = len(made)
        try:
            found = small.adapter(ours, name, "base", seed)
        except OtherSettingsError:
            told["other"] += 1
            continue
        assert found.config["seed"] == seed
        found.check_files()
        if len(made) > before:
            told["published"].append(name)
        else:
            told["same"] += 1
    return told


def _wait_for_rounds(root: Path, rounds: int) -> None:
    """Until the reader has been round so many times: however busy the machine, it reads while others publish."""
    while (root.parent / ROUNDS).stat().st_size < rounds:
        assert not (root.parent / STOPPED).exists(), "the reader has stopped"
        time.sleep(0.001)


def _read(root: Path, publishers: list[Path]) -> int:
    try:
        return _read_on(root, publishers)
    finally:
        (root.parent / STOPPED).touch()


def _read_on(root: Path, publishers: list[Path]) -> int:
    """List, read and verify for as long as others publish, and once more; returns how often."""
    ours, rounds, last = Registry(root), 0, False
    while not last:
        last = all(done.exists() for done in publishers)
        entries, errors = ours.scan()
        assert not errors, errors
        # Those that come and go are another's.
        names = [name for name in ours.names() if not name.startswith("own-")]
        assert set(names) >= {entry.name for entry in entries if not entry.name.startswith("own-")}
        for name in names[-8:]:
            ours.get(name).check_files()
        assert ours.latest("adapter", "base").name.startswith(("name-", "base"))
        assert ours.latest("report", "base")
        bad = [verdict for verdict in verify(ours, names[rounds % len(names)]) if verdict.problems]
        bad += [verdict for verdict in verify(ours) if verdict.problems] if rounds % 10 == 0 else []
        assert not bad, bad
        rounds += 1
        with (root.parent / ROUNDS).open("ab") as file:
            file.write(b".")
    return rounds


def _keep(root: Path) -> int:
    """Publish artifacts of its own, tag them, remove them again; and try to remove what others need."""
    ours, done = Registry(root), 0
    for i in range(20):
        own = small.report(ours, f"own-{i}", i, [ours.get("base")])
        ours.tag(own.name, "mine")
        assert ours.get("@mine").digest == own.digest
        try:
            ours.remove("base")
        except ArtifactError as error:
            assert "base" in error.problem  # noqa: PT017 - it runs without pytest
        else:
            raise AssertionError("the base was removed, though others need it")
        ours.clean()
        ours.remove(own.name)
        assert not ours.has(own.name)
        done += 1
    return done


def replace_and_read(folder: str, reads: int, replaced: int, different: int, without: str = "") -> dict[str, int]:
    """Two processes replace one name again and again while a third reads it.

    It reads so many times at least, and until it was replaced so often and so many different ones were seen.
    """
    place = Path(folder)
    root = place / "runs"
    small.report(Registry(root), "one", 0)
    take_out(without)
    stop = place / "stop"
    replacing = [lambda i=i: _replace(root, i, stop) for i in range(2)]
    counts = _at_once(place, [*replacing, lambda: _reread(root, reads, replaced, different, stop)])
    return {"replaced": counts[0] + counts[1], "different": counts[2]}


def _replace(root: Path, which: int, stop: Path) -> int:
    ours, count = Registry(root), 0
    while not stop.exists():
        small.report(ours, "one", 2 * count + which, force=True)
        count += 1
    return count


def _reread(root: Path, reads: int, replaced: int, different: int, stop: Path) -> int:
    """How many different artifacts were seen; each of them whole."""
    try:
        seen, latest, i = set(), 0, -1
        # The number that each replacement carries tells how many there were of that process.
        while (i := i + 1) < reads or ((len(seen) < different or latest < 2 * replaced) and i < MOST * reads):
            if i >= reads:
                time.sleep(0.001)
            found = Registry(root).get("one")
            try:
                assert found.read("text") == b"%d" % found.config["seed"]
                seen.add(found.created)
                latest = max(latest, found.config["seed"])
            except ArtifactError as error:
                assert "'one' was replaced while it was read" in str(error)  # noqa: PT017 - it runs without pytest
            assert Registry(root).names() == ["one"]
            if i % 10 == 0:
                assert [verdict.problems for verdict in verify(Registry(root))] == [[]]
        return len(seen)
    finally:
        stop.touch()


def share_and_remove(folder: str, processes: int = 4, rounds: int = 25) -> dict[str, Any]:
    """Processes publish and remove adapters that share their statistics, and another deletes the shared folder.

    Returns:
        ``linked``: how many publications had a file in common with others; ``problems`` and ``left`` at the end.
    """
    place = Path(folder)
    root = place / "runs"
    small.base(Registry(root))
    works: list[Callable[[], Any]] = [lambda i=i: _share(root, f"adapter-{i}", i, rounds) for i in range(processes)]
    *linked, _ = _at_once(place, [*works, lambda: _delete_shared(root, rounds)])
    last = Registry(root)
    small.adapter(last, "last", "base", seed=99, shares=True)
    last.remove("last")
    return {
        "linked": sum(linked),
        "problems": [f"{v.name}: {v.problems}" for v in verify(last) if v.problems],
        "left": sorted(path.name for path in root.iterdir()),
    }


def _share(root: Path, name: str, seed: int, rounds: int) -> int:
    ours, linked = Registry(root), 0
    for _ in range(rounds):
        made = small.adapter(ours, name, "base", seed, shares=True)
        made.check_files()
        linked += (made.path / STATISTICS_FILE).stat().st_nlink > 1
        ours.remove(name)
    return linked


def _delete_shared(root: Path, rounds: int) -> int:
    for _ in range(rounds // 5):  # it breaks the links of four artifacts at most
        shutil.rmtree(root / STORE, ignore_errors=True)
        time.sleep(0.005)
    return rounds
