"""Inside a block subnormal numbers are zero in all threads that compute; after it, the caller's settings are back."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from lora_mnist_cli.system.arithmetic import computing, flushes_subnormals

SMALLEST = torch.ones(1 << 20, dtype=torch.int32)
"""As float32, so many of the smallest subnormal number: enough for torch to share out among its threads."""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    flushed, threads = flushes_subnormals(), torch.get_num_threads()
    if not torch.set_flush_denormal(True):
        pytest.skip("only where the processor can take subnormal numbers for zero")
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(flushed)
    torch.set_num_threads(threads)


def kept(products: Tensor) -> list[bool]:
    """For each eighth of a tensor, whether all its numbers are other than zero: by their bits."""
    parts = products.view(torch.int32).view(8, -1).ne(0)
    assert torch.equal(parts.all(1), parts.any(1))
    return parts.all(1).tolist()


def products() -> Tensor:
    return SMALLEST.view(torch.float32) * 1.0


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_block_flushes_and_gives_the_callers_setting_back(flushed, error, threads):
    torch.set_flush_denormal(flushed)
    torch.set_num_threads(2)
    try:
        with computing(threads):
            assert flushes_subnormals()
            assert torch.get_num_threads() == threads
            with computing():
                assert torch.get_num_threads() == 1
            assert flushes_subnormals()
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    assert flushes_subnormals() == flushed
    assert torch.get_num_threads() == 2


def test_a_function_can_be_decorated():
    @computing()
    def inside() -> tuple[bool, int]:
        return flushes_subnormals(), torch.get_num_threads()

    torch.set_num_threads(2)
    assert (inside(), inside()) == ((True, 1), (True, 1))
    assert not flushes_subnormals()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "omp_pause_resource_all"), reason="needs OpenMP 5.0")
@pytest.mark.parametrize("flushed", [False, True])
def test_threads_from_before_and_from_inside_follow(flushed):
    torch.set_flush_denormal(flushed)
    torch.set_num_threads(4)
    ctypes.CDLL(None).omp_pause_resource_all(1)  # threads of other tests
    before = kept(products())  # this starts torch's threads, with the caller's setting
    with computing(4):
        assert kept(products()) == [False] * 8
    assert kept(products()) == before == [not flushed] * 8


def test_where_threads_cannot_be_ended_or_numbers_flushed_nothing_breaks(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setattr(torch, "set_flush_denormal", lambda on: False)
    with computing(4):
        assert not flushes_subnormals()
        assert torch.get_num_threads() == 4
