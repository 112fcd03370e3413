"""Stopped at every operation, and in whole sweeps at random instants: what was done stays, nothing is half."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from durability import apart
from durability.stories import STORIES

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="paths of open files come from /proc")

WAYS = ("kill", "short", "long")


@pytest.mark.parametrize("story", STORIES)
def test_stopped_at_any_operation_it_loses_nothing_and_finishes_when_run_again(quick: Path, story: str) -> None:
    """By a kill, and by power cuts that leave the least and the most that a disk may hold then."""

    def every_operation(way: str) -> dict[str, int]:
        (quick / way).mkdir()
        kinds = apart.call("crashing", "every_operation", folder=str(quick / way), story=story, way=way)["kinds"]
        assert isinstance(kinds, dict)
        return kinds

    with ThreadPoolExecutor(2) as pool:
        kill, short, long = pool.map(every_operation, WAYS)
    assert kill == short == long
    # That there is something to stop at, and that the last of all is to run through.
    assert {"write", "create", "fsync", "remove"} - kill.keys() <= ({"remove"} if story == "export" else set())
    assert kill["end"] == 1
    assert ("exchange" in kill) == (story == "replace")


def test_without_an_exchange_in_one_step_a_replacement_may_be_half_done_but_loses_nothing(quick: Path) -> None:
    """Where the file system has none, the name is without an artifact until the next run puts the old one back."""

    def every_operation(place: str, *, clean: bool) -> None:
        (quick / place).mkdir()
        options = {"story": "replace", "way": "kill", "without": "exchange", "clean": clean}
        apart.call("crashing", "every_operation", folder=str(quick / place), **options)

    with pytest.raises(AssertionError, match=r"names other: None is neither sha256:.* nor sha256:"):
        every_operation("seen at once", clean=False)
    every_operation("seen after the next run", clean=True)


@pytest.mark.parametrize(
    ("story", "way", "mechanism"),
    [
        ("publish", "short", "flush"),
        ("publish", "long", "flush"),
        ("tag", "long", "flush"),
        ("publish", "kill", "rename"),
        ("remove", "kill", "rename"),
    ],
)
def test_where_a_mechanism_is_missing_it_is_noticed(quick: Path, story: str, way: str, mechanism: str) -> None:
    with pytest.raises(AssertionError, match=r"steps reported: \[|is damaged|is there and is no artifact"):
        apart.call("crashing", "every_operation", folder=str(quick), story=story, way=way, without=mechanism)


def test_a_sweep_that_is_killed_at_random_instants_goes_on_where_it_was(
    quick: Path, small_trained: Path, small_data: Path
) -> None:
    template = quick / "template"
    template.mkdir()
    (template / "base-fashion-mnist-0-4").symlink_to(small_trained / "base-fashion-mnist-0-4")
    result = apart.call(
        "killing", "random_instants", folder=str(quick), template=str(template), data=str(small_data), times=50, seed=7
    )
    published = result["published"]
    assert sum(published.values()) >= 50
    # The instants are spread over the whole: before the first adapter is there, between the two, and after both.
    assert min(published["0"], published["1"]) >= 3, result
