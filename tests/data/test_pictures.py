"""Pictures of digits: found, read with limits, and put into 28 × 28 as MNIST's authors did it."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from lora_mnist_cli.data import picture_decoding
from lora_mnist_cli.data.picture_files import find_images
from lora_mnist_cli.data.pictures import drawn, read_image
from lora_mnist_cli.system.errors import DataError, UsageError


def bar(height: int = 300, width: int = 200, ink: int = 255, ground: int = 0) -> np.ndarray:
    """A bar with a foot on its right: neither symmetric nor in the middle."""
    picture = np.full((height, width), ground, np.uint8)
    picture[height // 10 : height // 2, width // 10 : width // 5] = ink
    picture[height // 2 - height // 20 : height // 2, width // 10 : width // 2] = ink
    return picture


def save(path: Path, picture: np.ndarray, mode: str = "L", **options: Any) -> str:
    Pillow.fromarray(picture).convert(mode).save(path, **options)
    return str(path)


def test_a_digit_fills_a_box_of_20_with_its_centre_of_mass_in_the_middle(tmp_path):
    seen = read_image(save(tmp_path / "a.png", bar()))
    assert (seen.pixels.shape, seen.pixels.dtype) == ((28, 28), np.float32)
    assert (seen.pixels.min(), seen.pixels.max()) == (0, 1)
    rows, columns = (np.flatnonzero((seen.pixels > 0.5).any(axis)) for axis in (1, 0))
    # The figure has 120 × 80 pixels.
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (20, 13)
    for axis in (0, 1):
        mass = seen.pixels.sum(axis)
        assert abs(float((mass * np.arange(28)).sum() / mass.sum()) - 14) <= 0.5


@pytest.mark.parametrize("size", [(60, 40), (90, 60), (3000, 2000)])
def test_the_size_of_a_picture_makes_little_difference(size, tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    found = read_image(save(tmp_path / "b.png", bar(*size))).pixels
    assert np.abs(found - expected).mean() < 0.02


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (40, 180), (200, 90), (90, 0)])
def test_dark_on_light_is_found_out_and_contrast_does_not_matter(ink, ground, tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    seen = read_image(save(tmp_path / "b.png", bar(ink=ink, ground=ground)))
    assert seen.inverted == (ink < ground)
    np.testing.assert_allclose(seen.pixels, expected, atol=0.02)


def test_what_is_found_out_can_be_overridden(tmp_path):
    dark = save(tmp_path / "a.png", bar(ink=0, ground=255))
    assert read_image(dark, invert=True).pixels.sum() == read_image(dark).pixels.sum()
    with pytest.raises(DataError, match="nothing is drawn"):
        read_image(dark, invert=False)


def test_a_noisy_ground_is_no_ink(tmp_path):
    noise = np.random.default_rng(0).normal(0, 6, (300, 200))
    picture = (bar(ink=30, ground=190) + noise).clip(0, 255).astype(np.uint8)
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    assert np.abs(read_image(save(tmp_path / "b.png", picture)).pixels - expected).mean() < 0.02


@pytest.mark.parametrize("mode", ["RGB", "P", "1", "LA", "RGBA"])
def test_modes_of_png_make_no_difference(mode, tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    np.testing.assert_allclose(read_image(save(tmp_path / "b.png", bar(), mode)).pixels, expected, atol=0.01)


def test_jpeg_and_its_orientation(tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    exif = Pillow.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise to be seen upright
    turned = save(tmp_path / "b.jpg", np.rot90(bar()), exif=exif, quality=95)
    assert np.abs(read_image(turned).pixels - expected).mean() < 0.02


def test_sixteen_bits_are_not_cut_off(tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    for levels, name in ((200, "b.png"), (16, "b.png"), (4, "b.tif"), (1, "b.png")):  # of 16, 12, 10 and 8 bits
        Pillow.fromarray(bar().astype(np.uint16) * levels).save(tmp_path / name)
        assert np.abs(read_image(str(tmp_path / name)).pixels - expected).mean() < 0.02


def test_few_levels_are_a_picture_too(tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    Pillow.fromarray(bar().astype(np.uint16) // 17).save(tmp_path / "few.png")  # 16 of 65,536
    Pillow.fromarray(bar() // 255).save(tmp_path / "mask.png")
    grey = Pillow.fromarray(bar())
    plain = Pillow.new("L", grey.size, 128)
    Pillow.merge("LAB", [grey, plain, plain]).save(tmp_path / "lab.tif")
    for name in ("few.png", "mask.png", "lab.tif"):
        assert np.abs(read_image(str(tmp_path / name)).pixels - expected).mean() < 0.02, name


@pytest.mark.parametrize(
    ("least", "most"), [(0, 1), (0, 255), (0, 1e6), (0, 1.02), (-0.02, 1.02), (0, 1.5), (-1, 0), (0, 1e-3), (0, 3e38)]
)
def test_real_numbers_are_read(least, most, tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    values = bar().astype(np.float32) / 255 * np.float32(most - least) + np.float32(least)
    Pillow.fromarray(values).save(tmp_path / "b.tif")
    assert np.abs(read_image(str(tmp_path / "b.tif")).pixels - expected).mean() < 0.02
    values[5, 5] = np.nan
    Pillow.fromarray(values).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match="no finite numbers"):
        read_image(str(tmp_path / "b.tif"))


def test_a_large_picture_of_many_bits_is_made_smaller(tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    Pillow.fromarray(bar(3001, 2003).astype(np.uint16) * 16).save(tmp_path / "b.png")
    assert np.abs(read_image(str(tmp_path / "b.png")).pixels - expected).mean() < 0.02


@pytest.mark.parametrize(("grey", "inverted"), [(0, True), (255, False)])
def test_a_digit_on_nothing_is_put_on_what_lets_it_be_seen(grey, inverted, tmp_path):
    alpha = bar()
    Pillow.fromarray(np.dstack([np.full_like(alpha, grey), alpha])).save(tmp_path / "b.png")
    seen = read_image(str(tmp_path / "b.png"))
    assert seen.inverted == inverted
    np.testing.assert_allclose(seen.pixels, read_image(save(tmp_path / "a.png", bar())).pixels, atol=0.01)


def huge_png(side: int, width: int = 0, *, colours: int = 1) -> bytes:
    """A PNG of a few hundred kilobytes that unpacks to ``side`` rows of ``width`` pixels, or as many as rows."""
    width = width or side

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, side, 8, 2 if colours == 3 else 0, 0, 0, 0)
    packer = zlib.compressobj(1)
    body = b"".join([*(packer.compress(bytes(width * colours + 1)) for _ in range(side)), packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


READING = """
import re, sys
from pathlib import Path
from lora_mnist_cli.data.pictures import read_image

