"""Adapters that are trained without losing what the base knows: what they leave, and what they can't have seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import subsets

from lora_mnist_cli.registry.checkpoint import load_statistics
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import finetune, merge, plan_sweep, sweep, train_base
from lora_mnist_cli.stages.banks import job, work
from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
from lora_mnist_cli.stages.banks.job import Images, Job
from lora_mnist_cli.system.errors import ArtifactError, UsageError

BASE = "base-fashion-mnist-0-4"
CONFIG = AdapterConfig(rank=3, epochs=6, batch_size=16)
BOTH = dataclasses.replace(CONFIG, protect=("replay", "mask"))
WEIGHTS = "adapter_model.safetensors"


def test_old_digits_are_kept_and_new_ones_learned(small):
    base = train_base(
        BaseConfig(dataset="fashion-mnist", hidden_sizes=(16, 12), epochs=20, batch_size=16),
        workspace=small,
        name="good",
    )
    assert subsets(base)["0-4"] > 0.9
    plain, kept = (
        finetune(dataclasses.replace(config, rank=8, lr=4e-3, epochs=8), base="good", workspace=small)
        for config in (CONFIG, BOTH)
    )
    assert kept.name == "lora-fashion-mnist-5-9-r8-lr0.004-replay-mask"
    assert kept.config["protect"] == ["replay", "mask"]
    assert "replay_old" not in kept.config
    assert subsets(plain)["0-4"] < 0.2
    assert subsets(kept)["0-4"] > 0.8
    assert subsets(kept)["5-9"] > 0.8


@pytest.mark.parametrize("protect", [("replay",), ("mask",), ("distill",), ("nullspace",), ("replay", "nullspace")])
def test_each_protection_alone_keeps_something_or_says_so_in_its_settings(small, protect):
    made = finetune(dataclasses.replace(CONFIG, protect=protect, epochs=1), workspace=small)
    assert made.name == f"lora-fashion-mnist-5-9-r3-{'-'.join(protect)}"
    plain = finetune(dataclasses.replace(CONFIG, epochs=1), workspace=small)
    assert made.read(WEIGHTS) != plain.read(WEIGHTS)


def test_an_unprotected_adapter_has_the_settings_that_it_always_had():
    assert not {"protect", "replay_old", "replay_new", "distill_weight", "nullspace_energy"} & set(CONFIG.to_json())
    again = AdapterConfig.from_json(json.loads(json.dumps(BOTH.to_json())))
    assert again == BOTH


def test_a_sweeps_member_is_the_adapter_trained_alone(small):
    """Three ranks and two seeds together, and one of them alone: to what sums in another order leave of float32."""
    import safetensors.numpy

    made = sweep([1, 2, 3], seeds=[0, 1], config=BOTH, workspace=small, name="six")
    names = [row["artifact"] for row in made.details["results"]]
    assert names[1] == "lora-fashion-mnist-5-9-r1-replay-mask-s1"
    alone = finetune(dataclasses.replace(BOTH, rank=2, seed=1), workspace=small, name="alone")
    together = small.registry.get("lora-fashion-mnist-5-9-r2-replay-mask-s1")
    ours, theirs = (safetensors.numpy.load(each.read(WEIGHTS)) for each in (alone, together))
    for key, value in ours.items():
        np.testing.assert_allclose(theirs[key], value, rtol=1e-3, atol=1e-4)
    assert sweep([1], config=BOTH, workspace=small).name == "sweep-fashion-mnist-5-9-replay-mask"


def test_no_bank_has_members_of_several_protections(small):
    base = small.registry.get(BASE)
    others = [CONFIG, BOTH, dataclasses.replace(CONFIG, protect=("mask",)), dataclasses.replace(BOTH, replay_old=2.0)]
    configs = [dataclasses.replace(each, digits=DigitSet.parse("5-9"), seed=s) for each in others for s in (0, 1)]
    wanted = [AdapterRequest(f"a{i}", config) for i, config in enumerate(configs)]
    banks = list(cut_into_banks(wanted, base, Runtime()))
    assert sorted(len(bank) for bank in banks) == [2, 2, 2, 2]
    assert all(len({each.config.objective for each in bank}) == 1 for bank in banks)


def test_samples_count_among_the_steps_that_are_planned(small):
    plans = [
        plan_sweep([1], config=config, workspace=small, name="planned")
        for config in (CONFIG, BOTH, dataclasses.replace(BOTH, replay_old=2.0, replay_new=0.0))
    ]
    # 250 images of new digits, of which a fifth is held out: 200, and as many samples of old and of new ones.
    assert [plan.jobs.steps_per_epoch(plan.jobs.requests[0].config) for plan in plans] == [13, 38, 38]


def test_nothing_but_new_images_and_statistics_reaches_the_training(small, monkeypatch):
    """No old image can be read: not for training, and not for validation either."""
    train, seen = job.train_bank, []

    def digits_only(dataset: str, split: str, digits: DigitSet, data_dir: Path) -> Any:
        assert split == "train"
        assert set(digits) == set(range(5, 10))
        seen.append(digits)
        return load_digits(dataset, split, digits, data_dir)

    def test_only(dataset, split, data_dir):
        assert split == "test"
        return load_split(dataset, split, data_dir)

    def without_reading(job: Job, images: Images, *more: Any) -> Any:
        assert set(images.train[1].tolist()) == set(range(5, 10))
        # The test images are there to be scored; what is trained must not depend on them.
        blank = Images(images.train, (np.zeros_like(images.test[0]), images.test[1]))
        with monkeypatch.context() as inside:
            inside.setattr("lora_mnist_cli.data.sources._locate", None)
            seen.append(train(job, images, *more))
            seen.append(train(job, blank, *more))
        return seen[-2]

    load_digits, load_split = work.load_digits, work.load_split
    monkeypatch.setattr(work, "load_digits", digits_only)
    monkeypatch.setattr(work, "load_split", test_only)
    monkeypatch.setattr(job, "train_bank", without_reading)
    everything = dataclasses.replace(CONFIG, epochs=2, protect=("replay", "nullspace", "mask", "distill"))
    finetune(everything, workspace=small)
    _, real, blank = seen
    assert [each.weights for each in real.members] == [each.weights for each in blank.members]
    assert [each.history for each in real.members] == [each.history for each in blank.members]


def test_a_base_without_statistics_is_refused_with_what_helps(small):
    base = small.registry.get(BASE)
    with small.registry.staging("older", ()) as folder:
        for file in ("model.safetensors", "history.csv"):
            (folder / file).write_bytes(base.read(file))
        settings = dataclasses.replace(base.settings, parents=())
        small.registry.publish(
            folder, settings, scores=base.scores, details=base.details, environment=base.environment, wall_seconds=1.0
        )
    with pytest.raises(ArtifactError, match="no statistics") as caught:
        finetune(BOTH, base="older", workspace=small, name="new")
    assert "runs remove older" in caught.value.hint
    assert finetune(dataclasses.replace(CONFIG, protect=("mask", "distill")), base="older", workspace=small, name="new")


def test_where_there_is_nothing_to_protect_it_is_refused(small):
    for digits in ("0-9", "0-4"):
        with pytest.raises(UsageError, match="none to protect"):
            finetune(dataclasses.replace(BOTH, digits=DigitSet.parse(digits)), workspace=small)


def test_the_options_of_the_commands(small, run, refused, small_data):
    where = ["--runs-dir", small.runs_dir, "--data-dir", small_data, "--epochs", "1", "--json"]
    made = run("finetune", "--rank", "2", "--protect", "mask,replay", "--replay-new", "0.5", *where)
    assert made.code == 0, made.err
    assert made.json["artifact"] == "lora-fashion-mnist-5-9-r2-replay-mask"
    config = small.registry.get(made.json["artifact"]).config
    assert (config["protect"], config["replay_new"]) == (["replay", "mask"], 0.5)
    several = run("sweep", "--ranks", "1,2", "--protect", "distill", "--distill-weight", "2", *where)
    assert several.json["artifact"] == "sweep-fashion-mnist-5-9-distill"
    for odd, said in (
        (["--protect", "repla"], "did you mean 'replay'"), (["--replay-old", "2"], "--protect replay alone"),
        (["--protect", "mask,mask"], "once each"), (["--protect", "replay", "--replay-old", "0"], "above 0"),
        (["--protect", "mask", "--method", "full"], "for banks"),
        (["--protect", "nullspace", "--nullspace-energy", "1"], "below 1"),
    ):  # fmt: skip
        refused(["finetune", *odd, *where], 2, said)


def test_a_protected_adapter_that_is_merged_is_a_base_of_all_digits_and_can_be_protected_again(small):
    config = dataclasses.replace(BOTH, epochs=1, digits=DigitSet.parse("5-6"))
    finetune(config, base=BASE, workspace=small, name="second")
    merged = merge("second", workspace=small)
    assert merged.config["digits"] == "0-6"
    joined, base, adapter = (
        load_statistics(each) for each in (merged, small.registry.get(BASE), small.registry.get("second"))
    )
    assert joined.digits.tolist() == list(range(7))
    assert joined.counts.tolist() == [*base.counts.tolist(), *adapter.counts.tolist()]
    third = finetune(dataclasses.replace(BOTH, epochs=1), base=merged.name, workspace=small, name="third")
    assert third.config["digits"] == "7-9"
    plain = merge(
        finetune(dataclasses.replace(CONFIG, epochs=1), base=BASE, workspace=small, name="plain").name, workspace=small
    )
    assert plain.config["digits"] == "5-9"
