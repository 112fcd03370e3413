"""What bad input gets: one clear line on stderr, the right exit code, and nothing left behind."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from refusing import state
from small_artifacts import BASE, R1, R2, SWEEP, TRAIN_BASE

DATA = Path(__file__).resolve().parents[2] / "data" / "mnist"
TEST_IMAGES = "t10k-images-idx3-ubyte"


# One case per kind of refusal and command: what a value may be is tested beside the code that reads it.

TRAIN = [*TRAIN_BASE, "--name", "new"]
FINETUNE = ["finetune", "--epochs", "0", "--name", "new"]
NEW_SWEEP = ["sweep", "--epochs", "0", "--name", "new"]


VALUES = [
    ([*TRAIN, "--digits", "5-2"], "'5-2' runs backwards (did you mean 2-5?)"), ([*FINETUNE, "--digits", ""], "''"),
    ([*NEW_SWEEP, "--digits", "0-12"], "'0-12'"), (["evaluate", "--digits", "0,,4"], "'0,,4'"),
    (["plot", "predictions", "--digits", "a"], "'a'"), ([*FINETUNE, "--digits", "all,"], "all,"),
    ([*FINETUNE, "--rank", "0"], "0"), ([*FINETUNE, "--rank", "1.5"], "'1.5'"), ([*FINETUNE, "--rank", ""], "''"),
    ([*FINETUNE, "--alpha", "nan"], "nan"), ([*FINETUNE, "--alpha", "x"], "'x'"),
    ([*FINETUNE, "--dropout", "1"], "1.0"), ([*FINETUNE, "--scaling", "odd"], "'odd'"),
    ([*FINETUNE, "--recipe", "odd"], "'odd'"), ([*FINETUNE, "--base", BASE, "--target-layers", "fc1,fc9"], "fc9"),
    ([*NEW_SWEEP, "--ranks", "1,,2"], "1,,2"), ([*NEW_SWEEP, "--ranks", "4-2"], "4-2"),
    ([*NEW_SWEEP, "--ranks", "1,1"], "at least one: 1, 1"),
    ([*NEW_SWEEP, "--ranks", "1-1000000000"], "1-1000000000"), ([*NEW_SWEEP, "--seeds", "-1"], "-1"),
    ([*NEW_SWEEP, "--alpha", "inf"], "inf"),
    (["evaluate", "--alpha", "0,,1"], "0,,1"), (["evaluate", "--alpha", "0,nan"], "nan"),
    (["evaluate", "--min-accuracy", "0-4=1.01"], "1.01"), (["plot", "confusion", "--alpha", "nan"], "nan"),
    ([*TRAIN, "--epochs", "-1"], "-1"), ([*TRAIN, "--epochs", "x"], "'x'"), ([*TRAIN, "--lr", "0"], "0.0"),
    ([*TRAIN, "--val-split", "1"], "1.0"), ([*TRAIN, "--seed", str(2**63)], str(2**63)),
    ([*TRAIN, "--hidden-size", "64,,64"], "64,,64"), ([*TRAIN, "--hidden-size", "1-3"], "1-3"),
    ([*TRAIN, "--threads", "0"], "0"), ([*TRAIN, "--optimizer", "odd"], "'odd'"),
    ([*TRAIN, "--accelerator", "odd"], "'odd'"), ([*TRAIN, "--logger", "odd"], "'odd'"),
    ([*TRAIN, "--dataset", "odd"], "'odd'"), (["finetune", "--base", BASE, "--dataset", "kmist"], "kmist"),
    (["reproduce", "--dataset", "fashion"], "fashion-mnist"), ([*TRAIN_BASE, "--epochs", "0", "--name", ""], "''"),
    ([*FINETUNE, "--base", ""], "''"), ([*FINETUNE, "--epochs", "1", "--alpha", "0"], "at 0.0 nothing learns"),
    ([*NEW_SWEEP, "--epochs", "1", "--alpha", "0"], "at 0.0 nothing learns"),
    (["runs", "list", "--runs-dir", ""], "it is empty"), ([*TRAIN, "--runs-dir", ""], "it is empty"),
    ([*TRAIN, "--optimizer", "\x1b[31mred\n"], r"\x1b[31mred\n"), ([*TRAIN, "--digits", "\x1b[3m\n"], r"\x1b[3m\n"),
    ([*TRAIN, "--epochs", "-1", "--batch-size", "0"], "epochs is at least 0, not -1; batch size is at least 1, not 0"),
    # Options and words
    (["bogus"], "bogus"), (["evaluat"], "evaluate"), (["runs", "lst"], "list"), (["runs", "show"], "NAME"),
    (["evaluate", "--alhpa", "1"], "--alpha"), (["train-base", "--epochs"], "--epochs"),
    (["plot", "--output", "a.png"], "kind"), (["plot", "--digits", "3"], "kind"), (["plot", "rank"], "ranks"),
    (["evaluate", BASE, "more"], "more"), (["sweep", "--seed", "1", "--seeds", "0-2"], "--seeds 0-2"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "shown"), VALUES, ids=[" ".join([a[0], *a[-2:]])[:40] for a, _ in VALUES])
def test_odd_values(arguments, shown, runs, refused):
    refused(arguments, 2, shown)


def test_no_validation_split_is_allowed(runs, run):
    outcome = run(*TRAIN_BASE, "--epochs", "1", "--val-split", "0", "--name", "whole")
    assert outcome.code == 0
    assert "trained whole: 1 epoch in " in outcome.err
    assert "val." not in outcome.err
    header, *rows = (runs / "whole" / "history.csv").read_text().splitlines()
    columns = header.split(",")
    assert [row.split(",")[columns.index("val_loss")] for row in rows] == ["", ""]


# Names

ODD_NAMES = {
    "a/b": "'a/b'", "/a": "'/a'", "..": "'..'", ".": "'.'", "../a": "'../a'", ".hidden": "'.hidden'", "-x": "-x",
    "a\nb": r"'a\nb'", "\x1b[31mred": r"'\x1b[31mred'", "a b": "'a b'", "a\\b": r"'a\\b'", "é": "'é'",
    "a\x00b": r"'a\x00b'", "x" * 300: "x" * 40,
}  # fmt: skip
NAMERS = {
    "train-base": [*TRAIN_BASE, "--epochs", "0", "--name"],
    "finetune": ["finetune", "--epochs", "0", "--name"],
    "sweep": ["sweep", "--epochs", "0", "--name"],
    "finetune --base": ["finetune", "--base"],
    "sweep --base": ["sweep", "--base"],
    "evaluate": ["evaluate"],
    "plot": ["plot", "history"],
    "show": ["runs", "show"],
    "path": ["runs", "path"],
    "remove": ["runs", "remove"],
}


@pytest.mark.parametrize("name", ODD_NAMES, ids=[repr(name[:10]) for name in ODD_NAMES])
def test_odd_names(name, runs, refused):
    for command in ("path", "finetune"):
        line = refused([*NAMERS[command], name], 2, ODD_NAMES[name])
        if len(name) > 100:
            assert "300" in line


@pytest.mark.parametrize("command", NAMERS)
def test_every_command_refuses_an_odd_name(command, runs, refused):
    refused([*NAMERS[command], "../a"], 2, "'../a'")


def test_a_leading_dash_is_no_way_round(runs, refused):
    for command in ("evaluate", "show", "path", "remove"):
        refused([*NAMERS[command], "--", "-x"], 2, "'-x'")


def test_escape_sequences_in_names_of_folders_are_shown_escaped(runs, run):
    """Whoever may write to the folder of artifacts must not be able to steer a reader's terminal."""
    assert r"\x1b[31mred" in run("evaluate", "--runs-dir", "\x1b[31mred").err
    assert r"\x1b[31mred" in run("runs", "list", "--runs-dir", "\x1b[31mred").err
    (runs / SWEEP).rename(runs / "\x1b[31mred")
    (runs / "\x1b[32mgreen").mkdir()
    (runs / "\x1b[32mgreen" / "artifact.json").write_text("no JSON")
    for arguments in (["runs", "list"], ["runs", "show", BASE], ["runs", "remove", BASE]):
        outcome = run(*arguments)
        assert "\x1b" not in outcome.out
        assert "\x1b" not in outcome.err


