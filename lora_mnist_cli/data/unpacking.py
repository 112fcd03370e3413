"""Unpack and check the files of the data sets, on other threads while the caller has something else to do. No NumPy."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lora_mnist_cli.data import idx
from lora_mnist_cli.system.files import open_regular

if TYPE_CHECKING:
    from concurrent.futures import Future

_begun: dict[Path, Future[bytes]] = {}
"""The files that :func:`begin` was given and nobody has asked for yet."""

_PART = 2**20
"""Bytes that are read, and unpacked, at once."""


def begin(files: Mapping[Path, str | None]) -> list[Path]:
    """Begin to unpack files, each with its SHA-256 if that is known, for :func:`unpacked` to take; don't wait.

    zlib and hashlib let other threads run meanwhile, so that beside ``import torch`` it takes no time. Where PyTorch is
    loaded already there is nothing to gain, and nothing is begun.

    Returns:
        The files that seem to be of a wrong size, by their first and last bytes: to be asked for before the import.
    """
    if "torch" in sys.modules:
        return []
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor()
    with contextlib.suppress(RuntimeError):  # where no more threads can be started, the caller's unpacks them
        for path, sha256 in files.items():
            _begun[path] = pool.submit(_unpack, path, sha256)
    pool.shutdown(wait=False)
    return [path for path in files if not _seems_whole(path)]


def unpacked(path: Path, sha256: str | None = None) -> bytes:
    """Return what is in an IDX file, gzipped where its name ends in ``.gz``.

    Raises:
        OSError, EOFError, zlib.error: for a file that can't be read, is too large or is damaged.
        ValueError: where its content, unpacked, has another size than its header promises, or another SHA-256.
    """
    begun = _begun.pop(path, None)
    return _unpack(path, sha256) if begun is None else begun.result()


def forget() -> None:
    """Drop what was begun and is not wanted any more."""
    _begun.clear()


def _unpack(path: Path, sha256: str | None) -> bytes:
    with open_regular(path.resolve(), idx.MAX_BYTES) as file:
        content = _whole(_inflated(file) if path.suffix == ".gz" else iter(lambda: file.read(_PART), b""))
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("its SHA-256 is not the canonical one")
    return content


def _seems_whole(path: Path) -> bool:
    packed = path.suffix == ".gz"
    try:
        with open_regular(path.resolve(), idx.MAX_BYTES) as file:
            start = file.read(1024)
            if packed:
                start = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(start, 1024)
            file.seek(-4, os.SEEK_END)
            last = file.read(4)
            # A gzip file ends with the size of its content, if it has no padding.
            return idx.file_size(start) == (int.from_bytes(last, "little") if packed else file.tell())
    except (OSError, ValueError, zlib.error):
        return False


def _whole(parts: Iterator[bytes]) -> bytes:
    """Join the parts of an IDX file. Its header stands in the first, and what it does not promise is not read."""
    first = next(parts, b"")
    kept: list[bytes] = []
    promised, size = idx.file_size(first), 0
    for part in itertools.chain([first], parts):
        size += len(part)
        if size > promised:
            kept.clear()  # the error's traceback would hold it
            break
        kept.append(part)
    idx.refuse_other_size(size, promised)
    return b"".join(kept)


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Unpack a gzip file in parts of at most :data:`_PART` bytes; zlib checks its CRC and length at its end."""
    unzip, packed = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), b""
    while not unzip.eof:
        packed = packed or file.read(_PART)
        if not packed:
            raise EOFError("it ends before its content does")
        yield unzip.decompress(packed, _PART)
        packed = unzip.unconsumed_tail
    if (unzip.unused_data or file.read(_PART)).strip(b"\0"):
        raise ValueError("something follows its content")
