"""Banks that other processes train: the same bytes, whoever dies on the way; and how grids are cut for them."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from recorder import Recorder

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import BACKENDS, METHODS, PROTECTIONS
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, sweep
from lora_mnist_cli.stages.banks.backend import CombinedProgress
from lora_mnist_cli.stages.banks.backends import ProcessBackend, about_backend, workers
from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
from lora_mnist_cli.stages.banks.job import Images, Job, train_bank
from lora_mnist_cli.stages.records.resolving import resolve
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, MachineError
from lora_mnist_cli.system.progress import Forwarding, Silent
from lora_mnist_cli.system.work import LOADING, SCORING, STATISTICS, TRAINING

BASE, PREFIX = "base-fashion-mnist-0-4", "lora-fashion-mnist-5-9"
# So high that each seed is a cohort of its own.
RANKS = (120, 130)
CONFIG = AdapterConfig(epochs=2, batch_size=16)


@pytest.fixture(autouse=True)
def _a_bank_a_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_mnist_cli.stages.banks.cut.WORTH_A_PROCESS", 1)


def weights(workspace: Workspace, names: Iterable[str]) -> dict[str, bytes]:
    return {name: workspace.registry.get(name).read("adapter_model.safetensors") for name in names}


class Killer(Forwarding):
    """A reporter that kills the processes that train a bank.

    Args:
        kills: bank, from 1 → how often its process is killed: as soon as the bank is begun; but for the bank ``late``,
            when steps of any bank are reported.
    """

    def __init__(self, recorder: Recorder, kills: dict[int, int], late: int) -> None:
        super().__init__(recorder)
        self._kills, self._late = kills, late
        self._late_pid: int | None = None

    def detail(self, text: str) -> None:
        super().detail(text)
        begun = re.fullmatch(r"process (\d+) trains bank (\d+) of \d+", text)
        if begun is None or not self._kills.get(bank := int(begun[2])):
            return
        if bank == self._late:
            self._late_pid = int(begun[1])
        else:
            self._kill(bank, int(begun[1]))

    def advance(self, steps: int, epoch: int, loss: float) -> None:
        super().advance(steps, epoch, loss)
        if steps > 0 and self._late_pid is not None and self._kills[self._late]:
            self._kill(self._late, self._late_pid)

    def _kill(self, bank: int, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self._kills[bank] -= 1


@dataclasses.dataclass
class KilledSweep:
    """A sweep of three banks in two processes: the first bank's is killed once, and the second's every time."""

    here: Workspace
    there: Workspace
    heard: Recorder
    before: set[str]
    whole: Any
    error: MachineError


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, small_trained: Path, small_data: Path) -> KilledSweep:
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora_mnist_cli.stages.banks.cut.WORTH_A_PROCESS", 1)
        here, there = (
            Workspace(Path(shutil.copytree(small_trained, folder / name)), small_data, Runtime(accelerator="cpu"))
            for name in ("here", "there")
        )
        heard = Recorder()
        runtime = Runtime(backend="processes", workers=2, accelerator="cpu")
        in_processes = dataclasses.replace(there, runtime=runtime, reporter=Killer(heard, {1: 1, 2: 3}, late=1))
        before = set(there.registry.names())
        whole = sweep(RANKS, seeds=[0, 1, 2], config=CONFIG, workspace=here, name="wide")
        with pytest.raises(MachineError) as caught:
            sweep(RANKS, seeds=[0, 1, 2], config=CONFIG, workspace=in_processes, name="wide")
    return KilledSweep(here, there, heard, before, whole, caught.value)


def test_processes_make_the_same_bytes_though_one_of_them_is_killed(killed):
    names = {f"{PREFIX}-r{rank}{seed}" for rank in RANKS for seed in ("", "-s2")}
    assert weights(killed.there, names) == weights(killed.here, names)
    for name in names:
        one, two = killed.there.registry.get(name), killed.here.registry.get(name)
        assert (one.digest, one.scores, one.files, one.details) == (two.digest, two.scores, two.files, two.details)
        assert one.environment == two.environment
    assert not (killed.there.runs_dir / ".staging").exists()


def test_what_processes_do_is_one_progress_in_which_lost_steps_are_taken_back(killed):
    heard = killed.heard
    # 13 steps per epoch and seed; the second of three seeds comes to nothing.
    assert heard.all("begin") == [("6 adapters on 5-9", 2, 39)]
    assert sum(steps for steps, _, _ in heard.all("advance")) == 2 * (39 - 13)
    assert [epoch for epoch, _, _ in heard.all("epoch_done")] == [1]
    assert len(heard.all("end")) == 1
    assert "training 6 adapters in 3 banks: engine plain, 2 processes, 1 thread each" in heard.all("detail")[0]
    says = "was ended by SIGKILL; bank {} of 3, which it trained, is trained again"
    assert [sum(says.format(bank) in text for text in heard.all("warn")) for bank in (1, 2, 3)] == [1, 2, 0]
    assert len(heard.all("warn")) == 3


def test_a_bank_that_ends_every_process_is_lost_and_the_others_are_published(killed):
    says = r"r120-s1, .*r130-s1 could not be trained: its process was ended by SIGKILL, as 2 before it ended too"
    assert re.match(f".*{says}", str(killed.error))
    made = {f"{PREFIX}-r{rank}{seed}" for rank in RANKS for seed in ("", "-s2")}
    assert set(killed.there.registry.names()) == killed.before | made


def test_the_same_command_trains_the_lost_bank_with_the_bytes_that_it_would_have_had(killed, tmp_path):
    copy = dataclasses.replace(killed.there, runs_dir=Path(shutil.copytree(killed.there.runs_dir, tmp_path / "copy")))
    again = sweep(RANKS, seeds=[0, 1, 2], config=CONFIG, workspace=copy, name="wide")
    assert (again.digest, again.details) == (killed.whole.digest, killed.whole.details)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


PROTECTED = [(name,) for name in PROTECTIONS] + [("replay", "mask")]
RECIPES = [{"method": name} for name in METHODS] + [{"protect": names} for names in PROTECTED]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("backend", ["local", "processes", pytest.param("ray", marks=pytest.mark.ray)])
@pytest.mark.usefixtures("pool_in_this_process")
def test_the_steps_that_are_told_are_those_that_were_announced(small, recorder, request, backend, recipe):
    assert set(BACKENDS) == {"local", "processes", "ray"}
    if backend == "ray":
        request.getfixturevalue("cluster")
    config = AdapterConfig(epochs=2, batch_size=32, **recipe)
    runtime = Runtime(backend=backend, accelerator="cpu")
    workspace = dataclasses.replace(small, runtime=runtime, reporter=recorder)
    sweep([2, 3] if config.rank else None, seeds=[0, 1], config=config, workspace=workspace, name="counted")
    ((_, epochs, steps),) = recorder.all("begin")
    assert epochs == 2
    assert sum(count for count, _, _ in recorder.all("advance")) == epochs * steps
    assert max(epoch for _, epoch, _ in recorder.all("advance")) == epochs
    assert recorder.all("epoch_done")[-1][0] == epochs


def test_what_a_bank_complains_of_is_raised_in_the_driver():
    other = Job("some", b"", (4,), "0-4", (0.1, 0.3), (CONFIG.to_json(),), 1, Runtime(), training_code=-1)
    task = (other, Images((_none(), _none()), (_none(), _none())))
    with pytest.raises(MachineError, match="training code") as caught:
        list(ProcessBackend(1).run([task], CombinedProgress(Silent(), "some", 2, [1])))
    assert "same version" in caught.value.hint


def test_errors_can_be_sent_between_processes():
    for error in (ArtifactError("it is gone", hint="make it", value=3), ConfigError(["one", "two"], hint="so")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.hint) == (type(error), str(error), error.hint)


def test_a_bank_is_trained_without_any_folder(small, monkeypatch):
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
        (config.to_json(),), 4, Runtime(accelerator="cpu"),
    )  # fmt: skip
    sent = pickle.loads(pickle.dumps((job, images)))
    made = small.registry.get("lora-fashion-mnist-5-9-r2-a0.5")
    monkeypatch.setattr("lora_mnist_cli.data.sources._locate", None)
    parsed: list[Any] = []
    from_json = AdapterConfig.from_json
    monkeypatch.setattr(AdapterConfig, "from_json", lambda values: parsed.append(values) or from_json(values))
    (trained,) = train_bank(*sent).members
    assert len(parsed) == 1  # what is checked again for each phase takes longer than few steps
    assert trained.weights == made.read("adapter_model.safetensors")
    assert trained.statistics == {file: made.read(file) for file in ("statistics.safetensors", "features.safetensors")}
    assert trained.history == (made.path / "history.csv").read_text()
    assert trained.scores == made.scores
    assert trained.failed is None


def test_a_grid_is_cut_where_a_cohort_ends_and_work_for_some_seconds_is_there(small, monkeypatch):
    from lora_mnist_cli.training.bank.grouping import cohorts

    monkeypatch.setattr("lora_mnist_cli.stages.banks.cut.WORTH_A_PROCESS", 64)
    base = small.registry.get(BASE)

    def cut(ranks: list[int], seeds: int, engine: str = "plain", **changes: Any) -> list[list[str]]:
        config = dataclasses.replace(AdapterConfig(), **changes)
        wanted = [
            AdapterRequest(f"r{rank}-s{seed}", dataclasses.replace(config, rank=rank, seed=seed))
            for rank in ranks for seed in range(seeds)
        ]  # fmt: skip
        found = list(cut_into_banks(wanted, base, Runtime(bank_megabytes=10_000, engine=engine)))
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
    # Kernels train all at the same time.
    assert [len(bank) for bank in cut(study, 10, engine="fused")] == [70]
    assert [len(bank) for bank in cut([8], 300, engine="fused")] == [256, 44]
    assert cut([2, 1], 2) == [["r2-s0", "r1-s0", "r2-s1", "r1-s1"]]


def test_banks_stay_as_they_were_whichever_of_them_are_done(small, recorder):
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


def test_how_many_processes_there_are(monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.system.machine.cores", lambda: 16)
    monkeypatch.setattr("shutil.which", lambda _: None)
    free = Runtime(backend="processes")
    assert (workers(free, 100), workers(free, 3)) == (16, 3)
    assert workers(dataclasses.replace(free, threads=4), 100) == 4
    assert workers(dataclasses.replace(free, threads=32), 100) == 1
    assert workers(dataclasses.replace(free, workers=5), 100) == 5
    assert about_backend(free, 3) == "3 processes, 1 thread each, on a machine of 16 cores"
    assert about_backend(Runtime(threads=2), 3) == "1 process, 2 threads each, on a machine of 16 cores"


def test_banks_that_tell_at_the_same_time_are_one_progress(recorder):
    work = {TRAINING: 6.0, STATISTICS: 1.0, SCORING: 1.0}
    progress = CombinedProgress(recorder, "all", 2, [4, 4], [work, work])
    progress.begin()
    progress.phase(STATISTICS, 1.0)  # the other one still trains
    progress.advance(0, 4, 0.5)
    progress.epoch_done(0, 0.4, 0.9)
    progress.advance(0, 4, 0.5)
    progress.again(0)
    progress.done(1)
    progress.done(0)
    progress.phase(STATISTICS, 1.0)
    assert recorder.all("begin") == [("all", 2, 8)]
    (plan,) = recorder.all("plan")
    loading = plan.pop(LOADING)
    assert plan == {TRAINING: 14.0, STATISTICS: 1.0, SCORING: 1.0}
    assert recorder.all("phase") == [
        (LOADING, loading), (TRAINING, 14.0, "", 16), (STATISTICS, 1.0, "", 0)
    ]  # fmt: skip
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
def test_what_does_not_go_together_is_refused(small, refused, options, says):
    refused(["sweep", *options, "--runs-dir", small.runs_dir, "--data-dir", small.data_dir], 2, says)


def test_without_ray_it_says_what_to_install(small, run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    places = ("--runs-dir", small.runs_dir, "--data-dir", small.data_dir)
    outcome = run("sweep", "--backend", "ray", "--name", "wide", "--alpha", "0.5", "--epochs", "2", *places)
    assert outcome.code == 2
    assert "(pip install 'ray>=" in outcome.err


def _none() -> Any:
    import numpy as np

    return np.zeros(0, np.uint8)
