"""The same kills, crowds and locks on a Linux without its POSIX calls (``tests/like_windows``), as near as it gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from durability import apart
from durability.stories import STORIES

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux plays Windows, by locks that only it has")


@pytest.fixture(autouse=True)
def like_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every process that is started here do without POSIX."""
    places = [str(TESTS / "like_windows"), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))


EVERYTHING = """
import importlib, json, pkgutil, sys
import sitecustomize
sitecustomize.take_tools_away()
import lora_mnist_cli
from lora_mnist_cli.cli import main
codes = [main(arguments) for arguments in json.loads(sys.argv[1])]
for module in pkgutil.walk_packages(lora_mnist_cli.__path__, "lora_mnist_cli."):
    if not module.name.endswith(("__main__", ".posix", ".windows")):
        importlib.import_module(module.name)
from lora_mnist_cli.system.platforms import here
sys.exit(f"{codes}, {here.__name__}")
"""


def test_everything_is_imported_and_commands_run_without_posix(small_data, tmp_path):
    train = ["train-base", "--dataset", "fashion-mnist", "--data-dir", str(small_data), "--epochs", "0"]
    calls = [["--help"], train, ["runs", "list"], ["runs", "tag", "base-fashion-mnist-0-4", "best"], ["runs", "verify"]]
    command = [sys.executable, "-W", "ignore", "-c", EVERYTHING, json.dumps(calls)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.stderr.splitlines()[-1] == "[0, 0, 0, 0, 0], lora_mnist_cli.system.platforms.windows"
    assert "base-fashion-mnist-0-4" in ended.stdout
    assert sorted(os.listdir(tmp_path / "runs")) == [".statistics", ".tags", "base-fashion-mnist-0-4"]


SOME = ("publish", "remove what shares", "tag")


@pytest.mark.parametrize(
    ("story", "stride"),
    [
        *((story, 5) for story in SOME),
        *(pytest.param(story, 1, marks=pytest.mark.slow) for story in STORIES if not story.startswith("replace")),
    ],
)
def test_killed_at_any_operation_it_loses_nothing_and_finishes_when_run_again(quick, story, stride):
    kinds = apart.call("crashing", "every_operation", folder=str(quick), story=story, way="kill", stride=stride)
    assert kinds["end"] == 1
    assert sum(kinds.values()) > 3


@pytest.mark.parametrize(
    ("story", "stride"),
    [
        ("replace", 5),
        *(pytest.param(story, 1, marks=pytest.mark.slow) for story in STORIES if story.startswith("replace")),
    ],
)
def test_a_killed_replacement_loses_nothing_once_the_next_run_has_cleaned_up(quick, story, stride):
    options = {"story": story, "way": "kill", "stride": stride}
    kinds = apart.call("crashing", "every_operation", folder=str(quick), clean=True, **options)
    assert "exchange" not in kinds
    assert kinds["end"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_whatever_operation_fails_it_is_told_in_a_line_and_changes_nothing(quick, story):
    full, broken = apart.call("failing", "every_error", folder=str(quick), story=story, stride=1)
    assert min(full["reported"], broken["reported"]) >= 4  # one less than with folders, which can't be flushed there


def test_of_many_publications_at_once_each_name_is_published_once(quick):
    told = apart.call("crowding", "publish_and_all_else", folder=str(quick))
    assert told["published"] == dict.fromkeys(told["asked"], 1)
    assert told["names"] == sorted(["base", *told["asked"]])
    assert told["problems"] == []
    assert set(told["left"]) <= {".newest"}


def test_processes_that_share_statistics_damage_and_leave_nothing(quick):
    told = apart.call("crowding", "share_and_remove", folder=str(quick), processes=3, rounds=10)
    assert (told["problems"], told["left"]) == ([], ["base"])


@pytest.mark.slow
def test_a_sweep_that_is_killed_at_random_instants_goes_on_where_it_was(quick, small_trained, small_data):
    template = quick / "template"
    template.mkdir()
    (template / "base-fashion-mnist-0-4").symlink_to(small_trained / "base-fashion-mnist-0-4")
    options = {"template": str(template), "data": str(small_data), "times": 10, "seed": 7}
    assert sum(apart.call("killing", "random_instants", folder=str(quick), **options).values()) == 12


@pytest.mark.slow
@pytest.mark.parametrize("file", ["system/test_locks.py", "registry/test_creation.py"])
def test_the_tests_of_locks_and_of_creation_times_pass(file, tmp_path):
    cache = f"cache_dir={tmp_path / 'cache'}"  # without the cache's plugin, a cache_dir in PYTEST_ADDOPTS is an error
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-o", cache, str(TESTS / file)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
