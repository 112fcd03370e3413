"""Computed starts through the stages: names, files, grids, PEFT, and what is refused."""

from __future__ import annotations

import pytest
import torch

from lora_mnist_cli.registry.checkpoint import load_statistics
from lora_mnist_cli.registry.diff import diff
from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import STARTS
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages import combine, evaluate, finetune, import_adapter, merge, sweep
from lora_mnist_cli.stages.banks.cut import AdapterRequest, cut_into_banks
from lora_mnist_cli.stages.records.loading import load_model
from lora_mnist_cli.stages.records.resolving import resolve
from lora_mnist_cli.system.errors import ConfigError, UsageError

pytestmark = pytest.mark.usefixtures("one_thread")

BASE = "base-fashion-mnist-0-4"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("eva", "lora_ga", "old_inputs"):
        monkeypatch.setattr(f"lora_mnist_cli.training.starts.{module}.SAMPLES", 300)


def test_a_grid_of_starts_is_sound_and_every_command_knows_its_adapters(small):
    base = small.registry.get(BASE)
    made = sweep([2], grid={"inits": f"kaiming,{','.join(STARTS)}"}, config=AdapterConfig(epochs=1, lr=0.01),
                 workspace=small, name="starts")  # fmt: skip
    names = {row["init"]: row["artifact"] for row in made.details["results"]}
    assert set(names) == {"kaiming", *STARTS}
    assert names["lora-null"] == "lora-fashion-mnist-5-9-r2-lr0.01-lora-null"
    assert [verdict.problems for verdict in verify(small.registry)] == [[]] * len(small.registry.names())
    bare = load_model(small.registry, base).model
    images = small.test_images(base, tuple(base.details["pixel_stats"])).images
    for init, name in names.items():
        artifact = small.registry.get(name)
        assert evaluate(name, workspace=small)[0].scores == artifact.scores
        off = evaluate(name, alphas=[0.0], workspace=small)[0]
        assert [row["loss"] for row in off.scores["per_digit"]] == [row["loss"] for row in base.scores["per_digit"]]
        rank = 4 if init in STARTS and STARTS[init].moves_weight else 2
        back = import_adapter(small.runs_dir / name, base=BASE, workspace=small, name=f"back-{init}")
        assert back.config["rank"] == rank
        ours, theirs = (load_model(small.registry, each).model for each in (artifact, back))
        with torch.no_grad():
            torch.testing.assert_close(theirs(images), ours(images), rtol=1e-5, atol=1e-5)
            assert float((ours(images) - bare(images)).abs().max()) > 1e-3
    rows = {row["tensor"]: row for row in diff(small.registry, names["corda"], names["eva"])["weights"]}
    assert rows["fc1"]["norm_a"] > 0
    both = combine([names["olora"], names["eva"]], workspace=small)
    assert both.config["rank"] == 6
    merged = merge(names["lora-null"], workspace=small)
    assert merged.details["merged"]["predictions_changed"] == 0
    again = sweep([2], grid={"inits": f"kaiming,{','.join(STARTS)}"}, config=AdapterConfig(epochs=1, lr=0.01),
                  workspace=small, name="starts")  # fmt: skip
    assert again.digest == made.digest


def test_statistics_of_a_start_of_old_inputs_have_their_basis_so_that_the_next_task_can_use_them(small):
    adapter = finetune(AdapterConfig(init="lora-null", rank=2, epochs=1, digits=None), workspace=small)
    base = small.registry.get(BASE)
    assert load_statistics(adapter).shares_basis(load_statistics(base))
    merged = merge(adapter.name, workspace=small)
    assert load_statistics(merged).digits.tolist() == list(range(10))
    other = finetune(AdapterConfig(init="eva", rank=2, epochs=1), base=BASE, workspace=small)
    assert not load_statistics(other).shares_basis(load_statistics(base))


def test_a_bank_has_the_statistics_that_its_members_need(small):
    base = small.registry.get(BASE)
    configs = [
        resolve(AdapterConfig(init=init, rank=2), base) for init in ("olora", "corda", "lora-ga", "kaiming", "eva")
    ]
    banks = cut_into_banks([AdapterRequest(config.init, config) for config in configs], base, Runtime())
    assert sorted(sorted(member.name for member in bank) for bank in banks) == [
        ["corda"],
        ["eva", "kaiming"],
        ["lora-ga", "olora"],
    ]


def test_what_a_start_is_not_for_is_refused(small, refused):
    refused(["finetune", "--method", "dora", "--init", "eva"], 2, "eva is a start of LoRA")
    refused(["finetune", "--train", "A", "--init", "corda"], 2, "A starts at zero where it is trained alone")
    refused(["finetune", "--protect", "mask", "--init", "olora"], 2, "not for what is trained from olora")
    refused(["finetune", "--init", "evo"], 2, "did you mean 'eva'?")
    with pytest.raises(ConfigError, match="olora is computed, not drawn"):
        AdapterConfig(init="olora", vary="init")
    with pytest.raises(ConfigError) as caught:
        AdapterConfig(method="pissa", init="olora")
    assert len(caught.value.problems) == 1
    for init in ("corda", "lora-null"):
        with pytest.raises(UsageError, match="none to protect") as error:
            resolve(AdapterConfig(init=init, digits=small.registry.get(BASE).known_digits), small.registry.get(BASE))
        assert f"leave --init {init} out" in str(error.value.hint)
