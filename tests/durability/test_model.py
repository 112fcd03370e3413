"""The registry against a model of it: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from durability import small
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lora_mnist_cli.registry.archive import export_artifact, import_artifacts
from lora_mnist_cli.registry.artifact import MANIFEST, Artifact, Settings
from lora_mnist_cli.registry.digests import content_digest, sha256
from lora_mnist_cli.registry.registry import STAGING, Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.registry.weights import BASE_FILE
from lora_mnist_cli.system.errors import ArtifactError, OtherSettingsError
from lora_mnist_cli.system.locks import HOST, LOCK

NAMES = ("a", "b", "c", "d")
ALIASES = ("best", "old")
KINDS = ("report", "base")

names = st.sampled_from(NAMES)
picks = st.integers(0, 7)


@dataclass
class Thing:
    """What the model knows of an artifact."""

    digest: str
    created: str
    kind: str
    fingerprint: str
    parents: tuple[tuple[str, str], ...]
    """Name and digest of each, as it was when this was made."""
    damaged: str = ""
    """``file`` or the manifest's name, where a byte of that is another one."""

    @property
    def readable(self) -> bool:
        return self.damaged != MANIFEST


@dataclass
class Work:
    """A stage that is in the middle of its work."""

    name: str
    folder: Path
    stack: contextlib.ExitStack
    settings: Settings
    details: dict[str, Any]
    needs: tuple[str, ...]


@dataclass
class Parcel:
    """An exported file, and what is in it."""

    path: Path
    things: dict[str, Thing] = field(default_factory=dict)


