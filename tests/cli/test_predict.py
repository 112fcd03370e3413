"""``lora-mnist predict``: pictures in, digits out."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from small_artifacts import BASE, R2

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.data.picture_doubts import DOUBTS
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages.records.loading import load_model


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MNISTDataset]:
    """A folder with 150 test images of 0 to 4 as PNGs, five times as large and dark on light; and the images."""
    folder = tmp_path_factory.mktemp("pictures")
    test = MNISTDataset.load("test", DigitSet.parse("0-4"))
    chosen = MNISTDataset(test.images[:150], test.labels[:150])
    for i, image in enumerate(chosen.images):
        grey = ((image * 0.3081 + 0.1307) * 255).round().clip(0, 255).reshape(28, 28).numpy().astype(np.uint8)
        large = Pillow.fromarray(255 - grey).resize((140, 140), Pillow.Resampling.BICUBIC)
        large.save(folder / f"{i:03d}.png")
    return folder, chosen


def test_pictures_are_recognised_nearly_as_well_as_the_images_they_were_made_of(digits, run):
    """On MNIST itself, as the small data have no handwriting."""
    folder, test = digits
    assert run("train-base", "--epochs", "1", "--quiet").code == 0
    registry = Registry(Path("runs"))
    model = load_model(registry, registry.get("base-0-4")).model
    expected = (predict(model, test.images).argmax(1) == test.labels).double().mean()
    results = run("predict", folder, "--artifact", "base-0-4", "--json").json["results"]
    assert all(row["inverted"] and row["base"] is None for row in results)
    found = np.mean([row["digit"] == label for row, label in zip(results, test.labels.tolist(), strict=True)])
    assert float(expected) > 0.95
    assert found >= float(expected) - 0.02


def test_base_and_adapter_side_by_side(digits, runs, run):
    picture = digits[0] / "000.png"
    (row,) = run("predict", picture, "--artifact", R2, "--json").json["results"]
    (base,) = run("predict", picture, "--artifact", BASE, "--json").json["results"]
    assert row["base"] == {key: base[key] for key in row["base"]}
    assert row["probability"] == pytest.approx(max(row["probabilities"]))
    assert row["runner_up_probability"] == pytest.approx(sorted(row["probabilities"])[-2])
    assert sum(row["probabilities"]) == pytest.approx(1)
    document = run("predict", picture, "--artifact", R2, "--alpha", "0", "--json").json
    assert document["alpha"] == 0
    assert document["results"][0]["probabilities"] == base["probabilities"]
    outcome = run("predict", picture, "--artifact", R2)
    # The small data have no handwriting.
    assert (outcome.code, outcome.err) == (0, f"warning: {picture}: {DOUBTS['unlike']}\n")
    assert row["doubts"] == base["doubts"] == ["unlike"]
    line = next(line for line in outcome.out.splitlines() if "000.png" in line)
    cells = [cell.strip() for cell in re.split(r"\s{3,}", line.strip())]
    names = document["classes"]
    figures = [(row["digit"], row["probability"]), (row["runner_up"], row["runner_up_probability"]),
               (row["base"]["digit"], row["base"]["probability"])]  # fmt: skip
    assert cells == [str(picture), *(
        cell for digit, probability in figures for cell in (f"{digit} {names[digit]}", f"{100 * probability:.2f}")
    )]  # fmt: skip


def test_stdin_and_what_the_model_saw(digits, runs, run, monkeypatch):
    picture = digits[0] / "000.png"
    direct = run("predict", picture, "--show-input", "--json").json["results"][0]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(picture.read_bytes())))
    piped = run("predict", "-", "--show-input", "--json").json["results"][0]
    assert piped == direct | {"image": "-"}
    seen = np.array(piped["input"])
    assert (seen.shape, seen.min(), seen.max()) == ((28, 28), 0, 255)
    shown = run("predict", picture, "--show-input").out.partition("as the model saw it:\n")[2].splitlines()
    assert len(shown) == 28
    assert [bool(line.strip()) for line in shown] == [bool((row >= 26).any()) for row in seen]
    assert "saw" not in run("predict", picture).out


@pytest.mark.parametrize(
    ("arguments", "code", "shown"),
    [
        (["none.png"], 4, "there is no image none.png"),
        (["text.png"], 4, "text.png is not an image (PNG, JPEG, WebP, TIFF, BMP or GIF)"),
        (["empty.png"], 4, "empty.png is empty"),
        (["good.png", "--no-invert"], 4, "nothing is drawn on good.png"),
        (["good.png", "text.png"], 4, "text.png is not an image"),
        (["good.png", "--artifact", "none"], 3, "none"),
        (["good.png", "--artifact", BASE, "--alpha", "0"], 2, "is a base and has no alpha"),
        (["good.png", "--alpha", "nan"], 2, "alpha is a finite number"),
        ([], 2, "IMAGE"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, code, shown, runs, refused, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("a text")
    (tmp_path / "empty.png").touch()
    picture = np.full((40, 40), 255, np.uint8)
    picture[10:30, 18:22] = 0
    Pillow.fromarray(picture).save("good.png")
    refused(["predict", *arguments, "--quiet"], code, shown)


def test_the_examples_are_digits_that_a_stranger_can_try(runs, run):
    """On MNIST itself, wherever the package is installed; a file that is there stays."""
    Path("scans").mkdir()
    Path("scans", "two.png").write_text("mine")
    outcome = run("predict", "--examples", "--data-dir", "none")
    files = ["seven.png", "scans/four.png", "scans/nine.png"]
    assert (outcome.code, outcome.out.split()) == (0, files)
    assert outcome.err == "scans/two.png was there and is kept\n"
    assert Path("scans", "two.png").read_text() == "mine"
    for file in files:
        assert Path(file).stat().st_size < 5_000
        with Pillow.open(file) as picture:
            assert picture.size == (180, 180)
            assert picture.getpixel((0, 0)) == 255
    Path("seven.png").unlink()
    document = run("predict", "--examples", "--json").json
    assert (document["examples"], document["kept"]) == (files[:1], ["scans/two.png", *files[1:]])


def test_no_picture_is_told_what_helps(runs, refused):
    refused(["predict"], 2, "no IMAGE is named (lora-mnist predict --examples writes some)")


def test_what_a_folder_has_beside_pictures_is_named(digits, runs, run):
    Path("some").mkdir()
    Path("some", "0.png").write_bytes((digits[0] / "000.png").read_bytes())
    assert "skipped" not in run("predict", "some").err
    for name in (".hidden", "notes.txt"):
        Path("some", name).touch()
    assert "skipped in some: notes.txt (no .png, .jpg, " in run("predict", "some").err
    for name in ("a.txt", "b.txt", "c.txt"):
        Path("some", name).touch()
    assert "skipped in some: a.txt, b.txt, c.txt and 1 more (no .png" in run("predict", "some", "--route").err
    assert "skipped" not in run("predict", "some", "--quiet").err
