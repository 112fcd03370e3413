"""Stages make the statistics of the same images once, and artifacts keep them once."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_mnist_cli.data.sources import load_digits, load_split
from lora_mnist_cli.models.densities import ClassStatistics
from lora_mnist_cli.registry.shared_statistics import STORE
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, finetune, sweep, train_base
from lora_mnist_cli.stages.banks.cut import AdapterRequest
from lora_mnist_cli.stages.banks.job import Answer, Files, Images, Job, Made, train_bank
from lora_mnist_cli.stages.banks.work import plan_jobs
from lora_mnist_cli.stages.merging import merge
from lora_mnist_cli.stages.records.resolving import resolve
from lora_mnist_cli.system.errors import LoraMnistError

FILE, FEATURES = "statistics.safetensors", "features.safetensors"
BASE, ADAPTER = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9-r2-a0.5"
CONFIG = AdapterConfig(epochs=1)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each calculation of statistics in this process."""
    made: list[int] = []
    fit = ClassStatistics.fit

    def counting(images: object, *given: object, **more: object) -> ClassStatistics:
        made.append(len(images))
        return fit(images, *given, **more)

    monkeypatch.setattr(ClassStatistics, "fit", counting)
    return made


def inodes(workspace: Workspace) -> dict[str, int]:
    return {path.parent.name: path.stat().st_ino for path in workspace.runs_dir.glob(f"*/{FILE}")}


def bytes_on_disk(folder: Path) -> int:
    """Of all files; one that has several names counts once."""
    return sum({(found := path.stat()).st_ino: found.st_size for path in folder.rglob("*") if path.is_file()}.values())


@pytest.mark.parametrize("workers", [None, 2])
def test_a_sweep_keeps_one_file_per_seed(small, monkeypatch, workers):
    monkeypatch.setattr("lora_mnist_cli.stages.banks.cut.WORTH_A_PROCESS", 1)
    runtime = Runtime(accelerator="cpu", backend="processes" if workers else "local", workers=workers)
    workspace = dataclasses.replace(small, runtime=runtime)
    before = bytes_on_disk(small.runs_dir)
    made = sweep([1, 3, 4], seeds=[1, 2], config=CONFIG, workspace=workspace, name="six")
    found = inodes(small)
    names = [row["artifact"] for row in made.details["results"]]
    assert len({found[name] for name in names}) == 2
    assert len({found[name] for name in names if name.endswith("-s1")}) == 1
    size = small.registry.get(names[0]).files[FILE]["bytes"]
    rest = sum(
        entry["bytes"] for name in names for file, entry in small.registry.get(name).files.items() if file != FILE
    )
    manifests = sum((small.runs_dir / name / "artifact.json").stat().st_size for name in [*names, "six"])
    results = sum(entry["bytes"] for entry in made.files.values())
    assert bytes_on_disk(small.runs_dir) - before - manifests - rest - results < 2.1 * size
    assert not any(verdict.problems for verdict in verify(small.registry))


def test_a_second_adapter_of_the_same_images_calculates_nothing(small, fits):
    finetune(CONFIG, workspace=small, name="first", lr=0.01, seed=3)
    finetune(CONFIG, workspace=small, name="second", lr=0.02, seed=3)
    assert fits == [200]
    finetune(CONFIG, workspace=small, name="third", lr=0.02, seed=4)
    train_base(BaseConfig(dataset="fashion-mnist", epochs=1, seed=4, digits=DigitSet.parse("5-9")), workspace=small)
    assert fits == [200, 200]
    found = inodes(small)
    assert found["first"] == found["second"]
    assert found["third"] == found["base-fashion-mnist-5-9-s4"] != found["first"]


def test_another_split_another_basis_and_other_digits_have_their_own(small, fits):
    for seed, more in enumerate(({}, {"val_split": 0.3}, {"digits": DigitSet.parse("5-8")}, {"protect": ("replay",)})):
        config = dataclasses.replace(CONFIG, seed=7, **more)
        finetune(config, workspace=small, name=f"own-{seed}")
    assert len({inodes(small)[f"own-{seed}"] for seed in range(4)}) == 4


def test_an_artifact_does_not_depend_on_what_is_shared(small, tmp_path):
    other = dataclasses.replace(small, runs_dir=Path(shutil.copytree(small.runs_dir, tmp_path / "other")))
    shutil.rmtree(other.runs_dir / STORE)
    one, two = (finetune(CONFIG, workspace=where, name="new", lr=0.01) for where in (small, other))
    assert (one.digest, one.files) == (two.digest, two.files)
    assert inodes(small)["new"] in {path.stat().st_ino for path in (small.runs_dir / STORE).iterdir()}


