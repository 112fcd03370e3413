"""Adapters with a rank per layer: in PEFT, in other stages, and in banks beside others."""

from __future__ import annotations

import pytest
import torch

from lora_mnist_cli.registry.verification import verify
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import SCALINGS
from lora_mnist_cli.stages import combine, evaluate, finetune, merge, sweep
from lora_mnist_cli.stages.exporting import export_model

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("method", ["lora", "dora", "pissa"])
def test_peft_computes_the_same(method, scaling, small, images, exported, our_logits):
    config = AdapterConfig(
        method=method, rank=4, rank_pattern="fc1r3-fc3r1", scaling=scaling, alpha=0.5, epochs=1, lr=0.02
    )
    adapter = finetune(config, workspace=small, name="some")
    described = export_model("some", "peft", workspace=small)
    for folder in (small.runs_dir / "some", described["file"]):
        theirs = peft.PeftModel.from_pretrained(exported(), folder)
        with torch.no_grad():
            torch.testing.assert_close(theirs(images), our_logits(small, adapter), atol=1e-5, rtol=0)
            assert float((theirs(images) - exported()(images)).abs().max()) > 0.01
    doubled = 2 if method == "pissa" else 1
    shapes = {name: tuple(p.shape) for name, p in theirs.named_parameters() if "lora_A" in name}
    assert [shape[0] for shape in shapes.values()] == [3 * doubled, 4 * doubled, 1 * doubled]


def test_names_stages_and_banks_know_the_ranks_of_layers(small, run):
    made = sweep([4], grid={"rank_patterns": "uniform,fc2r2-fc3r1"}, seeds=[0, 1], workspace=small,
                 config=AdapterConfig(epochs=1), name="patterns")  # fmt: skip
    rows = {(row["rank_pattern"], row["seed"]): row for row in made.details["results"]}
    name = "lora-fashion-mnist-5-9-r4-fc2r2-fc3r1"
    assert rows["fc2r2-fc3r1", 0]["artifact"] == name
    assert rows["fc2r2-fc3r1", 0]["trainable_parameters"] == 4 * (784 + 16) + 2 * (16 + 12) + (12 + 10)
    folders = ["--runs-dir", small.runs_dir, "--data-dir", small.data_dir]
    printed = run("finetune", "--rank", "fc1=4,fc3=1,fc2=2", "--epochs", "1", *folders, "--json")
    assert printed.json["artifact"] == name
    adapter = small.registry.get(name)
    assert evaluate(name, workspace=small)[0].scores == adapter.scores
    both = combine([name, rows["uniform", 1]["artifact"]], workspace=small, name="both")
    assert both.config["rank"] == 8
    assert both.details["combined"]["residual"] < 1e-6
    merged = merge(name, merged="merged", workspace=small)
    assert merged.details["merged"]
    assert [verdict.problems for verdict in verify(small.registry)] == [[]] * len(small.registry.names())
    again = run("runs", "command", name, "--runs-dir", small.runs_dir).out
    assert "--rank-patterns uniform,fc2r2-fc3r1" in again