# Artifacts


@pytest.mark.parametrize("command", ["evaluate", "plot", "show", "path", "remove", "finetune --base", "sweep --base"])
def test_an_unknown_artifact_gets_the_nearest_name(command, runs, refused):
    name = "base-fashion-mnist-0-5"
    refused([*NAMERS[command], name], 3, f"'{name}'", "did you mean 'base-fashion-mnist-0-4'?")


def test_a_name_like_none_gets_the_command_that_lists(runs, refused):
    refused(["evaluate", "zzz"], 3, "'zzz'", "lora-mnist runs list")


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["evaluate"], "lora-mnist train-base, then lora-mnist finetune"),
        (["evaluate", "--alpha", "0"], "lora-mnist train-base, then lora-mnist finetune"),
        (["evaluate", "lora-fashion-mnist-5-9-r8"], "lora-mnist train-base"),
        (["finetune"], "lora-mnist train-base"),
        (["sweep"], "lora-mnist train-base"),
        (["plot", "history"], "lora-mnist train-base"),
        (["plot", "ranks"], "lora-mnist train-base, then lora-mnist sweep"),
        (["runs", "show", BASE], "lora-mnist train-base"),
        (["runs", "path", BASE], "lora-mnist train-base"),
        (["runs", "remove", BASE], "lora-mnist train-base"),
    ],
)
def test_before_anything_was_trained_the_first_command_is_named(arguments, first, refused, tmp_path):
    refused(arguments, 3, first)
    refused([*arguments, "--runs-dir", "some/where"], 3, first)
    (tmp_path / "empty").mkdir()
    refused([*arguments, "--runs-dir", "empty"], 3, first)


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["finetune", "--base", R1], R1),
        (["finetune", "--base", SWEEP], SWEEP),
        (["evaluate", SWEEP], "lora-fashion-mnist-5-9-r1, lora-fashion-mnist-5-9-r2"),
        (["plot", "ranks", BASE], BASE),
        (["plot", "alpha", BASE], BASE),
        (["finetune", "--base", BASE, "--dataset", "kmnist"], "kmnist"),
        (["sweep", "--dataset", "kmnist"], "kmnist"),
    ],
)
def test_an_artifact_of_the_wrong_kind_or_data_set(arguments, shown, runs, refused):
    refused(arguments, 3, shown)


