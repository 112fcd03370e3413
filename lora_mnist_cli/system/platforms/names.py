"""File names that Windows does not allow: what is made here can be copied there."""

from __future__ import annotations

import re

_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.ASCII | re.IGNORECASE)
_FORBIDDEN = frozenset('<>:"/\\|?*')


def is_portable(name: str) -> bool:
    """Return whether a file or folder can have this name on every system; ``con.txt`` and ``a.`` can't be on Windows.

    See "Naming Files, Paths, and Namespaces" in Microsoft's documentation of Windows.
    """
    plain = name.isprintable() and not _FORBIDDEN & set(name)
    return plain and not name.endswith((".", " ")) and _DEVICE.fullmatch(name) is None
