"""Unpack and check the files of the data sets, on other threads while the caller has something else to do. No NumPy."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

_begun: dict[Path, Future[bytes]] = {}
"""The files that :func:`begin` was given and nobody has asked for yet."""


def begin(files: Mapping[Path, str | None]) -> None:
    """Begin to unpack files, each with its SHA-256 if that is known, for :func:`unpacked` to take; don't wait.

    zlib and hashlib let other threads run meanwhile, so that beside ``import torch`` it takes no time. Where PyTorch is
    loaded already there is nothing to gain, and nothing is begun.
    """
    if "torch" in sys.modules:
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor()
    with contextlib.suppress(RuntimeError):  # where no more threads can be started, the caller's unpacks them
        for path, sha256 in files.items():
            _begun[path] = pool.submit(_unpack, path, sha256)
    pool.shutdown(wait=False)


def unpacked(path: Path, sha256: str | None = None) -> bytes:
    """Return what is in a file, gzipped where its name ends in ``.gz``.

    Raises:
        OSError, EOFError, zlib.error: for a file that can't be read or is damaged.
        ValueError: where its content, unpacked, has another SHA-256.
    """
    begun = _begun.pop(path, None)
    return _unpack(path, sha256) if begun is None else begun.result()


def forget() -> None:
    """Drop what was begun and is not wanted any more."""
    _begun.clear()


def _unpack(path: Path, sha256: str | None) -> bytes:
    raw = path.read_bytes()
    content = gzip.decompress(raw) if path.suffix == ".gz" else raw
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("its SHA-256 is not the canonical one")
    return content
