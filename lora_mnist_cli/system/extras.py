"""How to install what an extra of this package needs, by the names of its packages.

``pip install 'lora-mnist[ray]'`` would only work where an index has this package.
"""

from __future__ import annotations

import re
from importlib import metadata


def install_command(extra: str) -> str:
    """Return the command that installs an extra's packages, for example ``pip install 'ray>=2.40'``."""
    needed = []
    for requirement in metadata.requires("lora-mnist") or ():
        package, _, condition = requirement.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", condition):
            needed.append(f"'{package.strip()}'")
    return f"pip install {' '.join(needed)}"