@pytest.mark.parametrize("content", [b"", b"other"])
def test_a_damaged_file_is_not_taken(small, fits, content):
    for path in (small.runs_dir / STORE).iterdir():
        path.write_bytes(content)
    before = small.registry.get(ADAPTER).read(FILE)  # in a copy of the folder, artifacts have files of their own
    made = finetune(CONFIG, workspace=small, name="new", lr=0.01)
    assert made.read(FILE) == before
    assert fits == [200]
    assert not any(verdict.problems for verdict in verify(small.registry))


@pytest.mark.parametrize("where", ["banks.work", "banks.job"])
def test_what_another_machine_made_is_not_taken_for_its_own(small, fits, monkeypatch, where):
    """A bank that asks there, and one that was trained there: its statistics are kept under that machine's name."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(f"lora_mnist_cli.stages.{where}.made_by", lambda: "another machine")
        finetune(CONFIG, workspace=small, name="first", lr=0.01, seed=3)
    finetune(CONFIG, workspace=small, name="second", lr=0.02, seed=3)
    assert fits == ([200] if where == "banks.work" else [200, 200])
    finetune(CONFIG, workspace=small, name="third", lr=0.03, seed=3)
    assert len(fits) == (1 if where == "banks.work" else 2)


def test_a_cluster_gets_no_statistics_of_this_machine(small):
    base = small.registry.get(BASE)
    bank = [AdapterRequest("new", resolve(dataclasses.replace(CONFIG, rank=3), base))]
    known = []
    for runtime in (Runtime(accelerator="cpu"), Runtime(accelerator="cpu", backend="ray")):
        jobs = plan_jobs(dataclasses.replace(small, runtime=runtime), base, bank)
        known.append(list(jobs.task(bank)[0].known))
    assert known == [[(0.2, 0)], []]


def test_forcing_trains_again_and_keeps_one_file(small, fits):
    made = finetune(CONFIG, workspace=small, name="new", seed=5)
    again = finetune(CONFIG, workspace=small, name="new", seed=5, force=True)
    assert made.files == again.files
    assert fits == [200]
    assert (again.path / FILE).stat().st_nlink == 2


def test_a_merged_base_shares_its_adapters_file(small):
    merge(ADAPTER, workspace=small, merged="merged")
    assert inodes(small)["merged"] == inodes(small)[ADAPTER]


class TestOneBank:
    @pytest.fixture
    def train(self, small: Workspace) -> Callable[..., Answer]:
        base, digits = small.registry.get(BASE), DigitSet(range(5, 10))
        images = Images(
            load_digits("fashion-mnist", "train", digits, small.data_dir),
            load_split("fashion-mnist", "test", small.data_dir),
        )

        def call(made: Made, known: dict[tuple[float, int], Files], **more: object) -> Answer:
            config = resolve(dataclasses.replace(CONFIG, **more), base)
            job = Job(
                "one", base.read("model.safetensors"), (16, 12), "0-4", tuple(base.details["pixel_stats"]),
                (config.to_json(),), 4, Runtime(accelerator="cpu"), known=known,
            )  # fmt: skip
            return train_bank(job, images, made=made)

        return call

    def test_what_is_known_goes_through_as_it_is(self, train, fits):
        known = {FILE: b"known", FEATURES: b"known too"}
        (member,) = train({}, {(0.2, 0): known}).members
        assert (member.statistics, fits) == (known, [])

    def test_of_a_file_that_is_known_only_the_other_is_made(self, train, fits, small):
        (member,) = train({}, {(0.2, 0): {FILE: b"known"}}).members
        whole = small.registry.get(ADAPTER)
        assert (member.statistics, fits) == ({FILE: b"known", FEATURES: whole.read(FEATURES)}, [])

    def test_the_next_bank_of_a_process_takes_what_the_one_before_has_made(self, train, fits, small):
        made: Made = {}
        first, second = (train(made, {}, rank=rank).members[0].statistics for rank in (1, 2))
        assert first == second == {file: small.registry.get(ADAPTER).read(file) for file in (FILE, FEATURES)}
        assert fits == [200]
        train(made, {}, seed=1)
        assert fits == [200, 200]
        assert len(made) == 1


def test_a_failing_stage_leaves_what_was_there(small, monkeypatch):
    before = sorted(small.runs_dir.rglob("*"))
    with pytest.raises(LoraMnistError):
        finetune(CONFIG, workspace=small, name="new", lr=1e30, seed=6)
    assert sorted(small.runs_dir.rglob("*")) == before
