"""How torch computes inside a block: on how many threads, and with subnormal numbers as zero.

Subnormal numbers lie between zero and the smallest normal number (1.2e-38 in float32). Intel's processors take ten
times as long or more for a product with one, and no result of this project depends on them.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def computing(threads: int = 1) -> Iterator[None]:
    """Compute on a number of threads inside the block, with subnormal numbers flushed to zero; also a decorator.

    After the block, and after an exception in it, the number of threads and the caller's own flushing are as before.

    One thread is the default because work here is short: a pass over ten thousand images takes a few hundredths of a
    second, and beside a busy process, threads that wait for each other cost far more.

    Flushing is a setting of each thread, and a new thread inherits it from the one that starts it. So torch's worker
    threads are restarted at both ends of a block that uses several. Where the OpenMP library can't restart them (before
    version 5.0), running threads keep their setting. Where the processor can't flush, nothing changes.
    """
    flushed, before = flushes_subnormals(), torch.get_num_threads()
    try:
        torch.set_flush_denormal(True)
        torch.set_num_threads(threads)
        _end_other_threads(threads)
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(before)
        _end_other_threads(threads)


def flushes_subnormals() -> bool:
    """Return whether the calling thread takes subnormal numbers for zero, which torch can set but not report."""
    return sys.float_info.min / 2 == 0


def _end_other_threads(used: int) -> None:
    """End the calling thread's OpenMP workers if several threads are used; the next operation starts new ones."""
    soft = 1
    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None) if used > 1 else None
    if pause is not None:
        pause(soft)
