"""Artifacts without any training: fixtures that publish a few bytes, publish a sweep's accuracies, forge a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.settings.config import BaseConfig

BASE_SETTINGS = BaseConfig().to_json()
SCORES = {
    "subsets": [], "per_digit": [{"digit": i, "count": 10, "accuracy": 1.0, "loss": 0.0} for i in range(10)]
}  # fmt: skip
"""Of a model that gets every image right."""


def files(folder: Path) -> list[str]:
    """The paths of the files in a folder, hidden ones too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def subsets(artifact: Any) -> dict[str, float]:
    """The accuracy that an artifact was published with, by digit set."""
    return {row["digits"]: row["accuracy"] for row in artifact.scores["subsets"]}


def everything(root: Path) -> list[str]:
    """The paths of all that is in a folder, hidden things too."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


@pytest.fixture
def publish() -> Callable[..., Any]:
    """Publishes an artifact of a few bytes, without any training: ``publish(registry, "base-0-4", config={…})``."""
    from lora_mnist_cli.registry.artifact import Settings
    from lora_mnist_cli.settings.adapter_config import AdapterConfig
    from lora_mnist_cli.settings.digits import DigitSet

    row = {"artifact": "x", "rank": 1, "seed": 0, "trainable_parameters": 1, "subsets": []}
    details = {
        "base": {"layers": {"fc1": [2, 2]}, "pixel_stats": [0.1, 0.3]},
        "adapter": {"base_digits": "0-4", "trainable_parameters": 1},
        "sweep": {"results": [row]},
        "report": {"rows": []},
    }
    adapter = AdapterConfig(digits=DigitSet(range(5, 10)), rank=1, target_layers=("fc1",)).to_json()
    shared = {key: value for key, value in adapter.items() if key not in ("rank", "seed")}
    needed = {
        "base": BASE_SETTINGS,
        "adapter": adapter,
        "sweep": shared | {"ranks": [1], "seeds": [0]},
    }
    nowhere = "sha256:" + 64 * "0"

    def make(
        registry: Any, name: str, *, kind: str = "base", config: Any = None, parents: Any = (), dataset: str = "mnist",
        files: Any = None, force: bool = False, scores: Any = None, more: Any = None, seconds: float = 1.5,
    ) -> Any:  # fmt: skip
        settings = Settings(
            kind, needed.get(kind, {}) | (config or {}), {"name": dataset, "digest": nowhere}, tuple(parents)
        )
        with registry.staging(name) as folder:
            for file, content in ({"weights": b"1234"} if files is None else files).items():
                (folder / file).parent.mkdir(exist_ok=True)
                (folder / file).write_bytes(content)
            return registry.publish(
                folder,
                settings,
                scores=scores or (SCORES if kind in ("base", "adapter") else {}),
                details=details[kind] | (more or {}),
                environment={},
                wall_seconds=seconds,
                force=force,
            )

    return make


@pytest.fixture
def sweeper(tmp_path: Path, publish: Callable[..., Any]) -> Callable[..., Any]:
    """Publishes a sweep of given accuracies in ``tmp_path / "runs"``: ``sweeper("a", {8: {0: 0.9, 1: None}})``, by rank
    and seed; None is a run that failed. It is on a base of its data set where its parents have none.
    """
    from lora_mnist_cli.registry.artifact import Parent
    from lora_mnist_cli.registry.registry import Registry

    def make(
        name: str, ranks: Any, *, digits: str = "5-9", images: int = 1000, dataset: str = "mnist", parents: Any = ()
    ) -> Any:
        results = [
            {
                "artifact": f"{name}-r{rank}-s{seed}", "rank": rank, "seed": seed, "trainable_parameters": rank,
                "failed": "the loss became nan in epoch 1" if accuracy is None else None,
                "subsets": [{"digits": digits, "count": images, "accuracy": accuracy,
                             "loss": None if accuracy is None else 1 - accuracy}],
            }
            for rank, seeds in ranks.items()
            for seed, accuracy in seeds.items()
        ]  # fmt: skip
        config = {"digits": digits, "ranks": list(ranks), "seeds": list(next(iter(ranks.values())))}
        registry = Registry(tmp_path / "runs")
        if not any(parent.role == "base" for parent in parents):
            known = f"base-of-{dataset}"
            base = registry.get(known) if registry.has(known) else publish(registry, known, dataset=dataset)
            parents = [Parent("base", base.name, base.digest), *parents]
        return publish(
            registry, name, kind="sweep", config=config, more={"results": results}, parents=parents, dataset=dataset
        )

    return make


@pytest.fixture
def forge() -> Callable[..., None]:
    """Edits a manifest and makes its digests and seal fit again, as a forger would: ``forge(folder, change)``.

    ``files`` takes other content for some files, whose sizes and digests are made to fit as well; None drops one.
    """
    import contextlib

    from lora_mnist_cli.registry.artifact import Parent, Settings
    from lora_mnist_cli.registry.digests import content_digest, seal_of, sha256

    def make(folder: Path, change: Callable[[Any], Any] = lambda _: None, files: Any = None) -> None:
        manifest = json.loads((folder / "artifact.json").read_text())
        for file, content in (files or {}).items():
            manifest["files"].pop(file, None)
            if content is not None:
                (folder / file).write_bytes(content)
                manifest["files"][file] = {"bytes": len(content), "sha256": sha256(content)}
        change(manifest)
        with contextlib.suppress(Exception):  # there may be no digest of what the change has made of it
            parents = tuple(Parent(**parent) for parent in manifest["parents"])
            settings = Settings(
                manifest["kind"], manifest["config"], manifest["dataset"], parents, manifest["training_code"]
            )
            manifest["fingerprint"] = settings.fingerprint()
            manifest["digest"] = content_digest(manifest["fingerprint"], manifest["files"])
        manifest["seal"] = seal_of(manifest)
        (folder / "artifact.json").write_text(json.dumps(manifest))

    return make
