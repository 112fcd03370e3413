"""What a sweep keeps: all of its adapters, the best on validation images, none, or one by its name."""

from __future__ import annotations

from typing import Any

import pytest

from lora_mnist_cli.settings.keep import Keep
from lora_mnist_cli.system.errors import UsageError


def _row(name: str, accuracy: float | None, loss: float | None = 1.0, failed: str | None = None) -> dict[str, Any]:
    return {"artifact": name, "failed": failed, "last_epoch": {"val_accuracy": accuracy, "val_loss": loss}}


ROWS = [
    _row("low", 0.5), _row("high", 0.9), _row("diverged", 0.99, failed="loss is nan"), _row("also high", 0.9, 0.5),
    _row("no figure", None, None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("all", {row["artifact"] for row in ROWS}),
        ("none", set()),
        ("best:1", {"also high"}),
        ("best:3", {"also high", "high", "low"}),
        ("best:9", {"also high", "high", "low", "no figure"}),
        ("low", {"low"}),
    ],
)
def test_the_best_on_validation_images_are_chosen_and_of_equal_ones_that_with_the_lower_loss(text, chosen):
    assert Keep.parse(text).choose(ROWS) == chosen
    assert str(Keep.parse(text)) == text


@pytest.mark.parametrize("text", ["best", "best:", "best:0", "best:-1", "best:1.5", "best:x", ""])
def test_best_without_a_number_is_refused(text):
    with pytest.raises(UsageError, match="no number of adapters"):
        Keep.parse(text)


def test_a_name_that_the_sweep_does_not_have_is_refused_and_so_is_a_choice_without_validation_images():
    with pytest.raises(UsageError, match="no adapter 'lora-1'") as refused:
        Keep.parse("lora-1").check(["lora-10"], 0.2)
    assert "did you mean 'lora-10'?" in refused.value.hint
    with pytest.raises(UsageError, match="leaves none"):
        Keep.parse("best:2").check(["lora-10"], 0.0)
    for text in ("all", "none", "lora-10"):
        Keep.parse(text).check(["lora-10"], 0.0)
