"""A user's own data set: read from folders and arrays, fitted, kept, and refused with a clear line."""

from __future__ import annotations

import io
import json
import os
import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_data import arrays, draw, write_folder, write_npz
from PIL import Image

from lora_mnist_cli.data.own_import import take_in
from lora_mnist_cli.data.own_source import RECORD, place_of
from lora_mnist_cli.data.pictures import read_image
from lora_mnist_cli.data.sources import data_digest, digit_counts, forget_splits, load_split, source_of
from lora_mnist_cli.system.errors import DataError


class Heard:
    """What an import said, and how many images it read."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.read = 0

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def reading(self, done: int, count: int) -> None:
        assert done == self.read < count
        self.read += 1


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    forget_splits()


DATA = Path("data")


def taken(path: Path, heard: Heard | None = None) -> str:
    forget_splits()
    return take_in(path, DATA, heard or Heard())


def test_the_same_pictures_as_a_folder_and_as_arrays_are_the_same_data_set():
    given = arrays()
    digests = {}
    for path in (write_folder(Path("a", "shapes"), given), write_npz(Path("shapes.npz"), given)):
        assert taken(path) == "own-shapes"
        digests[path] = data_digest("own-shapes", DATA)
        assert source_of("own-shapes", DATA).classes == ("0", "1", "2", "3")
        shutil.rmtree("data")
    assert len(set(digests.values())) == 1


def test_each_picture_is_fitted_as_predict_fits_it():
    folder = write_folder(Path("shapes"), arrays(), names=["d", "c", "b", "a"])
    taken(folder)
    images, labels = load_split("own-shapes", "test", DATA)
    assert (images.shape, images.dtype, labels.dtype) == ((20, 28, 28), np.uint8, np.uint8)
    assert labels.tolist() == 5 * [0, 1, 2, 3]  # the first of each class, then the second
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = sorted((folder / "test" / "abcd"[label]).iterdir())[number // 4]
        assert (image == np.rint(255 * read_image(str(file)).pixels)).all()
    assert digit_counts("own-shapes", "train", DATA) == [10, 10, 10, 10, 0, 0, 0, 0, 0, 0]


def test_images_in_the_form_of_mnist_stay_as_they_are(small_images):
    x, y = small_images(60)
    taken(write_npz(Path("mine.npz"), {"x_train": x, "y_train": y, "x_test": x[:10], "y_test": y[:10]}))
    images, labels = load_split("own-mine", "train", DATA)
    assert (images == x).all()
    assert (labels == y).all()


def test_mnist_itself_stays_as_it_is():
    x, y = load_split("mnist", "test", Path("nowhere"))
    x, y = x[:500], y[:500]
    taken(write_npz(Path("again.npz"), {"x_train": x, "y_train": y, "x_test": x, "y_test": y}))
    images, _ = load_split("own-again", "test", DATA)
    assert sorted(image.tobytes() for image in images) == sorted(image.tobytes() for image in x)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "2"], ("2", "9", "10")), (["b", "C", "a"], ("C", "a", "b")), (["x", "7", "10"], ("7", "10", "x")),
    ],
)  # fmt: skip
def test_classes_are_ordered_by_number_or_name(names, order):
    taken(write_folder(Path("shapes"), arrays(3, 2, 1), names))
    assert source_of("own-shapes", DATA).classes == order


def test_the_name_of_a_class_is_the_same_on_every_system():
    taken(write_folder(Path("shapes"), arrays(2, 1, 1), [unicodedata.normalize("NFD", "é"), "z"]))
    assert source_of("own-shapes", DATA).classes == ("z", unicodedata.normalize("NFC", "é"))


def test_classes_of_arrays_may_have_names_in_their_own_order():
    taken(write_npz(Path("a.npz"), arrays(3), classes=np.array(["z", "花", "a b"])))
    assert source_of("own-a", DATA).classes == ("z", "花", "a b")
    given = arrays(3)
    texts = np.array(["z", "y", "x"])
    taken(write_npz(Path("b.npz"), given | {f"y_{split}": texts[given[f"y_{split}"]] for split in ("train", "test")}))
    assert source_of("own-b", DATA).classes == ("x", "y", "z")


FORMS: dict[str, Callable[[Any], Any]] = {
    "a last axis of one": lambda x: x[..., None],
    "from 0 to 1": lambda x: x / 255,
    "whole numbers of 64 bits": lambda x: x.astype(np.int64),
    "real numbers to 255": lambda x: x.astype(np.float32),
    "in the order of Fortran": np.asfortranarray,
    "in three equal colours": lambda x: np.repeat(x[..., None], 3, 3),
    "with a full last channel": lambda x: np.concatenate([np.repeat(x[..., None], 3, 3), 0 * x[..., None] + 255], 3),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_arrays_does_not_matter(form):
    given = arrays(2, 2, 1)
    grey = {
        name: np.stack(
            [np.asarray(Image.fromarray(image).convert("L")) // 9 * 9 + np.arange(45) // 5 for image in values]
        )
        for name, values in given.items()
        if name.startswith("x")
    }
    taken(write_npz(Path("plain.npz"), given | grey))
    taken(write_npz(Path("other.npz"), given | {name: FORMS[form](values) for name, values in grey.items()}))
    assert data_digest("own-plain", DATA) == data_digest("own-other", DATA)


def test_labels_may_be_a_column():
    given = arrays(2, 2, 1)
    taken(write_npz(Path("a.npz"), given))
    taken(write_npz(Path("b.npz"), given | {"y_train": given["y_train"][:, None]}))
    assert data_digest("own-a", DATA) == data_digest("own-b", DATA)


def test_without_train_and_test_every_fifth_picture_is_a_test_picture():
    folder = write_folder(Path("made"), arrays(2, 11, 1))
    taken(Path(shutil.move(folder / "train", "flat")))
    assert digit_counts("own-flat", "train", DATA)[:2] == [9, 9]
    images, labels = load_split("own-flat", "test", DATA)
    assert labels.tolist() == [0, 1, 0, 1]
    files = sorted(Path("flat", "1").iterdir())
    for image, file in zip(images[1::2], files[4::5], strict=True):
        assert (image == np.rint(255 * read_image(str(file)).pixels)).all()


def test_what_is_no_picture_is_left_out_and_told_unless_hidden():
    folder = write_folder(Path("shapes"), arrays(2, 2, 1))
    for name in (".DS_Store", "train/.DS_Store", "train/0/.DS_Store", "README.md", "train/0/Thumbs.db"):
        (folder / name).write_bytes(b"x")
    (folder / "train" / "__MACOSX").mkdir()
    heard = Heard()
    taken(folder, heard)
    notice, _ = heard.notices
    assert notice.startswith(f"skipped in {Path('shapes', 'train', '0')}: Thumbs.db")
    assert digit_counts("own-shapes", "train", DATA)[:3] == [2, 2, 0]


def test_it_is_read_again_only_where_it_changed():
    folder = write_folder(Path("shapes"), arrays(2, 2, 1))
    first, again, touched, changed = Heard(), Heard(), Heard(), Heard()
    taken(folder, first)
    digest = data_digest("own-shapes", DATA)
    taken(folder.absolute(), again)
    assert (first.read, again.read) == (6, 0)
    file = next((folder / "train" / "0").iterdir())
    os.utime(file, (1, 1))
    taken(folder, touched)
    assert (touched.read, data_digest("own-shapes", DATA)) == (6, digest)
    assert not any("has changed" in notice for notice in touched.notices)
    Image.fromarray(draw(3, 0)).save(file)
    taken(folder, changed)
    assert changed.read == 6
    assert any("own-shapes has changed" in notice for notice in changed.notices)
    assert data_digest("own-shapes", DATA) != digest
    # What it was before is gone.
    assert len(list(place_of("own-shapes", DATA).iterdir())) == 2


def test_few_images_are_told_with_what_helps():
    heard, enough = Heard(), Heard()
    taken(write_npz(Path("few.npz"), arrays(2, 100, 1)), heard)
    # 160 of 200 are trained on: 3 batches of 64.
    assert heard.notices == [
        "own-few has 200 training images: the usual 10 epochs are 30 steps; "
        "more --epochs or a smaller --batch-size give more"
    ]
    taken(write_npz(Path("many.npz"), arrays(2, 361, 1, side=15)), enough)
    assert enough.notices == []


def test_all_pictures_that_can_not_be_used_are_named_at_once():
    folder = write_folder(Path("shapes"), arrays(2, 9, 1))
    names = [folder / "train" / "0" / f"{number:05}.png" for number in range(0, 14, 2)]
    for name in names[:-1]:
        Image.new("L", (30, 30), 255).save(name)
    names[-1].write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        taken(folder)
    listed = f"{', '.join(map(str, names[1:6]))} and 1 more"
    assert caught.value.problem == f"nothing is drawn on {names[0]}; nor can 6 other images be used: {listed}"
    assert not DATA.exists()


def test_other_names_of_classes_are_another_data_set():
    given = arrays(2, 2, 1)
    taken(write_npz(Path("a.npz"), given, classes=np.array(["x", "y"])))
    taken(write_npz(Path("b.npz"), given, classes=np.array(["x", "z"])))
    assert data_digest("own-a", DATA) != data_digest("own-b", DATA)


@pytest.mark.parametrize(("name", "expected"), [("my flowers (2)", "own-my-flowers-2"), ("x" * 99, "own-" + "x" * 40)])
def test_its_name_is_that_of_the_folder_as_an_artifact_can_have_it(name, expected):
    assert taken(write_folder(Path(name), arrays(2, 1, 1))) == expected


def test_missing_and_damaged_files_say_how_to_get_them_back():
    folder = write_folder(Path("shapes"), arrays(2, 2, 1))
    for use in (lambda: load_split("own-shapes", "test", DATA), lambda: data_digest("own-shapes", DATA)):
        with pytest.raises(
            DataError, match=r"own-shapes is not in .*data .*train-base --dataset shapes, or shapes\.npz"
        ):
            use()
    taken(folder)
    place = place_of("own-shapes", DATA)
    (images,) = place.glob("*/raw/t10k-images*")
    content = images.read_bytes()
    images.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"t10k-images.* is damaged: its SHA-256 .*give it again"):
        load_split("own-shapes", "test", DATA)
    images.unlink()
    with pytest.raises(DataError, match=r"own-shapes has lost files .*give it again"):
        load_split("own-shapes", "test", DATA)
    taken(folder)  # which is read again, although it has not changed
    assert len(load_split("own-shapes", "test", DATA)[1]) == 2


RECORDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "one class": lambda record: record.update(classes=["a"]),
    "eleven classes": lambda record: record.update(classes=list("abcdefghijk")),
    "a class that is a number": lambda record: record.update(classes=["a", 1]),
    "a class twice": lambda record: record.update(classes=["a", "a"]),
    "classes that are a text": lambda record: record.update(classes="ab"),
    "another folder": lambda record: record.update(folder="../../../etc"),
    "no sum": lambda record: record["sha256"].popitem(),
    "a sum that is none": lambda record: record["sha256"].update({"train-images-idx3-ubyte": 1}),
    "one field more": lambda record: record.update(more=1),
    "one field less": lambda record: record.pop("made_from"),
}


@pytest.mark.parametrize("change", [*RECORDS, "no JSON", "no object", "too long"])
def test_nothing_in_a_record_is_believed(change):
    taken(write_folder(Path("shapes"), arrays(2, 2, 1)))
    path = place_of("own-shapes", DATA) / RECORD
    record = json.loads(path.read_bytes())
    RECORDS.get(change, len)(record)
    path.write_text({"no JSON": "{", "no object": "[]", "too long": 20_000 * " "}.get(change) or json.dumps(record))
    with pytest.raises(DataError, match=r"data\.json is damaged: .*delete it"):
        load_split("own-shapes", "test", DATA)


def _header(shape: str, dtype: str = "|u1") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def _put(**changed: Any) -> Callable[[Path], object]:
    return lambda path: write_npz(path, arrays(3, 2, 1) | changed)


def _raw(content: bytes) -> Callable[[Path], object]:
    """Write a file whose ``x_train`` has these bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, values in arrays(3, 2, 1).items():
                plain = io.BytesIO()
                np.save(plain, values)
                archive.writestr(f"{name}.npy", content if name == "x_train" else plain.getvalue())

    return write


