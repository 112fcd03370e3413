"""Banks that other processes train: the same bytes, whoever dies on the way; and how grids are cut for them."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep
from lora_mnist_cli.stages.adapting import resolve
from lora_mnist_cli.stages.banks.backends import Ear, Processes, about_backend, memory, workers
from lora_mnist_cli.stages.banks.job import Images, Job, train_bank
from lora_mnist_cli.stages.banks.work import AdapterRequest, banks
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, MachineError

BASE = "base-fashion-mnist-0-4"
# So high that each seed is a cohort of its own.
RANKS = (120, 130)
CONFIG = AdapterConfig(epochs=2, batch_size=16)


@pytest.fixture(autouse=True)
def _a_bank_a_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_mnist_cli.stages.banks.work.ENOUGH", 1)


def in_processes(small: Workspace, count: int, reporter: Any) -> Workspace:
    runtime = Runtime(backend="processes", workers=count, accelerator="cpu")
    return dataclasses.replace(small, runtime=runtime, reporter=reporter)


def weights(workspace: Workspace, artifact: Any) -> dict[str, bytes]:
    registry = workspace.registry
    names = [row["artifact"] for row in artifact.details["results"]]
    return {name: registry.get(name).read("adapter_model.safetensors") for name in names}


class Killer:
    """A reporter that kills the process that trains a bank: as soon as it is there, or when the first steps are told.

    Args:
        recorder: hears all.
        bank: its number, from 1.
        times: how often.
    """

    def __init__(self, recorder: Any, bank: int, times: int, *, at_once: bool) -> None:
        self._recorder, self._start, self._times, self._at_once = recorder, f"bank {bank} ", times, at_once
        self._pid: int | None = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return getattr(self._recorder, name)

    def detail(self, text: str) -> None:
        self._recorder.detail(text)
        if text.startswith("process ") and self._start in text:
            self._pid = int(text.split()[1])
            if self._at_once:
                self._kill()

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        self._recorder.advance(steps, epoch, loss)
        self._kill()

    def _kill(self) -> None:
        if self._pid is not None and self._times:
            os.kill(self._pid, signal.SIGKILL)
            self._times -= 1
            self._pid = None


@pytest.mark.parametrize("limit", ["max\n", "1000000\n", None])
def test_a_container_has_no_more_memory_than_it_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str | None
) -> None:
    file = tmp_path / "memory.max"
    monkeypatch.setattr("lora_mnist_cli.stages.banks.backends._CONTAINER_MEMORY", file)
    machine = memory()
    assert machine is not None
    assert machine > 1_000_000
    if limit is not None:
        file.write_text(limit, encoding="ascii")
    assert memory() == (1_000_000 if limit == "1000000\n" else machine)


def test_processes_make_the_same_bytes_though_one_of_them_is_killed(
    small: Workspace, tmp_path: Path, recorder: Any
) -> None:
    other = dataclasses.replace(small, runs_dir=Path(shutil.copytree(small.runs_dir, tmp_path / "other")))
    here = sweep(RANKS, seeds=[0, 1, 2], config=CONFIG, workspace=other, name="wide")
    apart = in_processes(small, 2, Killer(recorder, 1, 1, at_once=False))
    there = sweep(RANKS, seeds=[0, 1, 2], config=CONFIG, workspace=apart, name="wide")
    assert weights(small, there) == weights(other, here)
    assert there.digest == here.digest
    assert there.details == here.details
    for row in there.details["results"]:
        one, two = small.registry.get(row["artifact"]), other.registry.get(row["artifact"])
        assert (one.scores, one.files, one.details) == (two.scores, two.files, two.details)
        assert one.environment == two.environment
    (warned,) = recorder.all("warn")
    assert "was ended by SIGKILL; bank 1 of 3, which it trained, is trained again" in warned
    # 13 steps an epoch and seed, in one progress, in which what was lost is taken back.
    assert recorder.all("begin") == [("6 adapters on 5-9", 2, 39)]
    assert sum(steps for steps, _, _ in recorder.all("advance")) == 2 * 39
    assert [epoch for epoch, _, _ in recorder.all("epoch_done")] == [1, 2]
    assert len(recorder.all("end")) == 1
    assert "training 6 adapters in 3 banks: 2 processes, 1 thread each" in recorder.all("detail")[0]
    assert not (small.runs_dir / ".staging").exists()


def test_a_bank_that_ends_every_process_is_lost_and_the_others_are_published(small: Workspace, recorder: Any) -> None:
    apart = in_processes(small, 1, Killer(recorder, 1, 3, at_once=True))
    before = set(small.registry.names())
    with pytest.raises(MachineError, match=r"r120, .*r130 could not be trained: its process was ended by SIGKILL"):
        sweep(RANKS, seeds=[0, 1], config=CONFIG, workspace=apart, name="wide")
    made = {f"lora-fashion-mnist-5-9-r{rank}-s1" for rank in RANKS}
    assert set(small.registry.names()) == before | made
    assert not (small.runs_dir / ".staging").exists()
    assert len(recorder.all("warn")) == 2

    # The same command makes the rest, here with the bytes that it would have had.
    whole = sweep(RANKS, seeds=[0, 1], config=CONFIG, workspace=small, name="wide")
    at_once = sweep(RANKS, seeds=[0, 1], config=CONFIG, workspace=small, name="wide", force=True)
    assert whole.digest == at_once.digest


def test_what_a_bank_complains_of_is_raised_in_the_driver() -> None:
    other = Job("some", b"", (4,), "0-4", (0.1, 0.3), (CONFIG.to_json(),), Runtime(), training_code=-1)
    task = (other, Images((_none(), _none()), (_none(), _none())))
    ear = Ear(_Nobody(), "some", [task])
    with pytest.raises(MachineError, match="training code") as caught:
        list(Processes(1).run([task], ear))
    assert "same version" in caught.value.hint


def test_errors_can_be_sent_between_processes() -> None:
    for error in (ArtifactError("it is gone", hint="make it", value=3), ConfigError(["one", "two"], hint="so")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)


def test_a_bank_is_trained_without_any_folder(small: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what it is given by value is used: it works where there is no data and no artifact."""
    from lora_mnist_cli.data.sources import load_digits, load_split

    base = small.registry.get(BASE)
    digits = DigitSet(range(5, 10))
    images = Images(
        load_digits("fashion-mnist", "train", digits, small.data_dir),
        load_split("fashion-mnist", "test", small.data_dir),
    )
    config = resolve(dataclasses.replace(CONFIG, rank=2, alpha=0.5, batch_size=64), base)
    job = Job(
        "one", base.read("model.safetensors"), (16, 12), "0-4", tuple(base.details["pixel_stats"]),
        (config.to_json(),), Runtime(accelerator="cpu"),
    )  # fmt: skip
    sent = pickle.loads(pickle.dumps((job, images)))
    made = small.registry.get("lora-fashion-mnist-5-9-r2")
    monkeypatch.setattr("lora_mnist_cli.data.sources._locate", None)
    (trained,) = train_bank(*sent).members
    assert trained.weights == made.read("adapter_model.safetensors")
    assert trained.statistics == made.read("statistics.safetensors")
    assert trained.history == (made.path / "history.csv").read_text()
    assert trained.scores == made.scores
    assert trained.failed is None


