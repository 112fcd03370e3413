"""The streams of a seed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools

import pytest
import torch

from lora_mnist_cli.data.streams import generator, seeded, stream_seed
from lora_mnist_cli.models.mlp import MNISTModel

STREAMS = ("init", "split", "order", "dropout")


def test_a_streams_seed_is_a_hash_of_seed_and_name():
    digest = hashlib.sha256(b"7/order").digest()
    assert stream_seed(7, "order") == int.from_bytes(digest[:8], "big") // 2


def test_all_streams_of_all_seeds_differ():
    seeds = {stream_seed(seed, stream) for seed in range(100) for stream in STREAMS}  # type: ignore[arg-type]
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_repeats_and_no_other_is_like_it(stream):
    first = torch.rand(50, generator=generator(0, stream))  # type: ignore[arg-type]
    assert torch.equal(torch.rand(50, generator=generator(0, stream)), first)  # type: ignore[arg-type]
    for seed, other in itertools.product((0, 1), STREAMS):
        if (seed, other) != (0, stream):
            drawn = torch.rand(50, generator=generator(seed, other))  # type: ignore[arg-type]
            assert not torch.equal(drawn, first)
            assert abs(float(torch.corrcoef(torch.stack([drawn, first]))[0, 1])) < 0.6


def test_seeded_fixes_what_is_drawn_inside_and_leaves_the_outside_alone():
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    with seeded(3, "init"):
        first = MNISTModel((4,)).state_dict()
    assert torch.equal(torch.rand(4), expected)
    with seeded(3, "init"):
        second = MNISTModel((4,)).state_dict()
    with seeded(4, "init"):
        other = MNISTModel((4,)).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())


def test_seeded_asks_for_no_device_that_is_not_there(monkeypatch):
    """``torch.manual_seed`` writes down the whole stack for each of them, which takes longer than to draw a model."""
    told: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", None)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: contextlib.nullcontext())
    for count in (0, 2):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "is_available", lambda count=count: count > 0)
        with seeded(0, "init"):
            assert torch.default_generator.initial_seed() == stream_seed(0, "init")
    assert told == [stream_seed(0, "init")]


def test_seeded_restores_after_an_error_too():
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)

    def fail() -> None:
        with seeded(0, "dropout"):
            torch.rand(9)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.rand(4), expected)
