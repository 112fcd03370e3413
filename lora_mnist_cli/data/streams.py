"""Independent random streams of one seed.

Initialisation, split, data order, dropout and replayed samples have separate streams. One can be varied while the
others are held, and one more draw in a stream never shifts another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

Stream = Literal["init", "split", "order", "dropout", "replay"]


def stream_seed(seed: int, stream: Stream) -> int:
    """Return a 63-bit seed for one stream: the first bytes of a SHA-256 of seed and stream name."""
    digest = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, stream: Stream) -> torch.Generator:
    """Make a CPU generator at the start of a stream."""
    return torch.Generator().manual_seed(stream_seed(seed, stream))


@contextmanager
def seeded(seed: int, stream: Stream) -> Iterator[None]:
    """Set PyTorch's global generators to the start of a stream inside the block, and restore them afterwards."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        start = stream_seed(seed, stream)
        # ``torch.manual_seed`` also writes down the whole stack for each kind of device that is not there.
        torch.default_generator.manual_seed(start)
        if devices:
            torch.cuda.manual_seed_all(start)
        yield
