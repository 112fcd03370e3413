"""Runs the commands of docs/tutorial.md in an empty folder, prints what they print, and keeps the pictures they make.

``python docs/tutorial.py`` writes docs/images/tutorial anew; the figures in the text are those of what it prints.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PICTURES = DOCS / "images" / "tutorial"


def main() -> None:
    """Run all, in order, and copy the pictures that the text shows."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    script = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["bash", "-evc", script], cwd=folder, check=True)
        PICTURES.mkdir(exist_ok=True)
        for name in re.findall(rf"\({PICTURES.relative_to(DOCS)}/([^)]+)\)", text):
            shutil.copy(Path(folder, name), PICTURES)


if __name__ == "__main__":
    main()
