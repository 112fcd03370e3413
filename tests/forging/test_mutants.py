"""A thousand forged artifacts and PEFT folders, of which one thing was changed and resealed, through all commands."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from forging import laws, mutants
from hypothesis import strategies as st
from PIL import Image

from lora_mnist_cli.registry.artifact import Settings
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.stages import Workspace, combine, finetune, import_adapter, merge, sweep, train_base

BASE, ONE, TWO, SWEEP = "base", "one", "two", "some"
FAMILY = [BASE, ONE, TWO, SWEEP, "grid", "dora", "full", "merged", "later", "combined", "imported", "report"]


@pytest.fixture(scope="session")
def family(make_once: Callable[..., Path], small_data: Path) -> Path:
    """An artifact of every kind, on few images. Don't write to it."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs", small_data)
        base = train_base(
            BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), batch_size=100, epochs=1), name=BASE,
            workspace=workspace,
        )  # fmt: skip
        config = AdapterConfig(epochs=1, rank=2)
        for name, more in ((ONE, {}), (TWO, {"seed": 1}), ("dora", {"method": "dora"}), ("full", {"method": "full"})):
            finetune(config, base=BASE, name=name, workspace=workspace, **more)
        sweep([1, 2], seeds=[0, 1], config=config, base=BASE, name=SWEEP, workspace=workspace)
        grid = {"methods": ["lora", "full"], "lrs": [1e-3, 1e-2]}
        sweep([1], grid=grid, config=config, base=BASE, name="grid", workspace=workspace)
        merge(ONE, merged="merged", workspace=workspace)
        finetune(config, base="merged", name="later", workspace=workspace)
        combine([ONE, TWO], name="combined", workspace=workspace)
        import_adapter(workspace.runs_dir / ONE, base=BASE, name="imported", workspace=workspace)
        settings = Settings("report", {"seed": 0}, base.settings.dataset)
        with workspace.registry.staging("report") as staged:
            row = {"what": "x", "digits": "0-4", "measure": "accuracy", "study": 0.5, "here": 0.5, "difference": 0.0}
            rest: dict[str, Any] = {"scores": {}, "environment": {}, "wall_seconds": 0.0}
            workspace.registry.publish(staged, settings, details={"rows": [row]}, **rest)

    return make_once("family", make) / "runs"


