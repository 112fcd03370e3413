"""Many processes at once: each name is published once, nothing is damaged or left, and a reader never misses."""

from __future__ import annotations

from durability import apart


def test_of_200_publications_by_many_processes_each_name_is_published_once(quick):
    told = apart.call("crowding", "publish_and_all_else", folder=str(quick))
    assert told["published"] == dict.fromkeys(told["asked"], 1)
    assert told["same"] + told["other"] == 200 - len(told["asked"])
    assert min(told["same"], told["other"], *told["seen"]) > 5, told
    assert told["names"] == sorted(["base", *told["asked"]])
    assert told["problems"] == []
    assert set(told["left"]) <= {".newest"}  # a large folder remembers its newest creation time until one is removed


def test_a_name_that_is_replaced_all_the_time_is_always_there(quick):
    told = apart.call("crowding", "replace_and_read", folder=str(quick), reads=1000, replaced=50, different=21)
    assert told["replaced"] > 50
    assert told["different"] > 20


def test_processes_that_share_statistics_damage_and_leave_nothing(quick):
    told = apart.call("crowding", "share_and_remove", folder=str(quick))
    assert told["linked"] > 20, told
    assert told["problems"] == []
    assert told["left"] == ["base"]
