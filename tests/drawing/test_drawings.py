"""Hand-drawn-looking digits through ``predict``, with a model that is trained on all ten."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawing.handwriting import CASES, draw

from lora_mnist_cli import Workspace, finetune, train_base
from lora_mnist_cli.data.pictures import line_width, normalise, read_image


@pytest.fixture(scope="module", params=["1 epoch", pytest.param("in full", marks=pytest.mark.study)])
def ten(request: pytest.FixtureRequest, trained: Path, make_once: Callable[..., Path]) -> Path:
    """The study's base on 0-4 and its adapter on all ten digits."""

    def make(folder: Path) -> None:
        workspace = Workspace(folder / "runs")
        if request.param == "in full":
            train_base(workspace=workspace)
            finetune(rank=64, digits="0-9", workspace=workspace)
        else:
            shutil.copytree(trained, folder / "runs")
            finetune(rank=64, digits="0-9", workspace=workspace, epochs=1)

    return make_once(f"ten-{request.param}", make) / "runs"


@pytest.mark.parametrize("case", CASES)
def test_digits_that_somebody_drew_are_recognised(case, ten, run, tmp_path):
    expected = {}
    (tmp_path / "drawn").mkdir()
    for digit in range(10):
        path = tmp_path / "drawn" / f"{digit}.{'png' if digit % 2 else 'jpg'}"
        draw(digit, **CASES[case]).save(path, quality=90)
        expected[str(path)] = digit
    document = run("predict", tmp_path / "drawn", "--runs-dir", ten, "--artifact", "lora-0-9-r64", "--json").json
    found = {row["image"]: row["digit"] for row in document["results"]}
    assert found.keys() == expected.keys()
    assert {row["inverted"] for row in document["results"]} == {
        CASES[case].get("ink", 20) < CASES[case].get("paper", 240)
    }
    wrong = {path: found[path] for path in expected if found[path] != expected[path]}
    assert len(wrong) <= 1, wrong


def test_the_base_alone_knows_those_that_it_learned(ten, run):
    for digit in (2, 7):
        draw(digit).save(f"{digit}.png")
    two, seven = run("predict", "2.png", "7.png", "--runs-dir", ten, "--json").json["results"]
    assert (two["digit"], two["base"]["digit"], seven["digit"]) == (2, 2, 7)
    assert seven["base"]["digit"] < 5


@pytest.mark.parametrize("pen", [3, 6, 12, 24, 48])
def test_the_width_of_a_line_is_found(pen):
    ink = 1 - np.asarray(draw(1, pen=pen, ink=0, paper=255, wobble=0)).astype(np.float32) / 255
    # The line has two ends, which are outline as well.
    assert line_width(ink) == pytest.approx(pen, rel=0.3)


@pytest.mark.parametrize("digit", range(10))
def test_a_thin_line_has_the_ink_of_a_wider_one(digit, tmp_path):
    """However thin it is, it is seen as one that is 2.2 pixels of 28 × 28 wide."""
    seen = []
    for pen in (2, 4, 8, 25):  # the last is 2.2 of 20 pixels wide
        draw(digit, pen=pen, ink=0, paper=255, wobble=0).save(tmp_path / "a.png")
        seen.append(read_image(str(tmp_path / "a.png")).pixels)
    *thin, wide = seen
    for pixels in thin:
        assert pixels.max() == 1
        assert 0.75 < pixels.sum() / wide.sum() < 1.25


def test_lines_that_are_wide_enough_are_left_alone():
    ink = np.zeros((200, 200), np.float32)
    ink[20:180, 88:112] = 1  # of its box's 20 pixels three wide
    made = normalise(ink)
    assert ((made > 0.9).sum(), (made > 0.01).sum()) == (60, 60)
