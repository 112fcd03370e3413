"""Stopped at every operation, and in whole sweeps at random instants: what was done stays, nothing is half."""

from __future__ import annotations

from pathlib import Path

import pytest
from durability import apart
from durability.stories import STORIES

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="paths of open files come from /proc")

# By default each operation meets one of the three ways, and with -m slow all of them.
STRIDES = [pytest.param(3, id="a third"), pytest.param(1, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("story", STORIES)
def test_stopped_at_any_operation_it_loses_nothing_and_finishes_when_run_again(quick, story, stride):
    """By a kill, and by power cuts that leave the least and the most that a disk may hold then."""
    ways = apart.call("crashing", "every_way", folder=str(quick), story=story, stride=stride)
    kinds = set().union(*ways)
    # There is something to stop at, and the last sweep of each way runs through.
    assert {"write", "create", "fsync", "remove"} - kinds <= ({"remove"} if story == "export" else set())
    assert [way["end"] for way in ways] == [1, 1, 1]
    assert ("exchange" in kinds) == story.startswith("replace")
    if stride == 1:
        assert ways[0] == ways[1] == ways[2]


@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("story", ["replace", pytest.param("replace together", marks=pytest.mark.slow)])
def test_without_an_exchange_in_one_step_a_replacement_may_be_half_done_but_loses_nothing(quick, story, stride):
    """Where the file system has none, the name is without an artifact until the next run puts the old one back."""

    def every_operation(place: str, stride: int, *, clean: bool) -> None:
        (quick / place).mkdir()
        options = {"story": story, "way": "kill", "without": "exchange", "clean": clean, "stride": stride}
        apart.call("crashing", "every_operation", folder=str(quick / place), **options)

    with pytest.raises(AssertionError, match=r"names (other|one): None is neither sha256:.* nor sha256:"):
        every_operation("seen at once", 1, clean=False)
    every_operation("seen after the next run", stride, clean=True)


@pytest.mark.parametrize("way", ["short", "long"])
@pytest.mark.parametrize(
    "story", ["import", "publish together", pytest.param("replace together", marks=pytest.mark.slow)]
)
def test_many_artifacts_that_are_flushed_at_once_are_as_safe(quick, story, way):
    options = {"folder": str(quick), "story": story, "way": way}
    assert apart.call("crashing", "every_operation", **options, without="flush of each file")["fsync"] < 8


@pytest.mark.parametrize(
    ("story", "way", "mechanism"),
    [
        ("publish", "short", "flush"),
        ("publish", "long", "flush"),
        ("tag", "long", "flush"),
        ("import", "long", "flush"),
        ("publish together", "short", "flush"),
        pytest.param("publish together", "kill", "rename", marks=pytest.mark.slow),
        ("publish", "kill", "rename"),
        ("remove", "kill", "rename"),
    ],
)
def test_where_a_mechanism_is_missing_it_is_noticed(quick, story, way, mechanism):
    with pytest.raises(AssertionError, match=r"steps reported: \[|is damaged|is there and is no artifact"):
        apart.call("crashing", "every_operation", folder=str(quick), story=story, way=way, without=mechanism)


@pytest.mark.parametrize(
    ("story", "again"),
    [("remove all", True), *((story, False) for story in ("remove all", "publish", "tag", "import"))],
)
def test_what_a_kill_leaves_is_tidied_up(quick, story, again):
    """By ``runs clean``, or by the same removal again, which may find nothing to remove: an emptied folder is empty."""
    (quick / "template").mkdir()
    assert apart.call("crashing", "tidied", folder=str(quick), story=story, way="kill", again=again) > 10


@pytest.mark.parametrize("times", [3, pytest.param(50, marks=pytest.mark.slow)])
def test_a_sweep_that_is_killed_at_random_instants_goes_on_where_it_was(times, quick, small_trained, small_data):
    template = quick / "template"
    template.mkdir()
    (template / "base-fashion-mnist-0-4").symlink_to(small_trained / "base-fashion-mnist-0-4")
    options = {"template": str(template), "data": str(small_data), "times": times, "seed": 7}
    published = apart.call("killing", "random_instants", folder=str(quick), **options)
    assert sum(published.values()) == times + 2
    # Before the first adapter is there, and between the two.
    assert min(published["0"], published["1"]) >= 1, published
