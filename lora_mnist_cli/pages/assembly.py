"""One HTML file from a page's folder: its style, its scripts one after the other, and a record as a JSON block.

The file forbids itself every request: its policy allows the one style and the one script in it, by their SHA-256, and
nothing else (https://www.w3.org/TR/CSP3/). What a record says is text wherever it comes from, because JSON is written
without ``<``, and the scripts never make markup of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def assemble(page: str, record: Mapping[str, Any]) -> bytes:
    """Return the HTML file of a page, a folder beside this module, with a record in it.

    ``page.html`` there has four places, as ``{{style}}``: for the policy, the style, the record and the script.
    ``files.txt`` lists the files of style and script, a name per line, in their order.
    """
    folder = _HERE / page
    names = _read(folder / "files.txt").split()
    style, script = ("\n" + "\n".join(_read(folder / n) for n in names if n.endswith(s)) for s in (".css", ".js"))
    policy = "; ".join((
        "default-src 'none'", f"script-src {_source(script)}", f"style-src {_source(style)}", "base-uri 'none'",
        "form-action 'none'",
    ))  # fmt: skip
    parts = {"policy": policy, "style": style, "record": as_text(record), "script": script}
    # All places at once: what a record says is never looked through for further places.
    html = re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read(folder / "page.html"))
    return html.encode("utf-8")


def as_text(record: Mapping[str, Any]) -> str:
    """Return a record as JSON that can stand in a script element."""
    text = json.dumps(record, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda sign: _ESCAPED[sign[0]], text)


def _source(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
