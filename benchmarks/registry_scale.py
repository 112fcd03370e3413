"""How listing and finding grow with the number of artifacts: whole processes, with a warm file cache.

Run it from anywhere: ``python benchmarks/registry_scale.py --counts 100,1000,10000 --rounds 5``.

The artifacts are real ones, tiny, published through the registry's own manifest code; adapters on one base. Figures of
commands are of a whole process, from the start of the interpreter to its end, with its output read and thrown away. The
help of an empty Typer program stands beside them: it is what any command costs.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import MEASURED, TOOL, hardware, in_turn, measured, options, process, report, table, timed

from lora_mnist_cli.registry.artifact import Parent, Settings, read_artifact
from lora_mnist_cli.registry.digests import content_digest, seal_of, sha256
from lora_mnist_cli.registry.manifest_types import MANIFEST
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet

EMPTY_TYPER = "import typer\napp = typer.Typer()\n@app.command()\ndef main() -> None: ...\napp()"
DATA = {"name": "mnist", "digest": "sha256:" + 64 * "0"}
PUBLISHED, READ = "one more published", "all read and checked, up to 1,000"
SUBSETS = [{"digits": d, "count": 5000, "accuracy": 0.5, "loss": 1.0} for d in ("0-4", "5-9", "0-9")]
SCORES = {
    "subsets": SUBSETS, "per_digit": [{"digit": i, "count": 1000, "accuracy": 0.5, "loss": 1.0} for i in range(10)]
}  # fmt: skip


def fill(root: Path, count: int) -> None:
    """Put a base and ``count - 1`` adapters on it into a registry.

    The base is published as any is. The adapters are written in its form without being flushed one by one: what is
    measured is reading.
    """
    registry = Registry(root)
    with registry.staging("base-0-4") as folder:
        (folder / "model.safetensors").write_bytes(b"0" * 100)
        base = registry.publish(
            folder, Settings("base", BaseConfig(hidden_sizes=(64,)).to_json(), DATA), scores=SCORES,
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


def publication(root: Path, number: int) -> None:
    """Publish an adapter more."""
    registry = Registry(root)
    base = registry.get("base-0-4")
    config = AdapterConfig(seed=number, digits=DigitSet(range(5, 10)), target_layers=("fc1",)).to_json()
    settings = Settings("adapter", config, DATA, (Parent("base", base.name, base.digest),))
    with registry.staging(f"more-{number}", settings.parents) as folder:
        (folder / "adapter_model.safetensors").write_bytes(bytes(100))
        details = {"base_digits": "0-4", "trainable_parameters": 8 * 794}
        registry.publish(folder, settings, scores=SCORES, details=details, environment={}, wall_seconds=1.0)


def reading(root: Path) -> None:
    """Read and check all artifacts, up to a thousand."""
    for name in Registry(root).names()[:1000]:
        read_artifact(root / name)


def main() -> None:
    """Measure, and print the table."""
    parser = options(__doc__, rounds=5)
    parser.add_argument("--counts", default="100,1000,10000")
    given = parser.parse_args()
    calls = {
        "`runs list`": [*TOOL, "runs", "list"],
        "`runs list --json`": [*TOOL, "runs", "list", "--json"],
        "`runs latest`": [*TOOL, "runs", "latest"],
        "`--help`": [*TOOL, "--help"],
        "an empty Typer program's `--help`": [sys.executable, "-c", EMPTY_TYPER, "--help"],
    }
    rows = []
    for size in map(int, given.counts.split(",")):
        with TemporaryDirectory() as folder:
            root, numbers = Path(folder) / "runs", count(size)
            fill(root, size)
            publication(root, next(numbers))  # the first one in a large folder reads all creation times
            more = {"LORA_MNIST_RUNS": str(root)}
            ways = {what: partial(process, what, command, more=more) for what, command in calls.items()}
            ways[PUBLISHED] = lambda root=root, numbers=numbers: timed(
                PUBLISHED, partial(publication, root, next(numbers))
            )
            ways[READ] = partial(timed, READ, partial(reading, root))
            timings = in_turn(ways, given.rounds)
        rows += [(f"{size:,}", what, *measured(each, places=4)) for what, each in timings.items()]
    times = table(("artifacts", "command", *MEASURED), rows, text=2)
    report(given, times, f"{hardware()} Typer {version('typer')}.")


if __name__ == "__main__":
    main()
