"""Limits on a manifest before anyone looks at its meaning: size, number of values, depth, length of texts.

Anyone may have made the folder, and decoding takes up to a hundred times the memory of the bytes. A manifest that
exceeds every honest one is refused before it is decoded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any

import msgspec

MAX_MANIFEST = 64 * 2**20
"""Bytes. The largest sweep has ten thousand adapters, and a manifest of about ten megabytes."""
MAX_PLAIN = 2**20
"""Bytes of a manifest of any other kind, which lists only its files and parents."""
MAX_TEXT = 10_000
"""Characters of a text."""
MAX_WHOLE = 2**63
_MAX_STRUCTURE = 1_500_000
"""Brackets, commas and colons. The largest sweep has about 600,000; decoded, each can take a hundred bytes."""
_MAX_DEPTH = 20

_decoder = msgspec.json.Decoder()


class ExtentError(ValueError):
    """A manifest has more bytes or values than any artifact needs."""


def refuse_excess(raw: bytes) -> None:
    """Refuse a manifest that would take far more memory than it has bytes.

    Raises:
        ExtentError: with the limit that it exceeds.
    """
    if len(raw) > MAX_PLAIN:
        if b'"sweep"' not in raw:
            raise ExtentError(f"it has {len(raw):,} bytes, and only a sweep has more than {MAX_PLAIN:,}")
        if not raw.isascii():  # manifests are written in ASCII; other characters could take four bytes each
            raise ExtentError(f"it has {len(raw):,} bytes, and they are not all ASCII")
    # There are not more of them than bytes, so an ordinary manifest is not counted.
    if len(raw) > _MAX_STRUCTURE and (count := sum(map(raw.count, (b"[", b"{", b",", b":")))) > _MAX_STRUCTURE:
        raise ExtentError(f"it has {count:,} brackets, commas and colons, and at most {_MAX_STRUCTURE:,} make sense")


def decode_manifest(raw: bytes) -> Any:
    """Decode the JSON of a manifest, unless :func:`refuse_excess` refuses it.

    Raises:
        ValueError: where it is not JSON, which has no NaN and no infinity; ExtentError where it is too large.
        RecursionError: where it is nested too deeply.
    """
    refuse_excess(raw)
    try:
        return _decoder.decode(raw)
    except msgspec.DecodeError as error:
        if isinstance(error, msgspec.ValidationError) or b"\\ud" not in raw.lower():
            raise
        # A note may hold half a surrogate pair, from a shell with another encoding; msgspec does not read it.
        return json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite)


def check_extent(values: Iterable[Any], depth: int = 2) -> None:
    """Refuse values that are nested too deeply, too long or too large.

    Only for parts of a manifest that have no declared type: settings, environment and details.

    Args:
        depth: how deep the values are nested already.

    Raises:
        ValueError: with the limit that a value exceeds.
    """
    for value in values:
        kind = type(value)
        if kind is str:
            if len(value) > MAX_TEXT:
                raise ValueError(f"a text has {len(value):,} characters, and {MAX_TEXT:,} are allowed")
        elif kind is int:
            if not -MAX_WHOLE < value < MAX_WHOLE:
                raise ValueError("an integer does not fit into 64 bits")
        elif kind is dict or kind is list:
            if depth >= _MAX_DEPTH:
                raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
            check_extent(chain(value, value.values()) if kind is dict else value, depth + 1)


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a number in JSON")


def _finite(text: str) -> float:
    """Return a number; json reads 1e999 as infinity, and msgspec gives infinity the digest of null."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.60} is too large for a number")
    return number