def _damage(change: Callable[[bytearray], object]) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        content = bytearray(write_npz(path, arrays(3, 2, 1)).read_bytes())
        change(content)
        path.write_bytes(content)

    return write


X, Y = arrays(3, 2, 1)["x_train"], arrays(3, 2, 1)["y_train"]
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: path.write_bytes(b""), "not a zip file"),
    "something else": (lambda path: path.write_bytes(b"hello"), "not a zip file"),
    "a half": (_damage(lambda content: content.__delitem__(slice(len(content) // 2, None))), "not a zip file"),
    "a flipped bit": (_damage(lambda content: content.__setitem__(900, content[900] ^ 1)), "CRC"),
    "no images": (_put(x_train=None), "no x_train"),
    "objects": (_put(x_train=np.array([None] * 6, object)), "Python objects"),
    "names without order": (_put(classes=np.array([["a", "b", "c"]])), "list of names"),
    "too few names": (_put(classes=np.array(["a", "b"])), "labels from 0 to 2, and classes has 2 names"),
    "a name that breaks lines": (_put(classes=np.array(["a\n", "b", "c"])), "can't be the name of a class"),
    "an endless name": (_put(classes=np.array(["a" * 41, "b", "c"])), "can't be the name of a class"),
    "an equal name": (_put(classes=np.array(["a", "b", "b"])), "no train images of class|two classes of one name"),
    "a label less": (_put(y_train=Y[1:]), "5 labels for 6 images"),
    "labels with a point": (_put(y_train=Y.astype(float)), "holds float64, and labels are whole numbers or names"),
    "a label per class": (_put(y_train=np.eye(3)[Y]), "6 × 3, and labels are one per image"),
    "flat images": (_put(x_train=X.reshape(6, -1)), "6 × 6,075, and images are n × height × width"),
    "two channels": (_put(x_train=X[..., :2]), "6 × 45 × 45 × 2"),
    "no image": (_put(x_train=X[:0], y_train=Y[:0]), "x_train is empty"),
    "no height": (_put(x_train=X[:, :0]), "x_train is empty"),
    "complex numbers": (_put(x_train=X * 1j), "pixels are numbers"),
    "texts": (_put(x_train=X.astype(str)), "pixels are numbers"),
    "NaN": (_put(x_train=np.where(np.arange(X.size).reshape(X.shape) == 7, np.nan, X)), "no finite numbers"),
    "infinity": (_put(x_train=np.where(np.arange(X.size).reshape(X.shape) == 7, np.inf, X)), "no finite numbers"),
    "numbers below 0": (_put(x_train=X - 9.0), "from -4 to 241"),
    "16 bits": (_put(x_train=X.astype(np.uint16) * 9), "pixels are from 0 to 1 or from 0 to 255"),
    "a blank image": (_put(x_train=0 * X), r"nothing is drawn on x_train\[0\] of mine.npz"),
    "one class": (_put(y_train=0 * Y, y_test=0 * Y[:3]), "1 class, not 2 to 10"),
    "eleven classes": (lambda path: write_npz(path, arrays(11, 1, 1)), "11 classes, not 2 to 10"),
    "a class without training": (_put(y_train=Y % 2), "no train images of class 2"),
    "a class without a test": (_put(y_test=Y[:3] % 2), "no test images of class 2"),
    "a promise": (_raw(_header("(6, 999999, 999999)")), "at most 1,073,741,824 are read"),
    "a promise that is not kept": (_raw(_header("(6, 45, 45)") + bytes(9)), "can't be read"),
    "more than promised": (_raw(_header("(6, 5, 5)") + bytes(999)), "more values than its header promises"),
    "a negative side": (_raw(_header("(6, -5, 5)")), "can't be read"),
    "a type of Python": (_raw(_header("(6, 5, 5)", "|O")), "Python objects"),
    "another format": (_raw(b"\x93NUMPY\x09\x00"), r"version 9\.0"),
    "no format": (_raw(b"hello"), "can't be read"),
}


@pytest.mark.parametrize("case", FILES)
def test_arrays_are_refused_with_what_is_wrong(case):
    write, problem = FILES[case]
    write(Path("mine.npz"))
    with pytest.raises(DataError, match=problem) as caught:
        taken(Path("mine.npz"))
    assert "mine.npz" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not DATA.exists()


def test_no_array_is_unpacked_that_promises_too_much(monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.data.own_arrays.MAX_BYTES", 10_000)
    write_npz(Path("mine.npz"), arrays(3, 2, 1))
    with pytest.raises(DataError, match=r"can't read mine\.npz: it has 55,\d+ bytes"):
        taken(Path("mine.npz"))
    with zipfile.ZipFile("mine.npz") as plain, zipfile.ZipFile("small.npz", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    monkeypatch.setattr(np.lib.format, "read_array", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match=r"its arrays have 54,\d+ bytes, and at most 10,000 are read"):
        taken(Path("small.npz"))


def _unmade(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _lifted(folder: Path, inner: Path) -> None:
    """Put what is in an inner folder in the place of all that is in a folder."""
    aside = Path(shutil.move(inner, "aside"))
    shutil.rmtree(folder)
    aside.rename(folder)


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (_unmade, "shapes has no folder for each class"),
    "pictures alone": (lambda f: _lifted(f, f / "train" / "0"), "no folder for each class"),
    "no test": (lambda f: shutil.rmtree(f / "test"), "shapes has no folder test"),
    "no training": (lambda f: shutil.rmtree(f / "train"), "shapes has no folder train"),
    "an empty class": (lambda f: (f / "train" / "9").mkdir(), r"train.9 has no \.png"),
    "no picture": (lambda f: (f / "test" / "0" / "x.png").write_bytes(b"x"), r"test.0.x\.png is not an image"),
    "an empty picture": (lambda f: (f / "test" / "0" / "x.png").write_bytes(b""), r"test.0.x\.png is empty"),
    "a blank picture": (
        lambda f: Image.new("L", (30, 30), 255).save(f / "test" / "0" / "x.png"), r"nothing is drawn on .*x\.png",
    ),
    "one class": (lambda f: (shutil.rmtree(f / "train" / "0"), shutil.rmtree(f / "train" / "1")), "1 class, not 2"),
    "eleven classes": (lambda f: [(f / "train" / f"c{n}").mkdir() for n in range(8)], "11 classes, not 2 to 10"),
    "a class without training": (lambda f: shutil.rmtree(f / "train" / "0"), "no train images of class 0"),
    "a class without a test": (lambda f: shutil.rmtree(f / "test" / "0"), "no test images of class 0"),
    "an endless name": (lambda f: (f / "train" / "0").rename(f / "train" / ("a" * 41)), "can't be the name of a class"),
    "too few to split": (lambda f: _lifted(f, f / "train"), "class 0 has 2 pictures; to take one in 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_are_refused_with_what_is_wrong(case):
    change, problem = FOLDERS[case]
    folder = write_folder(Path("shapes"), arrays(3, 2, 1))
    change(folder)
    with pytest.raises(DataError, match=problem) as caught:
        taken(folder)
    assert "\n" not in str(caught.value)
    assert not DATA.exists()


@pytest.mark.parametrize(
    ("path", "problem"),
    [("nowhere", "there is no folder or file"), ("花", "can't be a data set's name"), ("a.txt", "neither a folder")],
)
def test_what_is_no_data_set_at_all(path, problem):
    Path("花").mkdir()
    Path("a.txt").touch()
    with pytest.raises(DataError, match=problem):
        taken(Path(path))


def test_too_many_images_are_refused_before_one_is_read(monkeypatch):
    monkeypatch.setattr("lora_mnist_cli.data.own_import.MAX_IMAGES", 5)
    heard = Heard()
    with pytest.raises(DataError, match="6 train images"):
        taken(write_npz(Path("a.npz"), arrays(3, 2, 1)), heard)
    assert heard.read == 0
