"""Finetuning and sweeps, run tiny: which files they leave and what those say."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
from published import files, subsets

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import Workspace, evaluate, finetune, plan_sweep, sweep, train_base
from lora_mnist_cli.stages.adapting import finetune_part
from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
from lora_mnist_cli.stages.banks.work import plan_jobs
from lora_mnist_cli.stages.records.resolving import resolve
from lora_mnist_cli.stages.records.results import result_row
from lora_mnist_cli.system.errors import ArtifactError, ConfigError, DivergedError, OtherSettingsError, UsageError

BASE = "base-fashion-mnist-0-4"
NAME = "lora-fashion-mnist-5-9-r3"
CONFIG = AdapterConfig(rank=3, epochs=1, batch_size=16)
BASE_CONFIG = BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=2)


LEFT = [
    "adapter_config.json", "adapter_model.safetensors", "artifact.json", "features.safetensors", "history.csv",
    "statistics.safetensors",
]  # fmt: skip


def test_what_it_leaves(small):
    base = small.registry.get(BASE)
    before = (base.path / "model.safetensors").read_bytes()
    artifact = finetune(CONFIG, workspace=small)
    assert artifact.name == NAME
    assert files(artifact.path) == LEFT
    manifest = json.loads((artifact.path / "artifact.json").read_text())
    assert manifest["kind"] == "adapter"
    assert manifest["parents"] == [{"role": "base", "name": BASE, "digest": base.digest}]
    assert manifest["dataset"] == base.settings.dataset
    assert manifest["config"] == {
        "seed": 0, "epochs": 1, "batch_size": 16, "lr": 0.001, "optimizer": "adamw", "weight_decay": None,
        "schedule": "plateau", "val_split": 0.2, "precision": "32-true", "digits": "5-9", "rank": 3, "alpha": 1.0,
        "scaling": "constant", "init": "reference", "dropout": 0.0, "target_layers": ["fc1", "fc2", "fc3"],
    }  # fmt: skip
    expected = 3 * (784 + 16 + 16 + 12 + 12 + 10)
    mark = manifest["details"].pop("bank")
    assert mark.startswith("sha256:")
    assert manifest["details"] == {"trainable_parameters": expected, "base_digits": "0-4"}
    tensors = safetensors.torch.load_file(artifact.path / "adapter_model.safetensors")
    assert sum(tensor.numel() for tensor in tensors.values()) == expected
    assert [row["digits"] for row in manifest["scores"]["subsets"]] == ["0-4", "5-9", "0-9"]
    assert (base.path / "model.safetensors").read_bytes() == before
    assert len((artifact.path / "history.csv").read_text().splitlines()) == 3


def test_it_learns_the_new_digits_and_forgets_the_old(small):
    artifact = finetune(dataclasses.replace(CONFIG, epochs=8), workspace=small)
    assert subsets(artifact)["5-9"] > 0.9
    assert subsets(artifact)["0-4"] == 0.0


def test_the_same_seed_gives_the_same_bytes(tmp_path, small_data):
    made = []
    for name in ("one", "two"):
        workspace = Workspace(tmp_path / name, small_data)
        train_base(dataclasses.replace(BASE_CONFIG, epochs=0), workspace=workspace)
        made.append(finetune(dataclasses.replace(CONFIG, dropout=0.3), workspace=workspace))
    one, two = ((artifact.path / "adapter_model.safetensors").read_bytes() for artifact in made)
    assert one == two
    assert made[0].digest == made[1].digest
    other = finetune(dataclasses.replace(CONFIG, dropout=0.3, seed=1), workspace=workspace)
    assert (other.path / "adapter_model.safetensors").read_bytes() != one


def test_no_epochs_publish_an_adapter_that_changes_nothing(small):
    artifact = finetune(dataclasses.replace(CONFIG, epochs=0), workspace=small)
    assert artifact.scores == small.registry.get(BASE).scores
    tensors = safetensors.torch.load_file(artifact.path / "adapter_model.safetensors")
    assert not any(bool(tensor.any()) for key, tensor in tensors.items() if "lora_B" in key)
    assert all(bool(tensor.any()) for key, tensor in tensors.items() if "lora_A" in key)


def test_the_newest_base_is_taken_and_named(small, recorder):
    train_base(dataclasses.replace(BASE_CONFIG, epochs=0, seed=1), workspace=small)
    heard = dataclasses.replace(small, reporter=recorder)
    artifact = finetune(dataclasses.replace(CONFIG, epochs=0), workspace=heard)
    assert artifact.parents[0].name == f"{BASE}-s1"
    assert f"taking the newest base: {BASE}-s1" in recorder.all("notice")
    named = finetune(dataclasses.replace(CONFIG, epochs=0), base=BASE, name="mine", workspace=heard)
    assert (named.name, named.parents[0].name) == ("mine", BASE)


def test_another_base_makes_other_settings(small):
    finetune(dataclasses.replace(CONFIG, epochs=0), workspace=small)
    train_base(dataclasses.replace(BASE_CONFIG, seed=1), workspace=small)
    with pytest.raises(OtherSettingsError, match=r"base 0 sha256:\w+… there, sha256:\w+… asked for"):
        finetune(dataclasses.replace(CONFIG, epochs=0), workspace=small)


def test_another_data_set_is_refused(small):
    with pytest.raises(ArtifactError, match="trained on fashion-mnist, not on mnist") as caught:
        finetune(CONFIG, base=BASE, dataset="mnist", workspace=small)
    assert caught.value.hint == "lora-mnist train-base --dataset mnist"
    with pytest.raises(ArtifactError, match=r"no base of mnist .*train-base --dataset mnist"):
        finetune(CONFIG, dataset="mnist", workspace=small)
    assert finetune(dataclasses.replace(CONFIG, epochs=0), dataset="fashion-mnist", workspace=small).name == NAME


def test_other_files_of_the_data_set_are_refused(small, tmp_path, idx, small_images):
    data = Path(shutil.copytree(small.data_dir, tmp_path / "data"))
    images, _ = small_images(500, 77)
    (data / "FashionMNIST/raw/train-images-idx3-ubyte").write_bytes(idx(images))
    with pytest.raises(ArtifactError, match=f"not those that '{BASE}' was trained on"):
        finetune(CONFIG, workspace=dataclasses.replace(small, data_dir=data))


def test_a_base_of_all_digits_needs_to_be_told_which(small):
    train_base(dataclasses.replace(BASE_CONFIG, digits=ALL_DIGITS, epochs=0), workspace=small)
    before = files(small.runs_dir)
    with pytest.raises(UsageError, match="knows all ten digits") as caught:
        finetune(CONFIG, workspace=small)
    assert "--digits" in caught.value.hint
    with pytest.raises(UsageError, match="knows all ten digits"):
        sweep([1], workspace=small)
    assert files(small.runs_dir) == before
    artifact = finetune(dataclasses.replace(CONFIG, digits=DigitSet.parse("3"), epochs=0), workspace=small)
    assert artifact.name == "lora-fashion-mnist-3-r3"
    assert list(subsets(artifact)) == ["0-9", "3"]


def test_digits_0_to_9_at_rank_64(small, recorder):
    config = AdapterConfig(rank=64, digits=ALL_DIGITS, epochs=6, batch_size=16)
    artifact = finetune(config, workspace=dataclasses.replace(small, reporter=recorder))
    assert artifact.name == "lora-fashion-mnist-0-9-r64"
    assert artifact.details["trainable_parameters"] == 64 * (784 + 16 + 16 + 12 + 12 + 10)
    assert list(subsets(artifact)) == ["0-4", "5-9", "0-9"]
    assert subsets(artifact)["0-9"] > 0.9
    (note,) = [text for text in recorder.all("notice") if "rank" in text]
    assert note == (
        "rank 64 is more than fc3 (12 → 10) can use, which changes by rank 10 at most: no error, the rest of the rank "
        "is idle there"
    )
    assert recorder.all("begin")[0][2] == 25  # 400 of the 500 images in batches of 16


@pytest.mark.parametrize(
    ("method", "idle"),
    [("lora", True), ("dora", True), ("pissa", True), ("vera", False), ("randlora", False), ("delora", False),
     ("lokr", False), ("miss", False), ("hra", False)],
)  # fmt: skip
def test_a_rank_is_called_idle_where_the_change_is_one_product(small, recorder, method, idle):
    heard = dataclasses.replace(small, reporter=recorder)
    plan_sweep([12], method=method, epochs=0, workspace=heard, name="new")
    assert any("idle" in text for text in recorder.all("notice")) == idle


def test_high_ranks_are_noted_where_one_is_to_be_trained_alone(small, recorder):
    heard = dataclasses.replace(small, reporter=recorder)

    def noted() -> bool:
        notices = [text for text in recorder.all("notice") if re.match(r"rank 1[12] is more than fc3", text)]
        recorder.events.clear()
        return bool(notices)

    config = dataclasses.replace(CONFIG, rank=11, epochs=0)
    plan_sweep([11, 2], config=config, workspace=heard, name="new")
    assert noted()
    finetune(config, workspace=heard)
    assert noted()
    finetune(config, workspace=heard)
    assert not noted()
    plan_sweep([11, 2], config=config, workspace=heard, name="new")
    assert not noted()  # the one that is there is not trained again
    sweep([11, 2], config=config, workspace=heard, name="new")
    assert not noted()
    sweep([12, 2], config=config, workspace=heard, name="newer")
    assert noted()
    sweep([12, 2], config=config, workspace=heard, name="newer")
    assert not noted()
    rslora = dataclasses.replace(config, scaling="rslora")
    finetune(rslora, workspace=heard, name="rslora")
    plan_sweep(config=config, workspace=heard, name="the-study-s-ranks")
    assert not noted()
    finetune_part(config, base=BASE, workspace=heard, name="part-of-a-report")
    assert not noted()


def test_a_subset_of_the_layers_in_any_order(small):
    config = dataclasses.replace(CONFIG, target_layers=("fc3", "fc1"))
    artifact = finetune(config, workspace=small)
    assert artifact.config["target_layers"] == ["fc1", "fc3"]
    assert artifact.details["trainable_parameters"] == 3 * (784 + 16 + 12 + 10)
    assert json.loads((artifact.path / "adapter_config.json").read_text())["target_modules"] == ["fc1", "fc3"]
    assert finetune(dataclasses.replace(CONFIG, target_layers=("fc1", "fc3")), workspace=small) == artifact
    with pytest.raises(OtherSettingsError, match="target_layers"):
        finetune(CONFIG, workspace=small)
    whole = finetune(CONFIG, workspace=small, name="whole")
    named = dataclasses.replace(CONFIG, target_layers=("fc3", "fc2", "fc1"), digits=DigitSet.parse("5-9"))
    assert finetune(named, workspace=small, name="whole") == whole
    before = files(small.runs_dir)
    with pytest.raises(UsageError, match="no layer 'fc4'") as caught:
        finetune(dataclasses.replace(CONFIG, target_layers=("fc4",)), workspace=small)
    assert "did you mean 'fc" in caught.value.hint
    assert files(small.runs_dir) == before


def test_a_rank_that_a_method_has_not_on_a_layer_is_refused_before_any_training(small):
    before = files(small.runs_dir)
    config = AdapterConfig(method="miss", rank=20)
    with pytest.raises(UsageError, match=r"no rank above 12 on fc3 of the base .*, so it cannot be 20") as caught:
        finetune(config, workspace=small)
    assert caught.value.hint == "--rank 12, or leave fc2, fc3 out of --target-layers"
    with pytest.raises(UsageError, match="no rank above 16 on fc2"):
        sweep([1, 20], config=dataclasses.replace(config, target_layers=("fc1", "fc2")), workspace=small, name="wide")
    assert files(small.runs_dir) == before
    assert finetune(dataclasses.replace(config, target_layers=("fc1",), epochs=0), workspace=small).config["rank"] == 20


def test_what_a_sweep_leaves(small, recorder):
    config = dataclasses.replace(CONFIG, epochs=1)
    heard = dataclasses.replace(small, reporter=recorder)
    artifact = sweep([20, 1], seeds=[0, 3], config=config, workspace=heard, name="wide")
    assert files(artifact.path) == ["artifact.json", "results.csv"]
    names = [f"lora-fashion-mnist-5-9-{end}" for end in ("r20", "r20-s3", "r1", "r1-s3")]
    assert [row["artifact"] for row in artifact.details["results"]] == names
    members = [small.registry.get(name) for name in names]
    base = small.registry.get(BASE)
    assert [(parent.role, parent.name, parent.digest) for parent in artifact.parents] == [
        ("base", BASE, base.digest), *(("member", member.name, member.digest) for member in members),
    ]  # fmt: skip
    assert (artifact.config["ranks"], artifact.config["seeds"]) == ([20, 1], [0, 3])
    assert not {"rank", "seed"} & set(artifact.config)
    weights = {(member.path / "adapter_model.safetensors").read_bytes() for member in members}
    assert len(weights) == 4
    rows = list(csv.DictReader(io.StringIO((artifact.path / "results.csv").read_text())))
    assert list(rows[0])[:4] == ["artifact", "rank", "seed", "trainable_parameters"]
    for row, member in zip(rows, members, strict=True):
        assert row["artifact"] == member.name
        assert int(row["trainable_parameters"]) == int(row["rank"]) * 850
        assert {digits: float(row[f"accuracy_{digits}"]) for digits in ("0-4", "5-9", "0-9")} == subsets(member)
    assert len([text for text in recorder.all("notice") if "can use" in text]) == 1


def test_a_sweep_member_is_what_finetune_makes(small, tmp_path):
    sweep([1, 3], config=dataclasses.replace(CONFIG, rank=9), workspace=small, name="wide")
    other = dataclasses.replace(small, runs_dir=Path(shutil.copytree(small.runs_dir, tmp_path / "other")))
    other.registry.remove("wide")
    other.registry.remove(NAME)
    alone, member = finetune(CONFIG, workspace=other), small.registry.get(NAME)
    # Matrix products of other sizes round in other ways; all else is the same.
    assert alone.fingerprint == member.fingerprint
    one, two = (safetensors.torch.load(each.read("adapter_model.safetensors")) for each in (alone, member))
    for key, value in one.items():
        torch.testing.assert_close(value, two[key], rtol=1e-4, atol=1e-4)
    assert subsets(alone) == pytest.approx(subsets(member), abs=0.02)


def test_a_sweep_that_was_stopped_goes_on_where_it_was(small, recorder, monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.stages.banks.cut.MAX_MEMBERS", 1)
    start = len(small.registry.names())

    def stop_at_third(number: int, parts: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    recorder.part = stop_at_third
    config = dataclasses.replace(CONFIG, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        sweep([1, 3, 4], config=config, workspace=dataclasses.replace(small, reporter=recorder), name="wide")
    assert [begun[0] for begun in recorder.all("begin")] == ["3 adapters on 5-9"]
    assert len(recorder.all("end")) == 1
    assert len(small.registry.names()) == start + 2
    assert not (small.runs_dir / ".staging").exists()
    del recorder.part
    recorder.events.clear()
    artifact = sweep([1, 3, 4], config=config, workspace=dataclasses.replace(small, reporter=recorder), name="wide")
    assert [title for title, _, _ in recorder.all("begin")] == ["lora-fashion-mnist-5-9-r4"]
    assert len(artifact.details["results"]) == 3
    recorder.events.clear()
    again = sweep([1, 3, 4], config=config, workspace=dataclasses.replace(small, reporter=recorder), name="wide")
    assert again == artifact
    assert recorder.all("begin") == []
    assert "wide is up to date" in recorder.all("notice")


def test_memory_cuts_a_grid_into_banks(small):
    base = small.registry.get(BASE)
    wanted = [
        AdapterRequest(f"r{r}-s{s}", dataclasses.replace(CONFIG, rank=r, seed=s)) for r in (8, 1) for s in (0, 1, 2)
    ]
    cut = [[each.name for each in bank] for bank in cut_into_banks(wanted, base, Runtime(bank_megabytes=10_000))]
    assert cut == [["r8-s0", "r1-s0", "r8-s1", "r1-s1", "r8-s2", "r1-s2"]]
    assert [len(bank) for bank in cut_into_banks(wanted, base, Runtime(bank_megabytes=1))] == [2, 2, 2]
    other = AdapterRequest("more", dataclasses.replace(CONFIG, epochs=2))
    assert [len(bank) for bank in cut_into_banks([*wanted, other], base, Runtime(bank_megabytes=10_000))] == [6, 1]


def test_what_diverges_is_published_as_failed_and_nothing_else_is_hurt(small, recorder):
    base, heard = small.registry.get(BASE), dataclasses.replace(small, reporter=recorder)
    good = resolve(dataclasses.replace(CONFIG, optimizer="sgd", lr=0.01), base)
    bad = dataclasses.replace(good, rank=4, lr=1e20)
    wanted = [AdapterRequest("good", good), AdapterRequest("bad", bad)]
    made = plan_jobs(heard, base, wanted).run()
    assert files(made[0].path) == LEFT
    assert "failed" not in made[0].details
    assert files(made[1].path) == ["artifact.json", "history.csv"]
    assert re.fullmatch(r"the loss became (nan|inf) in epoch 1", made[1].details["failed"])
    assert [row["digits"] for row in made[1].scores["subsets"]] == ["0-4", "5-9", "0-9"]
    assert {(row["accuracy"], row["loss"]) for rows in made[1].scores.values() for row in rows} == {(None, None)}
    assert sum(row["count"] for row in made[1].scores["per_digit"]) == 200
    assert recorder.all("warn") == [f"bad diverged, and is published as failed: {made[1].details['failed']}"]
    assert [row["failed"] for row in map(result_row, made)] == [None, made[1].details["failed"]]
    with pytest.raises(ArtifactError, match="'bad' has no weights: its training diverged"):
        evaluate("bad", workspace=small)
    # It is not tried again, and who asks for it hears what came of it.
    recorder.events.clear()
    assert plan_jobs(heard, base, wanted).run() == made
    assert recorder.all("begin") == []
    assert recorder.all("warn") == [f"bad diverged when it was trained: {made[1].details['failed']}"]
    with pytest.raises(DivergedError, match="training diverged: the loss became"):
        finetune(bad, base=BASE, workspace=small, name="bad")


def test_a_single_adapter_that_diverges_is_not_published(small):
    before = files(small.runs_dir)
    with pytest.raises(DivergedError, match="training diverged") as caught:
        finetune(dataclasses.replace(CONFIG, optimizer="sgd", lr=1e20), workspace=small)
    assert caught.value.hint == "a lower --lr than 1e+20 may help"
    assert files(small.runs_dir) == before


def test_a_sweep_of_which_nothing_is_left_says_so(small, recorder):
    config = dataclasses.replace(CONFIG, optimizer="sgd", lr=1e20)
    artifact = sweep([1, 3], config=config, workspace=dataclasses.replace(small, reporter=recorder), name="wide")
    assert all(row["failed"] for row in artifact.details["results"])
    assert len(recorder.all("warn")) == 2
    rows = list(csv.DictReader(io.StringIO((artifact.path / "results.csv").read_text())))
    assert [row["accuracy_5-9"] for row in rows] == ["", ""]


def test_a_lost_member_is_found_missing_when_the_sweep_is_forced(small, recorder):
    name = "lora-fashion-mnist-5-9-r2-a0.5"
    shutil.rmtree(small.runs_dir / name)
    config = AdapterConfig(epochs=2, alpha=0.5)
    heard = dataclasses.replace(small, reporter=recorder)
    before = small.registry.get("sweep-fashion-mnist-5-9-a0.5")
    forced = sweep([2], config=config, workspace=heard, force=True)
    assert [title for title, _, _ in recorder.all("begin")] == [name]
    assert forced.digest == before.digest


@pytest.mark.parametrize(
    ("ranks", "seeds", "error"),
    [([], [0], UsageError), ([1], [], UsageError), ([1, 1], [0], UsageError), ([1], [2, 2], UsageError),
     ([0], [0], ConfigError), ([1, -1], [0], ConfigError), ([10**9], [0], ConfigError), ([1], [-1], ConfigError),
     (range(1, 201), range(51), UsageError)],
)  # fmt: skip
def test_odd_ranks_and_seeds_are_refused(small, ranks, seeds, error):
    before = files(small.runs_dir)
    with pytest.raises(error):
        sweep(ranks, seeds=seeds, config=CONFIG, workspace=small)
    assert files(small.runs_dir) == before


def test_a_bank_that_was_published_in_part_is_put_together_again(small, monkeypatch):
    """What is missing of it ends with the bytes that it would have had, though it alone is published."""
    whole = sweep([1, 3, 4], config=CONFIG, workspace=small, name="these")
    names = [row["artifact"] for row in whole.details["results"]]
    weights = {name: small.registry.get(name).read("adapter_model.safetensors") for name in names}
    kept = small.registry.get(names[0])
    for name in (whole.name, *names[1:]):
        small.registry.remove(name)
    trained: list[int] = []
    from lora_mnist_cli.training.bank import trainer

    fit = trainer.fit_bank
    monkeypatch.setattr(
        trainer, "fit_bank", lambda models, *rest, **more: trained.append(len(models)) or fit(models, *rest, **more)
    )
    again = sweep([1, 3, 4], config=CONFIG, workspace=small, name="these")
    assert trained == [3]
    assert again.digest == whole.digest
    assert {name: small.registry.get(name).read("adapter_model.safetensors") for name in names} == weights
    assert small.registry.get(names[0]) == kept

    # Beside one that was trained by itself, only what is missing is trained.
    small.registry.remove(names[0], cascade=True)
    finetune(dataclasses.replace(CONFIG, rank=1), workspace=small)
    small.registry.remove(names[2])
    sweep([1, 4], config=CONFIG, workspace=small, name="two")
    assert trained == [3, 1, 1]


def test_a_sweep_with_a_name_names_its_adapters_for_it_where_other_settings_have_theirs(small):
    first = sweep([1, 3], config=CONFIG, workspace=small, name="first")
    other = dataclasses.replace(CONFIG, batch_size=32)
    with pytest.raises(OtherSettingsError):
        finetune(dataclasses.replace(other, rank=1), workspace=small)
    second = sweep([1, 3, 4], seeds=[0, 1], config=other, workspace=small, name="km")
    named = [row["artifact"] for row in second.details["results"]]
    assert named == [
        "km-r1", "km-r1-s1", "km-r3", "km-r3-s1", "km-r4", "km-r4-s1",
    ]  # fmt: skip
    assert all(small.registry.get(name).config["batch_size"] == 32 for name in named)
    assert not {row["artifact"] for row in first.details["results"]} & set(named)
    assert sweep([1, 3, 4], seeds=[0, 1], config=other, workspace=small, name="km") == second


def test_a_sweep_whose_adapter_is_gone_trains_it_again(small, recorder):
    whole = sweep([1, 3], config=CONFIG, workspace=small, name="whole")
    shutil.rmtree(small.registry.root / NAME)
    again = sweep([1, 3], config=CONFIG, workspace=dataclasses.replace(small, reporter=recorder), name="whole")
    assert again == whole
    assert f"{whole.name} lacks {NAME}, which is trained again" in recorder.all("notice")
    assert small.registry.parent(whole, "member").digest in {p.digest for p in whole.parents}
    assert small.registry.get(NAME).digest in {p.digest for p in whole.parents}


def test_what_diverged_is_not_the_newest_adapter(small):
    sound = finetune(CONFIG, workspace=small)
    sweep([1], config=dataclasses.replace(CONFIG, lr=1e30), workspace=small, name="wild")
    assert small.registry.latest("adapter") == sound


@pytest.mark.parametrize("vary", ["init", "order", "split"])
def test_a_sweep_that_varies_one_stream_holds_the_others_at_a_seed(small, vary):
    def start_of(name: str) -> dict[str, torch.Tensor]:
        return safetensors.torch.load_file(small.registry.get(name).path / "adapter_model.safetensors")

    config = AdapterConfig(epochs=0, vary=vary, held_seed=4)
    made = sweep([2], seeds=[4, 6], config=config, workspace=small)
    assert made.name == f"sweep-fashion-mnist-5-9-{vary}-h4"
    assert (made.config["vary"], made.config["held_seed"]) == (vary, 4)
    names = [row["artifact"] for row in made.details["results"]]
    assert names == [f"lora-fashion-mnist-5-9-r2-s{seed}-{vary}-h4" for seed in (4, 6)]
    plain = sweep([2], seeds=[4, 6], config=AdapterConfig(epochs=0), workspace=small, name="plain")
    assert "vary" not in plain.config
    held, own = (start_of(row["artifact"]) for row in plain.details["results"])
    first, second = (start_of(name) for name in names)
    for key, tensor in (held if vary != "init" else own).items():
        assert torch.equal(second[key], tensor)
    assert all(torch.equal(first[key], tensor) for key, tensor in held.items())


@pytest.mark.parametrize("vary", ["init", "order", "split"])
def test_the_held_seed_itself_gives_what_it_gives_alone(small, vary):
    varied = finetune(AdapterConfig(rank=2, epochs=1, seed=3, vary=vary, held_seed=3), workspace=small)
    alone = finetune(AdapterConfig(rank=2, epochs=1, seed=3), workspace=small)
    assert varied.name != alone.name
    assert varied.fingerprint != alone.fingerprint
    weights = [artifact.path / "adapter_model.safetensors" for artifact in (varied, alone)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.parametrize("ranks", [[1, 2], [1, 2, 3]])
def test_a_forced_sweep_replaces_one_of_its_name_and_the_adapters_of_both(small, ranks):
    options = {"config": AdapterConfig(epochs=1, alpha=0.5), "name": "mine", "workspace": small}
    sweep([1], **options)
    before = sweep([1, 2], **(options | {"force": True}))
    made = sweep(ranks, **(options | {"force": True, "config": AdapterConfig(epochs=2, lr=2e-3, alpha=0.5)}))
    assert [row["rank"] for row in made.details["results"]] == ranks
    assert made.digest != before.digest
    for parent in made.parents:
        assert small.registry.get(parent.name).digest == parent.digest


def test_a_forced_sweep_stays_as_it_was_where_another_needs_its_adapters(small):
    config = AdapterConfig(epochs=1)
    before = sweep([1, 2], config=config, workspace=small)
    sweep([1], name="other", config=config, workspace=small)
    with pytest.raises(ArtifactError, match="'lora-fashion-mnist-5-9-r1' can't be replaced"):
        sweep([1], force=True, config=AdapterConfig(epochs=2), workspace=small)
    assert small.registry.get(before.name).digest == before.digest
