"""How to install what an extra of this package needs, by the names of its packages.

``pip install 'lora-mnist[ray]'`` would only work where an index has this package.
"""

from __future__ import annotations

import re
from importlib import metadata

from lora_mnist_cli.system.version import NAME, project


def install_command(extra: str) -> str:
    """Return the command that installs an extra's packages, for example ``pip install 'ray>=2.40'``."""
    try:
        requirements = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        listed = project().get("optional-dependencies", {}).get(extra, [])
        requirements = [f"{package}; extra == '{extra}'" for package in listed]
    needed = []
    for requirement in requirements:
        package, _, condition = requirement.partition(";")
        if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", condition):
            needed.append(f"'{package.strip()}'")
    return f"pip install {' '.join(needed)}"
