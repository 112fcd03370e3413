"""Digests of artifacts: canonical JSON, the seal over a manifest, and the digest of the content. No torch.

Every digest is a SHA-256 of JSON with sorted keys and no spaces, as :mod:`json` writes it. msgspec writes the same
bytes nine times as fast, except for floats with an exponent and for characters beyond ASCII. A check therefore tries
msgspec first and falls back on :mod:`json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

LOG_FOLDER = "tensorboard"
"""Event files carry times and host names, so they are no part of the content digest."""
_LOGS = f"{LOG_FOLDER}/"

_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(value: object) -> bytes:
    """Return JSON with sorted keys and no spaces: equal values give equal bytes.

    Raises:
        ValueError: for NaN and infinity, which JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sha256(content: bytes) -> str:
    """Return a digest in the form used everywhere: ``sha256:`` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def has_digest(value: object, digest: object) -> bool:
    """Return whether the canonical JSON of a value has that digest.

    Raises:
        ValueError: for a value that is not JSON.
        RecursionError: for a value nested too deeply.
    """
    try:
        if sha256(_encode(value)) == digest:
            return True
    except (ValueError, OverflowError):  # lone surrogates and huge integers: json can write them
        pass
    return sha256(canonical(msgspec.to_builtins(value))) == digest


def seal_of(manifest: Mapping[str, Any]) -> str:
    """Return the seal of a manifest: the digest of everything in it except the seal itself."""
    return sha256(canonical(_without_seal(manifest)))


def is_sealed(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest still says what it said when it was sealed."""
    return has_digest(_without_seal(manifest), manifest.get("seal"))


def content_digest(fingerprint: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the digest of an artifact's content: its fingerprint and its files, without the logs."""
    return sha256(canonical(content_of(fingerprint, files)))


def content_of(fingerprint: str, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fingerprint, and the digest of each file by its name; :func:`content_digest` is over these."""
    kept = {name: entry["sha256"] for name, entry in files.items() if not name.startswith(_LOGS)}
    return {"fingerprint": fingerprint, "files": kept}


def _without_seal(manifest: Mapping[str, Any]) -> dict[str, Any]:
    rest = dict(manifest)
    rest.pop("seal", None)
    return rest
