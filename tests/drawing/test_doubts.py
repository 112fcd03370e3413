"""Pictures that are not one digit are doubted, and MNIST's own are not. The digits are MNIST's, on larger paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lora_mnist_cli.data.picture_doubts import DOUBTS
from lora_mnist_cli.data.pictures import read_image
from lora_mnist_cli.data.sources import load_split

SIDE = 200
"""Pixels per side of a digit."""


def cover(*digits: Any) -> Any:
    """Digits beside each other on a sheet: the ink of each pixel, 0 to 1."""
    enlarged = [Image.fromarray(digit).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for digit in digits]
    return np.pad(np.hstack([np.asarray(digit) for digit in enlarged]).astype(float) / 255, 100)


def paper(ink: Any, ground: float = 220, pen: float = 40) -> Any:
    return ground * (1 - ink) + pen * ink


def shadow(ink: Any) -> Any:
    sheet = paper(ink)
    sheet[:, : sheet.shape[1] // 3] *= 0.4
    return sheet


def table(ink: Any) -> Any:
    return np.pad(paper(ink), 120, constant_values=70)


def at_the_border(ink: Any) -> Any:
    return paper(ink[:, 200:])


def triangle(_: Any) -> Any:
    picture = Image.new("L", (400, 400), 0)
    ImageDraw.Draw(picture).polygon([(200, 90), (320, 310), (80, 310)], fill=255)
    return paper(np.asarray(picture) / 255)


def save(path: Path, grey: Any) -> str:
    noisy = grey + np.random.default_rng(0).normal(0, 4, grey.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def digits() -> Any:
    """A test image of each digit."""
    images, labels = load_split("mnist", "test", Path("nowhere"))
    return [images[np.flatnonzero(labels == digit)[1]] for digit in range(10)]


@pytest.mark.parametrize(
    ("make", "doubt"), [(shadow, "border"), (at_the_border, "border"), (table, "solid"), (triangle, "unlike")]
)
def test_what_is_not_one_digit_is_doubted(make, doubt, digits, trained, run, tmp_path):
    source = save(tmp_path / "a.png", make(cover(digits[7])))
    outcome = run("predict", source, "--runs-dir", trained, "--artifact", "lora-5-9-r2", "--json")
    assert doubt in outcome.json["results"][0]["doubts"]
    assert f"warning: {source}: {DOUBTS[doubt]}\n" in outcome.err
    assert outcome.code == 0


@pytest.mark.parametrize("chosen", [(1, 2, 3), (8, 1), (5, 5, 5, 5)])
def test_several_digits_are_doubted(chosen, digits, tmp_path):
    sheet = paper(cover(*(digits[digit] for digit in chosen)))
    assert read_image(save(tmp_path / "a.png", sheet)).doubts == ("parts",)


def test_one_digit_is_not_doubted_and_strict_lets_it_pass(digits, trained, run, tmp_path):
    fine = [save(tmp_path / f"{digit}.png", paper(cover(digits[digit]))) for digit in range(5, 10)]
    arguments = ("--runs-dir", trained, "--artifact", "lora-5-9-r2", "--strict")
    outcome = run("predict", *fine, *arguments, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert [row["doubts"] for row in outcome.json["results"]] == 5 * [[]]
    two = save(tmp_path / "two.png", paper(cover(digits[7], digits[7])))
    outcome = run("predict", fine[0], two, *arguments)
    assert outcome.code == 1
    assert f"1 of 2 pictures are doubtful: {two}" in outcome.err
    assert "two.png" in outcome.out


def test_a_digit_is_like_those_of_the_model_that_answers(digits, trained, run, tmp_path):
    """Each model is asked by its own statistics; with alpha 0 the base answers, and behind a router all of them."""
    zero = save(tmp_path / "0.png", paper(cover(digits[0])))

    def doubts(*arguments: str) -> list[str]:
        return list(run("predict", zero, "--runs-dir", trained, *arguments, "--json").json["results"][0]["doubts"])

    assert doubts("--artifact", "base-0-4") == []
    assert doubts("--artifact", "lora-5-9-r2", "--alpha", "0") == []
    assert doubts("--artifact", "lora-5-9-r2", "--route") == []


def test_test_images_are_hardly_ever_doubted(tmp_path):
    images, _ = load_split("mnist", "test", Path("nowhere"))
    doubted = 0
    for image in images[::50]:
        Image.fromarray(image).save(tmp_path / "a.png")
        doubted += bool(read_image(str(tmp_path / "a.png")).doubts)
    assert doubted <= 4