for name in sys.argv[1:]:
    try:
        read_image(name)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("read")
if sys.platform == "linux":  # ru_maxrss is no use: a new process begins with that of its parent
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def read_in_a_process(*paths: Path) -> tuple[list[str], int]:
    """What becomes of each picture, and the most memory that the process had, in bytes (0 where it is unknown)."""
    command = [sys.executable, "-W", "error", "-c", READING, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    return lines[: len(paths)], int(lines[-1]) * 1024 if len(lines) > len(paths) else 0


def test_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path):
    names = ["long.png", "many.png", "colours.png", "strip.jpg", "progressive.jpg", "large.webp"]
    paths = [tmp_path / name for name in names]
    paths[0].write_bytes(huge_png(1, 64_000_000))
    paths[1].write_bytes(huge_png(9_000))
    paths[2].write_bytes(huge_png(6_500, colours=3))
    Pillow.new("RGB", (65_000, 980)).save(paths[3])
    Pillow.new("L", (6_500, 6_500)).save(paths[4], progressive=True)
    Pillow.new("RGB", (4_000, 4_000)).save(paths[5], lossless=True, method=0, quality=0)
    found, most = read_in_a_process(*paths)
    for path, line in zip(paths, found, strict=True):
        assert line.startswith(f"DataError {path} has ")
        assert "too many to unpack (make it smaller" in line
    assert most < 100 * 2**20


