"""Artifacts of a few bytes that are sound in everything, weights included; published without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from lora_mnist_cli.models.methods import PEFT_PREFIX
from lora_mnist_cli.registry.artifact import Artifact, Parent, Settings
from lora_mnist_cli.registry.file_names import ADAPTER_FILE, STATISTICS_FILE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.registry.shared_statistics import find_statistics, write_shared
from lora_mnist_cli.registry.staged import Staged
from lora_mnist_cli.registry.weights import BASE_FILE
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.system.files import machine_errors

RECIPE = 64 * "1"
DATASET = {"name": "mnist", "digest": "sha256:" + 64 * "0"}
LAYERS = {"fc1": [784, 1], "fc2": [1, 10]}


def safetensors(shapes: dict[str, tuple[int, ...]], fill: int) -> bytes:
    """A weight file with all bytes of all tensors the same, which is a float32 in any case."""
    header: dict[str, Any] = {}
    end = 0
    for key, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[key] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes([fill % 100]) * end


def scores_of(settings: Settings) -> dict[str, Any]:
    """The scores that a base or adapter has; a report has none."""
    if settings.kind == "report":
        return {}
    row = {"count": 10, "accuracy": 1.0, "loss": 0.0}
    return {"subsets": [], "per_digit": [{"digit": digit, **row} for digit in range(10)]}


def put(
    registry: Registry, name: str, settings: Settings, files: dict[str, bytes], details: dict[str, Any], *,
    force: bool = False,
) -> Artifact:  # fmt: skip
    """Do what a stage does: nothing where it is up to date, else make and publish it."""
    if found := registry.up_to_date(name, settings, force=force):
        return found
    with registry.staging(name, settings.parents) as folder:
        with machine_errors(f"can't write {name}"):
            for file, content in files.items():
                (folder / file).parent.mkdir(exist_ok=True)
                if file == STATISTICS_FILE:
                    write_shared(content, RECIPE, folder / file, registry.root)
                else:
                    (folder / file).write_bytes(content)
        return registry.publish(
            folder, settings, scores=scores_of(settings), details=details, environment={}, wall_seconds=0.0, force=force
        )


def base(registry: Registry, name: str = "base", seed: int = 0, *, force: bool = False) -> Artifact:
    """A base of 784 → 1 → 10."""
    return put(registry, name, *base_record(seed), force=force)


def base_record(seed: int) -> tuple[Settings, dict[str, bytes], dict[str, Any]]:
    """What :func:`base` publishes."""
    config = BaseConfig(hidden_sizes=(1,), seed=seed).to_json()
    shapes: dict[str, tuple[int, ...]] = {
        "fc1.weight": (1, 784), "fc1.bias": (1,), "fc2.weight": (10, 1), "fc2.bias": (10,),
    }  # fmt: skip
    files = {BASE_FILE: safetensors(shapes, seed), "tensorboard/events": b"log"}
    details = {"layers": LAYERS, "pixel_stats": [0.1, 0.3]}
    return Settings("base", config, DATASET), files, details


def statistics(digit: int = 5) -> bytes:
    """A file of statistics of one digit, with a single component."""
    import numpy as np
    from safetensors.numpy import save

    one, basis = np.ones(1, np.float32), np.eye(784, 1, dtype=np.float32)
    counts = dict.fromkeys(("counts", "components"), np.ones(1, np.int64))
    small = {"centres": np.zeros((1, 1), np.float16), "directions": np.ones((1, 1, 1), np.float16)}
    known = {"mean": basis[:, 0], "basis": basis, "weights": one, "noise": one}
    return save({"digits": np.array([digit]), **counts, **small, **known})


def adapter(
    registry: Registry, name: str, on: str, seed: int = 0, *, force: bool = False, shares: bool = False
) -> Artifact:
    """An adapter of rank 1 on the last layer of a base of :func:`base`; it may share its statistics with others."""
    parent = registry.get(on, "base")
    config = AdapterConfig(digits=DigitSet.parse("5-9"), rank=1, target_layers=("fc2",), seed=seed).to_json()
    prefix = f"{PEFT_PREFIX}fc2."
    files = {ADAPTER_FILE: safetensors({f"{prefix}lora_A.weight": (1, 1), f"{prefix}lora_B.weight": (10, 1)}, seed)}
    if shares:
        files[STATISTICS_FILE] = find_statistics(registry.root, RECIPE) or statistics()
    settings = Settings("adapter", config, DATASET, (Parent("base", parent.name, parent.digest),))
    details = {"trainable_parameters": 11, "base_digits": "0-4"}
    return put(registry, name, settings, files, details, force=force)


def report(
    registry: Registry, name: str, seed: int = 0, parents: Sequence[Artifact] = (), *, force: bool = False
) -> Artifact:
    """A report on whatever it was made from; it has no weights."""
    return put(registry, name, *record(seed, parents), force=force)


def record(seed: int, parents: Sequence[Artifact] = ()) -> tuple[Settings, dict[str, bytes], dict[str, Any]]:
    """What :func:`report` publishes."""
    lineage = tuple(Parent("input", parent.name, parent.digest) for parent in parents)
    return Settings("report", {"seed": seed}, DATASET, lineage), {"text": b"%d" % seed}, {"rows": []}


def together(
    registry: Registry, names: Sequence[str], seed: int = 0, parents: Sequence[Artifact] = (), *, force: bool = False
) -> None:
    """Publish reports under one flush, those that are not there; the seed goes up from one to the next."""
    records = {name: record(seed + i, parents) for i, name in enumerate(names)}
    missing = {n: made for n, made in records.items() if registry.up_to_date(n, made[0], force=force) is None}
    if not missing:
        return
    with registry.staging_all(list(missing), next(iter(missing.values()))[0].parents) as folders:
        staged = []
        for folder, (settings, files, details) in zip(folders, missing.values(), strict=True):
            with machine_errors(f"can't write {folder.name}"):
                for file, content in files.items():
                    (folder / file).write_bytes(content)
            staged.append(Staged(folder, settings, {}, details, {}, 0.0))
        registry.publish_all(staged, force=force)
