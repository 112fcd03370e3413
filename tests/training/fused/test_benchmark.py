"""The benchmark for a GPU, tiny: a device is lent for minutes, and no part may fail there for a slip of the pen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.alone
def test_every_part_runs_by_the_interpreter(tmp_path):
    pytest.importorskip("triton")
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--toy", "--variants", "--seconds", "3600", "--json", figures],
        capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = json.loads(figures.read_text())
    assert not [part for part in parts if part.startswith("failed")], done.stderr
    assert {"first_call_seconds", "variants", "accuracy_differences", "exactness_ieee"} <= parts.keys()
    assert "NO" not in done.stdout.split()