def test_a_large_picture_is_decoded_in_little_memory(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.jpg")]
    paths[0].write_bytes(huge_png(8_000))
    Pillow.new("RGB", (8_000, 8_000)).save(paths[1])
    found, most = read_in_a_process(*paths)
    assert [line.partition(" on ")[0] for line in found] == 2 * ["DataError nothing is drawn"]
    assert most < 280 * 2**20


def test_a_file_of_many_parts_or_scans_is_refused(tmp_path, monkeypatch):
    Pillow.fromarray(bar()).save(tmp_path / "a.jpg", progressive=True)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[:2] + 5000 * b"\xff\xfe\0\2" + content[2:])
    monkeypatch.setattr(picture_decoding, "MAX_READS", 1000)
    read_image(str(tmp_path / "a.jpg"))
    with pytest.raises(DataError, match="too many parts"):
        read_image(str(tmp_path / "b.jpg"))
    monkeypatch.setattr(picture_decoding, "MAX_SCANS", 5 * 300 * 200)
    with pytest.raises(DataError, match="in 6 scans"):
        read_image(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize("suffix", ["bmp", "tif", "tiff", "webp", "gif"])
def test_other_formats_make_little_difference(suffix, tmp_path):
    expected = read_image(save(tmp_path / "a.png", bar())).pixels
    assert np.abs(read_image(save(tmp_path / f"b.{suffix}", bar())).pixels - expected).mean() < 0.02
    assert find_images([str(tmp_path)]) == [str(tmp_path / "a.png"), str(tmp_path / f"b.{suffix}")]


@pytest.mark.parametrize("suffix", ["mpo", "tif"])
def test_of_several_pictures_the_first_is_taken(suffix, tmp_path):
    """A phone writes a preview or a depth map behind its picture, in a file that is called a JPEG."""
    Pillow.fromarray(bar()).save(tmp_path / f"a.{suffix}", save_all=True, append_images=[Pillow.fromarray(bar()[::-1])])
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.jpg")
    expected = read_image(save(tmp_path / "b.png", bar())).pixels
    assert np.abs(read_image(str(tmp_path / "a.jpg")).pixels - expected).mean() < 0.02


@pytest.mark.parametrize("orientation", range(1, 9))
def test_any_orientation_is_turned_upright(orientation, tmp_path):
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    turned = save(tmp_path / "a.jpg", bar(), exif=exif, quality=95)
    with Pillow.open(turned) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    expected = read_image(save(tmp_path / "b.png", upright)).pixels
    assert np.abs(read_image(turned).pixels - expected).mean() < 0.01


def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    whole = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(whole, "PNG")
    jpeg = io.BytesIO()
    Pillow.fromarray(bar()).save(jpeg, "JPEG")
    png = whole.getvalue()
    for content, shown in (
        (b"", "is empty"),
        (b"a text\n", "is not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
        (png[: len(png) // 2], "is damaged: "),
        (jpeg.getvalue()[:-200], "is damaged: "),
        (png[:200] + bytes(100) + png[300:], "is damaged: "),
    ):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(DataError, match=shown) as caught:
            read_image(str(tmp_path / "a.png"))
        assert "\n" not in str(caught.value)


def test_animated_pictures_are_refused_and_still_ones_taken(tmp_path):
    frames = [Pillow.fromarray(bar()), Pillow.fromarray(bar()[::-1])]
    for name in ("a.gif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(DataError, match=r"is animated \(save the frame"):
            read_image(str(tmp_path / name))
    frames[0].save(tmp_path / "still.gif")
    assert read_image(str(tmp_path / "still.gif")).pixels.max() == 1


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_picture_of_nothing_is_refused(level, tmp_path):
    for side in (1, 50):
        with pytest.raises(DataError, match="nothing is drawn"):
            read_image(save(tmp_path / "a.png", np.full((side, side), level, np.uint8)))


def test_files_folders_and_what_is_not_there(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    inside = [str(tmp_path / "a.JPG"), str(tmp_path / "b.png")]
    assert find_images([str(tmp_path), "-", inside[1]]) == [*inside, "-", inside[1]]
    with pytest.raises(DataError, match="there is no image"):
        find_images([str(tmp_path / "none.png")])
    with pytest.raises(DataError, match=r"the folder .* has no"):
        find_images([str(tmp_path / "empty")])
    (tmp_path / "empty" / "seven").mkdir()
    with pytest.raises(DataError, match=r"name the folders in it: .*seven"):
        find_images([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="once only"):
        find_images(["-", "-"])


def test_a_file_without_end_is_not_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="not a regular file"):
        read_image("/dev/zero")
    monkeypatch.setattr(picture_decoding, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="can't read"):
        read_image(save(tmp_path / "a.png", bar()))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(11))))
    with pytest.raises(DataError, match="stdin has more than"):
        read_image("-")


def test_a_picture_in_characters():
    pixels = np.zeros((28, 28), np.float32)
    pixels[2, 3:6] = (0.05, 0.55, 1)
    lines = drawn(pixels)
    assert len(lines) == 28
    assert lines[2] == 8 * " " + "++@@"
    assert set(lines[:2] + lines[3:]) == {""}
