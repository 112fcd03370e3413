"""The notebook in ``docs``: it runs from end to end, and what is kept of it was printed by the cells that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from scripts import script

nbformat = pytest.importorskip("nbformat")
for needed in ("nbclient", "ipykernel", "pandas"):
    pytest.importorskip(needed)

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> Any:
    return script("notebook")


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[list[str]]:
    return [sorted(output.get("data", {output.output_type: ""})) for output in cell.outputs]


def test_it_imports_only_what_there_is():
    """Fast, and without running it."""
    for cell in code(nbformat.read(DOCS / "study.ipynb", as_version=4)):
        imports = [node for node in ast.parse(cell.source).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec(compile(ast.Module(imports, []), "study.ipynb", "exec"), {})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_runs_from_end_to_end_and_shows_what_is_kept(maker):
    kept = nbformat.read(DOCS / "study.ipynb", as_version=4)
    made = maker.execute(epochs=1, timeout=3600)  # only a hang takes so long, however busy the machine is
    assert [cell.source for cell in made.cells] == [cell.source for cell in kept.cells]
    assert made.metadata == kept.metadata
    for ours, theirs in zip(code(made), code(kept), strict=True):
        assert ours.execution_count == theirs.execution_count
        assert kinds(ours) == kinds(theirs)
    shown = "\n".join(output.data["text/plain"] for cell in code(made) for output in cell.outputs)
    assert re.search(r"base-0-4 +0 +0-4 +5139 +0\.9[5-9]", shown)


def test_what_is_kept_is_the_study_and_no_trace_of_a_machine(maker):
    text = (DOCS / "study.ipynb").read_text(encoding="utf-8")
    assert len(text.encode()) <= maker.LARGEST
    notebook = nbformat.reads(text, as_version=4)
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} == {"display_data", "execute_result"}
    plain = "\n".join(output.data["text/plain"] for output in outputs)
    assert not re.search(r"/(tmp|home|root|work|Users)\b|\bseconds?\b|\d s\b", plain)
    assert sum("image/png" in output.data for output in outputs) >= 6
    # The study's ten epochs, and not a quick look: its own figures are within points of it.
    found = dict(re.findall(r"^(\d+) +\d+ +(\d\d\.\d\d) +\d+\.\d\d +\d\d\.\d\d +\d\d\.\d\d$", plain, re.MULTILINE))
    assert list(map(int, found)) == [1, 2, 4, 8, 16, 32, 64]
    assert float(found["1"]) > 75
    assert float(found["64"]) > 97