class Model(RuleBasedStateMachine):
    """Drives both; every rule says what has to come of it."""

    @initialize()
    def begin(self) -> None:
        memory = Path("/dev/shm")
        self.place = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
        self.registry = Registry(self.place / "runs")
        self.things: dict[str, Thing] = {}
        self.tags: dict[str, tuple[str, str]] = {}
        self.parcels: list[Parcel] = []
        self.work: Work | None = None
        self.dead: set[str] = set()
        self.count = 0
        # Otherwise most runs would not come as far as to have three generations.
        made: list[Artifact] = []
        for name in NAMES[:3]:
            made.append(small.report(self.registry, name, len(made), made[-1:]))
            self.known(name, made[-1])

    def teardown(self) -> None:
        if hasattr(self, "place"):
            if self.work is not None:
                self.work.stack.close()
            shutil.rmtree(self.place, ignore_errors=True)

    # What the model says.

    def located(self, name: str, digest: str) -> str | None:
        if name in self.things and self.things[name].readable and self.things[name].digest == digest:
            return name
        return next((each for each, thing in self.readable() if thing.digest == digest), None)

    def readable(self) -> list[tuple[str, Thing]]:
        return sorted(
            ((name, thing) for name, thing in self.things.items() if thing.readable),
            key=lambda pair: (pair[1].created, pair[0]),
        )

    def descendants(self, name: str, *, all_generations: bool = False, besides: str = "") -> set[str]:
        named = {(own, d) for each, thing in self.readable() if each != name for own, d in thing.parents}
        # Of one that can't be read nothing but its name is known.
        this = self.things[name]
        digests = {digest for own, digest in named if (digest == this.digest if this.readable else own == name)}
        digests -= {thing.digest for each, thing in self.readable() if each != name} | {besides}
        reached: set[str] = set()
        while True:
            more = {each for each, thing in self.readable() if digests & {d for _, d in thing.parents}}
            more -= reached | {name}
            reached |= more
            digests |= {self.things[each].digest for each in more} if all_generations else set()
            if not more:
                return reached

    def in_use(self, doomed: set[str]) -> bool:
        needed = set(self.work.needs) if self.work is not None else set()
        return any(self.things[name].readable and self.things[name].digest in needed for name in doomed)

    def pick(self, number: int, *, readable: bool = False) -> str | None:
        there = sorted(name for name, thing in self.things.items() if thing.readable or not readable)
        return there[number % len(there)] if there else None

    def refused(self, call: Callable[[], Any], kind: type[ArtifactError] = ArtifactError) -> None:
        with pytest.raises(kind) as caught:
            call()
        assert "\n" not in str(caught.value)

    def known(self, name: str, artifact: Artifact) -> None:
        newest = max((thing.created for _, thing in self.readable()), default="")
        assert artifact.created > newest
        self.things[name] = Thing(
            artifact.digest, artifact.created, artifact.kind, artifact.fingerprint,
            tuple((parent.name, parent.digest) for parent in artifact.parents),
        )  # fmt: skip

    # What users do.

    @rule(name=names, seed=st.integers(0, 2), kind=st.sampled_from(KINDS), force=st.booleans(), parents=st.sets(picks))
    def publish(self, name: str, seed: int, kind: str, force: bool, parents: set[int]) -> None:
        picked = sorted({each for number in list(parents)[:2] if (each := self.pick(number, readable=True))})
        made_from = [self.registry.get(each) for each in picked] if kind == "report" else []
        own, files, details = small.record(seed, made_from) if kind == "report" else small.base_record(seed)

        def publish() -> Artifact:
            return small.put(self.registry, name, own, files, details, force=force)

        there = self.things.get(name)
        same = there is not None and there.fingerprint == own.fingerprint()
        if there is not None and not force:
            if not there.readable:
                self.refused(publish)
            elif same:
                assert publish().digest == there.digest
            else:
                self.refused(publish, OtherSettingsError)
            return
        if there is not None and there.readable and not same:
            if self.descendants(name):
                self.refused(publish)
                return
            if there.digest in own_digests(made_from) or self.in_use({name}):
                self.refused(publish)
                self.dead.clear()
                return
        if there is not None and not there.readable and self.descendants(name, besides=content_digest_of(own, files)):
            self.refused(publish)
            self.dead.clear()
            return
        self.things.pop(name, None)
        self.known(name, publish())
        self.dead.clear()

    @precondition(lambda self: self.work is None)
    @rule(name=names, seed=st.integers(0, 2), parent=picks)
    def start_work(self, name: str, seed: int, parent: int) -> None:
        picked = self.pick(parent, readable=True)
        made_from = [self.registry.get(picked)] if picked else []
        own, files, details = small.record(seed, made_from)
        stack = contextlib.ExitStack()
        folder = stack.enter_context(self.registry.staging(name, own.parents))
        for file, content in files.items():
            (folder / file).write_bytes(content)
        self.work = Work(name, folder, stack, own, details, tuple(own_digests(made_from)))
        self.dead.clear()

    @precondition(lambda self: self.work is not None)
    @rule(interrupted=st.booleans())
    def end_work(self, interrupted: bool) -> None:
        work, self.work = self.work, None
        assert work is not None

        def publish() -> Artifact:
            return self.registry.publish(
                work.folder,
                work.settings,
                scores=small.scores_of(work.settings),
                details=work.details,
                environment={},
                wall_seconds=0.0,
            )

        there = self.things.get(work.name)
        with work.stack:
            if interrupted:
                return
            if any(self.located("", digest) is None for digest in work.needs):
                self.refused(publish)  # it was damaged meanwhile; removing it was refused
            elif there is None:
                self.known(work.name, publish())
            elif not there.readable:
                self.refused(publish)
            elif there.fingerprint == work.settings.fingerprint():
                assert publish().created == there.created
            else:
                self.refused(publish, OtherSettingsError)

    @rule(number=picks, cascade=st.booleans())
    def remove(self, number: int, cascade: bool) -> None:
        name = self.pick(number)
        if name is None:
            self.refused(lambda: self.registry.remove("a", cascade=cascade))
            return
        needing = self.descendants(name, all_generations=cascade)
        doomed = {name} | (needing if cascade else set())
        if (needing and not cascade) or self.in_use(doomed):
            self.refused(lambda: self.registry.remove(name, cascade=cascade))
            return
        removed = self.registry.remove(name, cascade=cascade)
        assert removed[-1] == name
        assert set(removed) == doomed
        for each in doomed:
            del self.things[each]
        self.tags = {
            alias: (each, digest)
            for alias, (each, digest) in self.tags.items()
            if each not in doomed or self.located(each, digest)
        }
        self.dead.clear()

    @rule(number=picks, alias=st.sampled_from(ALIASES))
    def tag(self, number: int, alias: str) -> None:
        name = self.pick(number)
        if name is None or not self.things[name].readable:
            self.refused(lambda: self.registry.tag(name or "a", alias))
            return
        self.registry.tag(name, alias)
        self.tags[alias] = (name, self.things[name].digest)

    @rule(alias=st.sampled_from(ALIASES))
    def untag(self, alias: str) -> None:
        if self.tags.pop(alias, None) is None:
            self.refused(lambda: self.registry.untag(alias))
        else:
            self.registry.untag(alias)

    @rule(number=picks, to=names, copy=st.booleans())
    def rename_or_copy_outside(self, number: int, to: str, copy: bool) -> None:
        name = self.pick(number)
        if name is None or to in self.things:
            return
        if copy:
            shutil.copytree(self.registry.root / name, self.registry.root / to)
            self.things[to] = Thing(**vars(self.things[name]))
        else:
            (self.registry.root / name).rename(self.registry.root / to)
            self.things[to] = self.things.pop(name)

    @rule(number=picks, file=st.sampled_from(["file", MANIFEST]), place=st.floats(0, 0.9))
    def damage_a_byte(self, number: int, file: str, place: float) -> None:
        name = self.pick(number)
        if name is None or self.things[name].damaged:
            return
        own = BASE_FILE if self.things[name].kind == "base" else "text"
        path = self.registry.root / name / (own if file == "file" else file)
        content = bytearray(path.read_bytes())
        at = int(place * len(content))
        while not chr(content[at]).isalnum():
            at -= 1
        content[at] = ord("1") if content[at] != ord("1") else ord("2")
        path.write_bytes(content)
        self.things[name].damaged = file

    @rule(name=names, locked=st.booleans())
    def crash(self, name: str, locked: bool) -> None:
        """What a killed process leaves: its staging folder, and maybe the lock's file."""
        self.count += 1
        folder = self.registry.root / STAGING / f"{name}@{HOST}@{self.count}"
        (folder / name).mkdir(parents=True)
        (folder / "owner.json").write_text('{"pid": 1')
        (folder / name / "text").write_bytes(b"half")
        if locked:
            (self.registry.root / LOCK).write_bytes(b"{")
        self.dead.add(folder.name)

    @rule(dry_run=st.booleans())
    def clean(self, dry_run: bool) -> None:
        found = self.registry.clean(dry_run=dry_run)
        assert {row["folder"] for row in found if row["state"] == "dead"} == self.dead
        assert sum(row["state"] == "live" for row in found) == (self.work is not None)
        if not dry_run:
            self.dead.clear()

    @precondition(lambda self: len(self.parcels) < 3)
    @rule(number=picks)
    def hand_on(self, number: int) -> None:
        name = self.pick(number)
        if name is None:
            return
        parcel = Parcel(self.place / f"{len(self.parcels)}.zip")
        pending, whole = [name], True
        while pending:
            each = pending.pop()
            if each in parcel.things:
                continue
            parcel.things[each] = Thing(**vars(self.things[each]))
            whole = whole and not self.things[each].damaged
            for _, digest in self.things[each].parents if self.things[each].readable else ():
                where = self.parent_of(each, digest)
                whole = whole and where is not None
                pending += [where] if where is not None else []
        if not whole:
            self.refused(lambda: export_artifact(self.registry, name, parcel.path))
            assert not parcel.path.exists()
            return
        assert {each.name for each in export_artifact(self.registry, name, parcel.path)} == parcel.things.keys()
        self.parcels.append(parcel)

    def parent_of(self, name: str, digest: str) -> str | None:
        recorded = {p.digest: p.name for p in self.registry.get(name).parents}
        return self.located(recorded[digest], digest)

    @precondition(lambda self: self.parcels)
    @rule(number=picks)
    def take_in(self, number: int) -> None:
        parcel = self.parcels[number % len(self.parcels)]
        taken = {
            name: self.things[name].readable and self.things[name].digest == thing.digest
            for name, thing in parcel.things.items()
            if name in self.things
        }
        if not all(taken.values()):
            self.refused(lambda: import_artifacts(self.registry, parcel.path))
        else:
            _, fresh = import_artifacts(self.registry, parcel.path)
            assert {artifact.name for artifact in fresh} == parcel.things.keys() - taken.keys()
            self.things |= {a.name: Thing(**vars(parcel.things[a.name])) for a in fresh}
        self.dead.clear()

    # What has to be true after each step.

    @invariant()
    def both_list_the_same(self) -> None:
        if not hasattr(self, "registry"):
            return
        found, errors = self.registry.scan()
        assert self.registry.names() == sorted(self.things)
        assert [(entry.name, entry.digest) for entry in found] == [(name, t.digest) for name, t in self.readable()]
        assert {error.value for error in errors} == {name for name, t in self.things.items() if not t.readable}
        for kind in KINDS:
            of_kind = [name for name, thing in self.readable() if thing.kind == kind]
            if of_kind:
                assert self.registry.latest(kind).name == of_kind[-1]
            else:
                self.refused(lambda kind=kind: self.registry.latest(kind))

    @invariant()
    def both_agree_on_what_is_sound_and_what_descends_from_what(self) -> None:
        if not hasattr(self, "registry"):
            return
        for verdict in verify(self.registry):
            thing = self.things[verdict.name]
            lost = thing.readable and any(self.located("", digest) is None for _, digest in thing.parents)
            assert bool(verdict.problems) == bool(thing.damaged or lost), verdict
        for name in self.things:
            assert {entry.name for entry in self.registry.descendants(name)} == self.descendants(name)
        for name, thing in self.readable():
            if not thing.damaged:
                self.registry.get(name).check_files()

    @invariant()
    def aliases_stand_for_what_they_were_given_to(self) -> None:
        if not hasattr(self, "registry"):
            return
        assert self.registry.tags() == self.tags
        for alias, (name, digest) in self.tags.items():
            where = self.located(name, digest)
            if where is None:
                self.refused(lambda alias=alias: self.registry.resolve(f"@{alias}"))
            else:
                assert self.registry.resolve(f"@{alias}") == where

    @invariant()
    def nothing_lies_around(self) -> None:
        if not hasattr(self, "registry") or not self.registry.root.exists():
            return
        hidden = {path.name for path in self.registry.root.iterdir() if path.name.startswith(".")}
        staging = {STAGING} if self.dead or self.work is not None else set()
        tags = {".tags"} if self.tags else set()
        assert hidden - {LOCK} == staging | tags


def content_digest_of(own: Settings, files: dict[str, bytes]) -> str:
    return content_digest(own.fingerprint(), {file: {"sha256": sha256(content)} for file, content in files.items()})


def own_digests(artifacts: list[Artifact]) -> list[str]:
    return [artifact.digest for artifact in artifacts]


def lives(count: int) -> settings:
    """So many registries, with 30 steps each."""
    return settings(max_examples=count, stateful_step_count=30, suppress_health_check=list(HealthCheck))


@pytest.mark.filterwarnings("default")
class TestRegistryAgainstItsModel(Model.TestCase):
    settings = lives(8)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
class TestRegistryAgainstItsModelAtLength(Model.TestCase):
    settings = lives(80)