def test_an_adapter_on_the_wrong_base(runs, run, refused):
    assert run(*TRAIN_BASE, "--epochs", "0", "--seed", "1").code == 0
    shutil.rmtree(runs / BASE)
    (runs / "base-fashion-mnist-0-4-s1").rename(runs / BASE)
    refused(["evaluate", R1], 3, repr(R1), repr(BASE))
    refused(["plot", "confusion", R1], 3, repr(R1), repr(BASE))


def test_other_settings_under_a_name_are_named_with_the_options_that_help(runs, refused):
    refused(
        [*TRAIN_BASE, "--epochs", "2", "--schedule", "cosine"],
        3,
        "epochs 1 there, 2 asked for",
        "schedule",
        "--name",
        "--force",
    )


def test_a_base_that_others_need_is_not_replaced(runs, refused):
    refused([*TRAIN_BASE, "--epochs", "0", "--force"], 3, repr(BASE), R1)


def _flip(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("file", ["model.safetensors", "artifact.json"])
def test_a_damaged_artifact(file, runs, refused):
    _flip(runs / BASE / file)
    refused(["evaluate", BASE], 3, repr(BASE), file, "lora-mnist runs remove base-fashion-mnist-0-4")


# Folders


@pytest.mark.parametrize("command", [["finetune", "--rank", "2"], ["sweep", "--ranks", "1,2"]])
def test_what_is_damaged_is_not_up_to_date(command, runs, refused):
    weights = _flip(runs / R2 / "adapter_model.safetensors")
    refused([*command, "--epochs", "1", "--quiet"], 3, R2, "damaged", weights.name, "lora-mnist runs remove")


def test_a_runs_folder_that_is_a_file(tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    for arguments in (["train-base"], ["finetune"], ["evaluate"], ["runs", "list"], ["runs", "remove", "a"]):
        refused([*arguments, "--runs-dir", "file"], 2, "'file'", "--runs-dir")


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("command", [[*TRAIN_BASE, "--epochs", "0"], ["runs", "list"]])
def test_a_runs_folder_under_a_file(command, tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    refused([*command, "--runs-dir", "file/runs"], 5, "file/runs")


@pytest.fixture
def read_only(runs: Path, mount: Callable[[str], Path]) -> Iterator[Path]:
    """The trained folder where nothing can be written: without the permission, or for root in a file system."""
    if os.geteuid():
        runs.chmod(0o555)
        yield runs
        runs.chmod(0o755)
    else:
        copy = shutil.copytree(runs, mount("size=4m") / "runs")
        subprocess.run(["mount", "-o", "remount,ro", str(copy.parent)], check=True)
        yield copy


@pytest.mark.parametrize(
    "arguments",
    [
        [*TRAIN_BASE, "--epochs", "0", "--name", "new"],
        [*TRAIN_BASE, "--epochs", "1", "--force"],
        ["finetune", "--rank", "3", "--epochs", "0", "--base", BASE],
        ["sweep", "--ranks", "3", "--epochs", "0", "--base", BASE, "--name", "new"],
        ["runs", "remove", SWEEP],
    ],
)
def test_a_read_only_runs_folder(arguments, read_only, refused):
    before = state(read_only)
    refused([*arguments, "--runs-dir", read_only], 5, str(read_only), "--runs-dir")
    assert state(read_only) == before


def test_what_is_in_a_read_only_folder_can_be_used(read_only, run):
    for arguments in (["evaluate"], ["runs", "list"], [*TRAIN_BASE, "--epochs", "1"], ["plot", "history"]):
        assert run(*arguments, "--runs-dir", read_only).code == 0


@pytest.mark.usefixtures("data")
def test_a_missing_runs_folder_that_can_not_be_made(mount, refused):
    folder = mount("ro") / "some" / "runs"
    refused([*TRAIN_BASE, "--epochs", "0", "--runs-dir", folder], 5, str(folder), "--runs-dir")


def test_a_picture_that_can_not_be_written(runs, refused):
    refused(["plot", "history", BASE, "--output", "no/where.png"], 5, "no/where.png")


PAGE = 4096


def _pages(folder: Path) -> int:
    return sum(math.ceil(path.stat().st_size / PAGE) for path in folder.rglob("*") if path.is_file())


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("short_by", [1, 2, 8])
def test_a_full_disk(short_by, mount, trained, refused):
    """A page short, the manifest does not fit; two, the history; more, the weights."""
    folder = mount(f"size={(_pages(trained / 'base-fashion-mnist-0-4') - short_by) * PAGE}")
    refused([*TRAIN_BASE, "--epochs", "0", "--runs-dir", folder / "runs", "--quiet"], 5, "space", "--runs-dir")
    assert state(folder) == {}


@pytest.mark.usefixtures("data")
def test_a_disk_that_fills_up_keeps_what_was_there(mount, trained, run, refused):
    folder = mount(f"size={int(1.6 * _pages(trained / 'base-fashion-mnist-0-4')) * PAGE}")
    options = ["--epochs", "0", "--runs-dir", str(folder), "--quiet"]
    assert run(*TRAIN_BASE, *options).code == 0
    before = state(folder)
    refused([*TRAIN_BASE, "--seed", "1", *options], 5, "space", "--runs-dir")
    refused(["finetune", "--rank", "64", *options], 5, "space", "--runs-dir")
    refused(["sweep", "--ranks", "64", *options], 5, "space", "--runs-dir")
    assert state(folder) == before
    assert run("evaluate", BASE, "--runs-dir", folder).code == 0


def test_a_picture_on_a_full_disk(mount, runs, refused):
    picture = mount("size=8k") / "picture.png"
    refused(["plot", "history", BASE, "--output", picture], 5, str(picture), "space")
    assert state(picture.parent) == {}


def test_a_full_stdout(runs, program):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no full device here")
    with full.open("w") as stdout:
        ended = program("runs", "list", stdout=stdout)
    assert ended.code == 5
    assert ended.err.startswith("error: ")
    assert len(ended.err.splitlines()) == 1


# Data


@pytest.fixture
def damage(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """A data folder with MNIST's files, of which one has other content."""

    def make(name: str, content: bytes) -> Path:
        folder = tmp_path / "images" / "mnist"
        folder.mkdir(parents=True)
        for path in DATA.glob("*.gz"):
            if path.stem != name.removesuffix(".gz"):
                (folder / path.name).symlink_to(path)
        (folder / name).write_bytes(content)
        return folder.parent

    return make


@pytest.mark.parametrize("kind", ["a pixel", "packed", "not packed"])
def test_damaged_data(kind, example, damage, refused):
    packed = (DATA / f"{TEST_IMAGES}.gz").read_bytes()
    plain, broken = bytearray(gzip.decompress(packed)), bytearray(packed)
    plain[-1] ^= 1
    broken[len(broken) // 2] ^= 0xFF
    name, content = {
        "a pixel": (TEST_IMAGES, bytes(plain)), "packed": (f"{TEST_IMAGES}.gz", bytes(broken)),
        "not packed": (f"{TEST_IMAGES}.gz", b"hello"),
    }[kind]  # fmt: skip
    folder = damage(name, content)
    line = refused(["evaluate", "base-0-4", "--data-dir", folder], 4, str(folder / "mnist" / name))
    assert "delete it" in line


def test_damaged_training_data_leave_no_artifact(damage, refused, example):
    folder = damage("train-labels-idx1-ubyte", b"hello")
    refused(["train-base", "--runs-dir", "a/b/c", "--data-dir", folder], 4, "train-labels-idx1-ubyte", "delete it")
    refused(["train-base", "--name", "new", "--data-dir", folder], 4, "train-labels-idx1-ubyte")
    refused(["finetune", "--rank", "2", "--base", "base-0-4", "--data-dir", folder], 4, "train-labels-idx1-ubyte")
