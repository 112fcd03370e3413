"""How listing and finding grow with the number of artifacts: whole processes, with a warm file cache.

Run it from anywhere: ``python benchmarks/registry_scale.py --counts 100,1000,10000 --rounds 5``.

The artifacts are real ones, tiny, published through the registry's own manifest code; adapters on one base. Figures of
commands are of a whole process, from the start of the interpreter to its end, with its output read and thrown away. The
help of an empty Typer program stands beside them: it is what any command costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from lora_mnist_cli.registry.artifact import Parent, Settings, read_artifact
from lora_mnist_cli.registry.digests import content_digest, seal_of, sha256
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet

EMPTY_TYPER = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None: ...\napp()"
DATA = {"name": "mnist", "digest": "sha256:" + 64 * "0"}
PUBLISHED, READ = "one more published", "one read and checked (processor's time)"
SUBSETS = [{"digits": d, "count": 5000, "accuracy": 0.5, "loss": 1.0} for d in ("0-4", "5-9", "0-9")]


def fill(root: Path, count: int) -> None:
    """Put a base and ``count - 1`` adapters on it into a registry.

    The base is published as any is. The adapters are written in its form without being flushed one by one: what is
    measured is reading.
    """
    registry = Registry(root)
    with registry.staging("base-0-4") as folder:
        (folder / "model.safetensors").write_bytes(b"0" * 100)
        base = registry.publish(
            folder, Settings("base", {"digits": "0-4", "seed": 0}, DATA), scores={"subsets": SUBSETS, "per_digit": []},
            details={"layers": {"fc1": [784, 10]}, "pixel_stats": [0.1307, 0.3081]}, environment={}, wall_seconds=1.0,
        )  # fmt: skip
    template = json.loads((base.path / MANIFEST).read_text(encoding="utf-8"))
    for i in range(1, count):
        rank, seed = 2 ** (i % 7), i // 7
        name = f"lora-5-9-r{rank}-s{seed}"
        config = AdapterConfig(rank=rank, seed=seed, digits=DigitSet(range(5, 10)), target_layers=("fc1",)).to_json()
        settings = Settings("adapter", config, DATA, (Parent("base", base.name, base.digest),))
        content = f"{i:0100d}".encode()
        files = {"adapter_model.safetensors": {"bytes": len(content), "sha256": sha256(content)}}
        manifest = template | {
            "name": name, "kind": "adapter", "files": files, "config": config, "fingerprint": settings.fingerprint(),
            "digest": content_digest(settings.fingerprint(), files),
            "created": f"2026-01-01T{i // 3600:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000000+00:00",
            "details": {"base_digits": "0-4", "trainable_parameters": rank * 794},
            "parents": [{"role": "base", "name": base.name, "digest": base.digest}],
        }  # fmt: skip
        manifest["seal"] = seal_of(manifest)
        folder = root / name
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(content)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def publication(root: Path, number: int) -> float:
    """Publish an adapter more; return the wall time in seconds."""
    registry = Registry(root)
    base = registry.get("base-0-4")
    config = AdapterConfig(seed=number, digits=DigitSet(range(5, 10)), target_layers=("fc1",)).to_json()
    settings = Settings("adapter", config, DATA, (Parent("base", base.name, base.digest),))
    start = time.perf_counter()
    with registry.staging(f"more-{number}", settings.parents) as folder:
        (folder / "adapter_model.safetensors").write_bytes(bytes(100))
        details = {"base_digits": "0-4", "trainable_parameters": 8 * 794}
        registry.publish(folder, settings, scores={}, details=details, environment={}, wall_seconds=1.0)
    return time.perf_counter() - start


def reading(root: Path) -> float:
    """Read all artifacts, up to a thousand; return the processor's time for one in seconds."""
    folders = [root / name for name in Registry(root).names()[:1000]]
    start = time.process_time()
    for folder in folders:
        read_artifact(folder)
    return (time.process_time() - start) / len(folders)


def seconds(command: list[str], root: Path) -> float:
    """Wall time of a whole process."""
    start = time.perf_counter()
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"LORA_MNIST_RUNS": str(root)},
    )
    return time.perf_counter() - start


def main() -> None:
    """Measure, print the table."""
    parser = argparse.ArgumentParser(description="Time listing and finding artifacts.")
    parser.add_argument("--counts", default="100,1000,10000")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    program = [sys.executable, "-m", "lora_mnist_cli"]
    calls = {
        "`runs list`": [*program, "runs", "list"],
        "`runs list --json`": [*program, "runs", "list", "--json"],
        "`runs latest`": [*program, "runs", "latest"],
        "`--help`": [*program, "--help"],
        "an empty Typer program's `--help`": [sys.executable, "-c", EMPTY_TYPER, "--help"],
    }
    lines = ["| artifacts | command | n | median | min–max |", "|---:|---|---:|---:|---:|"]
    for count in map(int, options.counts.split(",")):
        with TemporaryDirectory() as folder:
            root = Path(folder) / "runs"
            fill(root, count)
            publication(root, count)  # the first one in a large folder reads all creation times
            times: dict[str, list[float]] = {what: [] for what in [*calls, PUBLISHED, READ]}
            for i in range(options.rounds):
                for what, command in calls.items():
                    times[what].append(seconds(command, root))
                times[PUBLISHED].append(publication(root, count + i + 1))
                times[READ].append(reading(root))
        for what, measured in times.items():
            low, middle, high = (f"{time:.3g}" for time in (min(measured), median(measured), max(measured)))
            lines.append(f"| {count:,} | {what} | {len(measured)} | {middle} s | {low}–{high} s |")
            print(lines[-1], file=sys.stderr, flush=True)
    print("\n".join(lines))
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores; Python {platform.python_version()}, Typer {version('typer')}."
    )


if __name__ == "__main__":
    main()
