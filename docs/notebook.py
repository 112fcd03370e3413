"""Runs docs/study.ipynb from its first cell to its last in an empty folder, and keeps what it shows.

``python docs/notebook.py`` writes the outputs back into the notebook (``pip install '.[test]'``). The tests run it with
``STUDY_EPOCHS=1``. What would differ from run to run and mean nothing is left out: times, the interpreter's version.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().with_name("study.ipynb")
LARGEST = 500_000
"""Bytes of the notebook with all it shows."""


def execute(path: Path = NOTEBOOK, *, epochs: int | None = None, timeout: int = 600) -> Any:
    """The notebook with new outputs; the file stays as it is.

    Args:
        epochs: of each training, in place of the study's.
        timeout: seconds a cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: where a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    variables = dict(os.environ) | ({} if epochs is None else {"STUDY_EPOCHS": str(epochs)})
    for name in ("LORA_MNIST_RUNS", "LORA_MNIST_DATA"):
        variables.pop(name, None)
    # Lightning's progress bars would be widgets, and say so where those are not installed. No bar is shown here.
    variables["PYTHONWARNINGS"] = "ignore:IProgress not found"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as home:
        variables["IPYTHONDIR"] = home  # where IPython would keep a history
        client = NotebookClient(
            notebook, timeout=timeout, kernel_name="python3", record_timing=False,
            resources={"metadata": {"path": folder}},
        )  # fmt: skip
        client.execute(env=variables)
    for number, cell in enumerate(notebook.cells, start=1):
        cell["id"] = f"cell-{number:02}"
        cell["metadata"] = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(notebook)
    return notebook


def main() -> None:
    """Execute, and write back what fits."""
    text = nbformat.writes(execute()) + "\n"
    if len(text.encode()) > LARGEST:
        sys.exit(f"the notebook would have {len(text.encode()):,} bytes, and {LARGEST:,} at most are kept")
    NOTEBOOK.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