@pytest.fixture
def box(family: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the family in memory, a picture beside it; commands read both."""
    memory = Path("/dev/shm")
    outer = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path, prefix="lora-mnist-"))
    shutil.copytree(family, outer / "runs", ignore=shutil.ignore_patterns(".statistics"))
    monkeypatch.chdir(outer)
    monkeypatch.setenv("LORA_MNIST_DATA", str(small_data))
    picture = np.zeros((28, 28), np.uint8)
    picture[4:24, 12:16] = 255
    Image.fromarray(picture).save("digit.png")
    yield outer / "runs"
    shutil.rmtree(outer, ignore_errors=True)


def calls(name: str) -> tuple[list[list[str]], list[list[str]]]:
    """The commands that only read manifests, and those that compute or draw, for an artifact."""
    listing = [
        ["runs", "list", "--json"], ["runs", "list"], ["runs", "show", name, "--json"], ["runs", "show", name],
        ["runs", "verify", "--json"], ["runs", "verify", name], ["runs", "lineage", name], ["runs", "latest", "--json"],
        ["runs", "diff", name, TWO, "--json"], ["runs", "diff", SWEEP, name], ["runs", "path", name],
        ["runs", "export", name, "a.zip", "--force"], ["gate", name, "--require", "5-9=0.1", "--junit", "j.xml"],
        ["gate", SWEEP, "--require", "3=0.1", "--json"], ["gate", name, "--require", "3=0.1", "--plan"],
        ["compare", name, "grid", "--json"], ["compare", SWEEP, "some", "--digits", "3"],
        ["plot", "ranks", name, "--json"], ["plot", "learning-rate", "grid"], ["plot", "history", name],
        ["finetune", "--base", BASE, "--rank", "2", "--epochs", "1", "--name", ONE, "--json"],
        ["sweep", "--base", BASE, "--ranks", "1,2", "--seeds", "0,1", "--epochs", "1", "--name", SWEEP, "--json"],
    ]  # fmt: skip
    computing = [
        ["evaluate", name, "--json"], ["evaluate", name, "--alpha", "0,1,1e30", "--json"],
        ["forgetting", name, "--json"], ["predict", "digit.png", "--artifact", name, "--json"],
        ["predict", "digit.png", "--route", "--expert", BASE, "--expert", name, "--json"],
        ["evaluate", name, "--route", "--json"], ["merge", name, "--json"], ["compare", ONE, name, "--json"],
        ["explore", name, "--json"],
        *(["combine", name, TWO, "--method", method, "--json"] for method in ("linear", "svd", "ties", "dare")),
        *(["export", name, "--format", form, "--force", "--json"] for form in ("safetensors", "peft")),
        ["import-adapter", f"runs/{name}", "--base", BASE, "--name", "taken"],
        ["finetune", "--base", name, "--rank", "1", "--epochs", "0", "--json"],
        *(["plot", kind, name] for kind in ("alpha", "confusion", "forgetting", "predictions", "spectrum", "tradeoff")),
    ]  # fmt: skip
    return listing, computing


def zipped(runs: Path) -> Path:
    """All artifacts in a file, as an export writes them."""
    with zipfile.ZipFile("all.zip", "w") as archive:
        for part in sorted(runs.glob("[!.]*/**/*")):
            if part.is_file():
                archive.write(part, part.relative_to(runs).as_posix())
    return Path("all.zip")


def restore(box: Path, family: Path, name: str) -> None:
    """Make the copy the family again, of which one artifact was changed and others were made."""
    names = {path.name for path in family.iterdir()}
    for made in [path for path in box.iterdir() if path.name not in names or path.name == name]:
        shutil.rmtree(made) if made.is_dir() else made.unlink()
    shutil.copytree(family / name, box / name)


def tried(capfd: Any, box: Path, name: str, some: random.Random, most: int) -> list[str]:
    """Run commands over a changed artifact, at most so many; returns the laws that were broken."""
    listing, computing = calls(name)
    broken = []
    for arguments in [*some.sample(listing, most - most // 3), *some.sample(computing, most // 3)]:
        _, told, problems = laws.call(capfd, *arguments)
        broken += [f"{' '.join(arguments)}: {problem}\n{told[-600:]}" for problem in problems]
    sound, told, problems = laws.call(capfd, "runs", "verify")
    fresh = Path("fresh")
    taken, refusal, more = laws.call(capfd, "runs", "import", zipped(box), "--runs-dir", fresh)
    if taken == 0:
        kept, told, _ = laws.call(capfd, "runs", "verify", "--runs-dir", fresh)
        broken += [f"imported, and then refused: {told}"] if kept else []
    elif sound == 0:
        broken.append(f"verify passes what import refuses: {refusal}")
    shutil.rmtree(fresh, ignore_errors=True)
    return broken + problems + more


def check_mutants(
    capfd: Any, box: Path, family: Path, forge: Callable[..., None], count: int, seed: int, most: int = 12
) -> None:
    """Try so many changes, and fail with all laws that were broken."""
    found = []
    settings = hypothesis.settings(max_examples=count, phases=[hypothesis.Phase.generate], report_multiple_bugs=False)

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(data=st.data())
    def every(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(FAMILY))
        change = data.draw(mutants.changes(family / name))
        some = data.draw(st.randoms(use_true_random=False))
        try:
            if mutants.forge_change(forge, box / name, change):
                broken = tried(capfd, box, name, some, most)
                found.extend(f"{name} {change[:3]} {change[3]!r:.100}: {problem}" for problem in broken)
        finally:
            restore(box, family, name)

    every()
    assert not found, "\n".join(found)


def test_no_command_fails_over_what_a_forger_changed(capfd, box, family, forge):
    check_mutants(capfd, box, family, forge, 30, 0, most=6)


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_no_command_fails_over_a_hundred_more(capfd, box, family, forge, seed):
    check_mutants(capfd, box, family, forge, 100, seed)


def check_options(capfd: Any, box: Path, count: int, seed: int) -> None:
    """Change an option of a PEFT folder so many times and import it; fail with all laws that were broken."""
    folder = Path(shutil.copytree(box / ONE, "peft"))
    options = json.loads((folder / "adapter_config.json").read_text())
    found = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, phases=[hypothesis.Phase.generate])
    @hypothesis.given(name=st.sampled_from([*options, "alpha_pattern", "rank_pattern", "x"]), value=mutants.ANY)
    def every(name: str, value: Any) -> None:
        with contextlib.suppress(ValueError):  # what Python does not write as JSON
            (folder / "adapter_config.json").write_text(json.dumps(options | {name: value}))
        call = ["import-adapter", folder, "--base", BASE, "--name", "taken", "--force", "--json"]
        code, _, broken = laws.call(capfd, *call)
        found.extend(f"{name}: {value!r:.100}: {problem}" for problem in broken)
        if code == 0 and (told := laws.call(capfd, "runs", "verify", "taken"))[0]:
            found.append(f"{name}: {value!r:.100}: imported, and then refused: {told[1]}")

    every()
    assert not found, "\n".join(found)


def test_no_import_fails_over_what_a_stranger_says_of_an_adapter(capfd, box):
    check_options(capfd, box, 40, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_import_fails_over_a_hundred_more(capfd, box, seed):
    check_options(capfd, box, 100, seed)


@pytest.mark.slow
def test_the_family_is_sound(capfd, box, family):
    for name in FAMILY:
        for arguments in itertools.chain(*calls(name)):
            assert laws.call(capfd, *arguments)[2] == [], arguments
    assert laws.call(capfd, "runs", "verify")[0] == 0
