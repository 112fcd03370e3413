"""The page computes what the program computes: logits of all test images, and the input made of a drawing."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from browser.chromium import FROM_TEXT, as_text
from drawing.handwriting import draw
from PIL import Image

from lora_mnist_cli.data.pictures import read_image
from lora_mnist_cli.data.sources import load_split
from lora_mnist_cli.evaluation.logits import predict
from lora_mnist_cli.models.lora import set_alpha
from lora_mnist_cli.stages import Workspace, evaluate
from lora_mnist_cli.stages.predicting import predict_images
from lora_mnist_cli.stages.records.loading import load_model

pytestmark = pytest.mark.browser

LOGITS = (
    FROM_TEXT
    + """
const [text, number, alpha] = given;
const bytes = fromText(text);
const adapter = model.adapters[number];
const changes = adapter ? changesOf(model, adapter, adapter.most, []) : model.layers.map(() => null);
const merged = mergedLayers(model.layers, changes, alpha);
const logits = new Float32Array(bytes.length / 784 * 10);
for (let i = 0; i < bytes.length / 784; i++) {
  const pixels = Float32Array.from(bytes.subarray(784 * i, 784 * (i + 1)), (value) => value / 255);
  const input = normalised(pixels, model.record.pixel_stats);
  logits.set(logitsOf(readyInput(model.layers, changes, input), merged, alpha), 10 * i);
}
const content = new Uint8Array(logits.buffer);
let answer = "";
for (let i = 0; i < content.length; i += 4096) answer += String.fromCharCode(...content.subarray(i, i + 4096));
return btoa(answer);
"""
)


@pytest.mark.parametrize(
    ("number", "alpha", "count"),
    [(-1, 0.0, 1_000), (0, 0.0, 1_000), (1, 0.5, 10_000), (1, 1.0, 1_000), (0, 1.0, 1_000)],
)
def test_test_images_have_the_programs_logits_and_its_predictions(opened, trained, number, alpha, count):
    """All of them where the adapter is half merged, and the first thousand elsewhere."""
    workspace = Workspace(trained)
    names = opened.compute("return model.adapters.map((adapter) => adapter.name)")
    artifact = workspace.registry.get(names[number] if number >= 0 else "base-0-4")
    loaded = load_model(workspace.registry, artifact)
    if number >= 0:
        set_alpha(loaded.model, alpha)
    expected = predict(loaded.model, workspace.test_images(artifact, loaded.pixel_stats).images).numpy()
    pixels, labels = load_split("mnist", "test", workspace.data_dir)
    answer = opened.compute(LOGITS, as_text(pixels[:count].tobytes()), number, alpha)
    logits = np.frombuffer(base64.b64decode(answer), "<f4").reshape(-1, 10)
    assert logits.shape == (count, 10)
    assert np.abs(logits - expected[:count]).max() < 1e-4
    assert (logits.argmax(1) == expected[:count].argmax(1)).all()
    if count < len(labels):
        return
    (scored,) = evaluate(artifact.name, alphas=[alpha] if number >= 0 else None, workspace=workspace)
    whole = next(row for row in scored.scores["subsets"] if row["digits"] == "0-9")
    assert (logits.argmax(1) == labels).mean() == pytest.approx(whole["accuracy"], abs=1e-9)


DRAWN = (
    FROM_TEXT
    + """
const ink = given[0] === null ? inkOfStrokes(strokesFromText(given[1])) : fromText(given[0]);
const png = new Uint8Array(await (await toPng(ink, PAD)).arrayBuffer());
const pixels = fitted(ink, PAD);
const adapter = model.adapters[1];
const changes = changesOf(model, adapter, adapter.most, []);
const ready = readyInput(model.layers, changes, normalised(pixels, model.record.pixel_stats));
const answer = (alpha) => softmax(logitsOf(ready, mergedLayers(model.layers, changes, alpha), alpha));
const [base, adapted] = [0, 0.75].map(answer);
return { png: btoa(String.fromCharCode(...png)), pixels: Array.from(pixels), base, adapted };
"""
)
STYLES = (
    {},
    {"pen": 4},
    {"pen": 30},
    {"box": (0.05, 0.5, 0.35, 0.95), "pen": 8},
    {"noise": 6, "paper": 20, "ink": 230},
)


def drawings():
    """Fifty pictures of 280 × 280: drawn by pens of several kinds, strokes of the page's own, and enlarged images."""
    for digit in range(10):
        for number, style in enumerate(STYLES[: 2 + digit % 2] if digit else STYLES):
            yield np.asarray(draw(digit, seed=number, size=(280, 280), **style)), None
    generator = np.random.default_rng(0)
    for _ in range(8):
        points = generator.integers(20, 260, (4, 2)).ravel()
        yield None, "".join(np.base_repr(value, 36).lower().zfill(2) for value in points)
    pixels, _ = load_split("mnist", "test", Workspace().data_dir)
    for i in range(14):
        picture = np.zeros((280, 280), np.uint8)
        size = (10, 7, 5)[i % 3]
        picture[: 28 * size, -28 * size :] = np.kron(pixels[i], np.ones((size, size), np.uint8))
        yield picture, None


@pytest.fixture(scope="module")
def fifty():
    made = list(drawings())
    assert len(made) == 50
    return made


def test_fifty_drawings_have_the_programs_input_and_its_answers(opened, trained, fifty, tmp_path):
    files, answers = [], []
    for number, (picture, strokes) in enumerate(fifty):
        text = None if picture is None else as_text(picture.tobytes())
        answers.append(opened.compute(DRAWN, text, strokes))
        files.append(str(tmp_path / f"{number:02}.png"))
        content = base64.b64decode(answers[-1]["png"])
        (tmp_path / f"{number:02}.png").write_bytes(content)
        if picture is not None:
            assert (np.asarray(Image.open(BytesIO(content))) == picture).all()
    name = opened.compute("return model.adapters[1].name")
    _, _, predictions = predict_images(files, name, alpha=0.75, workspace=Workspace(trained))
    for file, answer, prediction in zip(files, answers, predictions, strict=True):
        pixels = read_image(file).pixels
        assert np.abs(np.array(answer["pixels"]).reshape(28, 28) - pixels).max() < 1 / 255
        assert np.argmax(answer["adapted"]) == prediction.guess["digit"]
        assert np.abs(np.array(answer["adapted"]) - prediction.guess["probabilities"]).max() < 1e-3
        assert np.argmax(answer["base"]) == prediction.base["digit"]