def test_a_grid_is_cut_where_a_cohort_ends_and_work_for_some_seconds_is_there(
    small: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lora_mnist_cli.training.bank.grouping import cohorts

    monkeypatch.setattr("lora_mnist_cli.stages.banks.work.ENOUGH", 64)
    base = small.registry.get(BASE)

    def cut(ranks: list[int], seeds: int, **changes: Any) -> list[list[str]]:
        config = dataclasses.replace(AdapterConfig(), **changes)
        wanted = [
            AdapterRequest(f"r{rank}-s{seed}", dataclasses.replace(config, rank=rank, seed=seed))
            for rank in ranks for seed in range(seeds)
        ]  # fmt: skip
        found = list(banks(wanted, base, 10_000))
        assert sorted(each.name for bank in found for each in bank) == sorted(each.name for each in wanted)
        # What decides an adapter's last places is its cohort, which is the same in the bank as in the whole.
        own = [{bank[m].name for m in members} for bank in found for members, _ in cohorts([e.config for e in bank])]
        whole = [{wanted[m].name for m in members} for members, _ in cohorts([each.config for each in wanted])]
        assert sorted(map(sorted, own)) == sorted(map(sorted, whole))
        return [[each.name for each in bank] for bank in found]

    study = [1, 2, 4, 8, 16, 32, 64]
    assert [len(bank) for bank in cut(study, 10)] == [14] * 5
    assert [len(bank) for bank in cut(study, 10, epochs=1)] == [70]
    assert [len(bank) for bank in cut([8], 32)] == [16, 16]
    assert [len(bank) for bank in cut([8], 10, dropout=0.1)] == [7, 3]
    assert cut([2, 1], 2) == [["r2-s0", "r1-s0", "r2-s1", "r1-s1"]]


def test_banks_stay_as_they_were_whichever_of_them_are_done(small: Workspace, recorder: Any) -> None:
    """Backends finish them in any order; those that are left must not be mixed in another way."""
    tight = dataclasses.replace(small, runtime=Runtime(bank_megabytes=1), reporter=recorder)
    whole = sweep([8, 20, 7], config=CONFIG, workspace=tight, name="wide")
    assert recorder.all("part") == [(1, 3), (2, 3), (3, 3)]
    for name in ("wide", "lora-fashion-mnist-5-9-r8", "lora-fashion-mnist-5-9-r7"):
        small.registry.remove(name)
    recorder.events.clear()
    again = sweep([8, 20, 7], config=CONFIG, workspace=tight, name="wide")
    assert recorder.all("part") == [(1, 2), (2, 2)]
    assert again.digest == whole.digest


def test_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_mnist_cli.stages.banks.backends.cores", lambda: 16)
    monkeypatch.setattr("shutil.which", lambda _: None)
    free = Runtime(backend="processes")
    assert workers(free, 100) == 16
    assert workers(free, 3) == 3
    assert workers(dataclasses.replace(free, threads=4), 100) == 4
    assert workers(dataclasses.replace(free, threads=32), 100) == 1
    assert workers(dataclasses.replace(free, workers=5), 100) == 5
    assert about_backend(free, 3) == "3 processes, 1 thread each, on a machine of 16 cores"
    assert about_backend(Runtime(threads=2), 3) == "1 process, 2 threads each, on a machine of 16 cores"


def test_banks_that_tell_at_the_same_time_are_one_progress(recorder: Any) -> None:
    images = Images((_none(20), _none(20)), (_none(), _none()))
    job = Job("some", b"", (4,), "0-4", (0.1, 0.3), (dataclasses.replace(CONFIG, batch_size=4).to_json(),), Runtime())
    ear = Ear(recorder, "all", [(job, images)] * 2)
    ear.begin()
    ear.advance(0, 4, 0.5)
    ear.epoch_done(0, 0.4, 0.9)
    ear.advance(0, 4, 0.5)
    ear.again(0)
    ear.done(1)
    ear.done(0)
    assert recorder.all("begin") == [("all", 2, 8)]
    assert [steps for steps, _, _ in recorder.all("advance")] == [4, 4, -8, 8, 8]
    # An epoch of the whole is done when as many steps are.
    assert recorder.all("epoch_done") == [(1, 0.4, 0.9), (2, 0.4, 0.9)]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--backend", "cloud"), "backend is one of local, processes, ray, not 'cloud'"),
        (("--backend", "proceses"), "did you mean 'processes'?"),
        (("--workers", "2"), "--backend processes"),
        (("--backend", "processes", "--workers", "0"), "workers is at least 1, not 0"),
        (("--address", "auto"), "--backend ray"),
    ],
)
def test_what_does_not_go_together_is_refused(
    small: Workspace, run: Callable[..., Any], options: tuple[str, ...], says: str
) -> None:
    outcome = run("sweep", *options, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    assert outcome.code == 2
    assert says in outcome.err


def test_without_ray_it_says_what_to_install(
    small: Workspace, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    places = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    outcome = run("sweep", "--backend", "ray", "--name", "wide", "--alpha", "0.5", "--epochs", "2", *places)
    assert outcome.code == 2
    assert "pip install 'lora-mnist[ray]'" in outcome.err


class _Nobody:
    """A reporter that hears nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def _none(count: int = 0) -> Any:
    import numpy as np

    return np.zeros(count, np.uint8)
