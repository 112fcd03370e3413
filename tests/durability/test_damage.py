"""Flipped and cut bytes at random places over all files of an adapter and its base: each is found, or harmless."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.registry.artifact import MANIFEST, Artifact
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.stages import Workspace
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.system.errors import ArtifactError

ADAPTER = "lora-fashion-mnist-5-9-r2-a0.5"


@pytest.fixture
def pair(small: Workspace, quick: Path) -> Registry:
    """An adapter and its base, without whatever else was made from it."""
    registry = Registry(quick / "runs")
    for name in (ADAPTER, small.registry.parent(small.registry.get(ADAPTER)).name):
        shutil.copytree(small.runs_dir / name, registry.root / name)
    return registry


def damages(root: Path, places: int, seed: int) -> Iterator[tuple[Path, int, bytes]]:
    """File, place and damaged content: every fourth is a cut, the others a byte with another value."""
    draw = random.Random(seed)
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    for i in range(places):
        # Each file in turn, as the weights have nearly all of the bytes.
        path = files[i % len(files)]
        content = path.read_bytes()
        place = draw.randrange(len(content))
        if draw.random() < 0.25:
            yield path, place, content[:place]
        else:
            other = (content[place] + draw.randrange(1, 256)) % 256
            yield path, place, content[:place] + bytes([other]) + content[place + 1 :]


def outcome(registry: Registry) -> tuple[set[str], str]:
    """The artifacts that verifying finds bad, and what loading says; empty where it loads."""
    bad = {verdict.name for verdict in verify(registry) if verdict.problems}
    try:
        load_model(registry, registry.get(ADAPTER))
    except ArtifactError as error:
        return bad, str(error)
    return bad, ""


def is_harmless(path: Path, damaged: bytes, sound: bytes) -> bool:
    """Only in one way: white space between the tokens of a manifest is other white space, so that it says the same.

    Every other file is compared as a whole, by size and SHA-256, and every value of a manifest is under its seal.
    """
    if path.name != MANIFEST:
        return False
    try:
        return bool(json.loads(damaged) == json.loads(sound))
    except ValueError:
        return False


@pytest.mark.parametrize("places", [60, pytest.param(300, marks=pytest.mark.slow)])
def test_random_damages_are_found_by_verifying_and_by_loading_or_change_nothing(pair, places):
    adapter = pair.get(ADAPTER)
    assert outcome(pair) == (set(), "")
    escaped, found = 0, dict.fromkeys(sorted(path.name for path in pair.root.rglob("*") if path.is_file()), 0)
    for path, place, damaged in damages(pair.root, places, seed=3):
        sound = path.read_bytes()
        path.write_bytes(damaged)
        bad, error = outcome(pair)
        where = f"{path}, byte {place} of {len(sound)}, {len(damaged)} bytes now"
        if is_harmless(path, damaged, sound):
            escaped += 1
            assert (bad, error) == (set(), ""), where
            assert pair.get(ADAPTER) == adapter, where
        else:
            found[path.name] += 1
            # Where the base's manifest is damaged, the adapter's base can't be found either.
            assert path.parent.name in bad, where
            assert bad <= {path.parent.name, ADAPTER}, where
            assert error, where
            assert "\n" not in error
        path.write_bytes(sound)
    assert outcome(pair) == (set(), "")
    assert escaped + sum(found.values()) == places
    assert min(found.values()) > places / 15, found
    assert escaped < places / 10


@pytest.mark.parametrize("file", [MANIFEST, "adapter_model.safetensors", "adapter_config.json", "history.csv"])
@pytest.mark.parametrize("place", [0.3, 0.999])
def test_verify_and_evaluate_end_with_3_and_name_what_is_damaged(small, run, file, place):
    path = small.runs_dir / ADAPTER / file
    content = bytearray(path.read_bytes())
    at = int(place * len(content)) - 1
    content[at] = ord("x") if content[at] != ord("x") else ord("y")
    path.write_bytes(content)
    where = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    verified = run("runs", "verify", *where[:2])
    assert verified.code == 3
    assert f"{path.parent}: {file}: " in verified.err
    assert "made from it: sweep-fashion-mnist-5-9-a0.5" in verified.err
    evaluated = run("evaluate", ADAPTER, *where)
    assert evaluated.code == 3
    assert f"'{ADAPTER}' is damaged: {file}" in evaluated.err


def test_white_space_is_the_only_harmless_damage_there_is(pair):
    """Every byte of a manifest is tried with every bit that can make white space of it, or of white space."""
    path = pair.root / ADAPTER / MANIFEST
    sound = path.read_bytes()
    adapter: Artifact = pair.get(ADAPTER)
    for place, byte in enumerate(sound):
        if byte not in b" \n":
            continue
        other = b"\n" if byte == ord(" ") else b" "
        path.write_bytes(sound[:place] + other + sound[place + 1 :])
        inside = json.loads(sound, object_pairs_hook=list) != _pairs(path)
        if inside:
            with pytest.raises(ArtifactError):
                pair.get(ADAPTER)
        else:
            assert pair.get(ADAPTER) == adapter
    path.write_bytes(sound)


def _pairs(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=list)
    except ValueError:
        return None
