"""Calls a function of this folder in a process of its own, which has neither pytest nor torch, unless it asks for it.

Forking is cheap and safe there: ``python apart.py MODULE FUNCTION ARGUMENTS`` prints the function's result as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HANGS = 3600
"""Seconds that nothing here takes, however busy the machine is; whatever does take them hangs."""


def call(module: str, function: str, **arguments: Any) -> Any:
    """The result of a function that ran apart.

    Raises:
        AssertionError: with what it printed, where it failed.
    """
    import lora_mnist_cli

    places = [str(Path(lora_mnist_cli.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    ran = subprocess.run(
        [sys.executable, str(Path(__file__)), module, function, json.dumps(arguments)],
        capture_output=True, text=True, check=False, timeout=HANGS,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1", "LORA_MNIST_LOCK_WAIT": str(HANGS),
        },
    )  # fmt: skip
    if ran.returncode:
        raise AssertionError(f"{module}.{function}({arguments}) ended with {ran.returncode}:\n{ran.stderr[-6000:]}")
    return json.loads(ran.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    called = importlib.import_module(f"durability.{sys.argv[1]}")
    print(json.dumps(getattr(called, sys.argv[2])(**json.loads(sys.argv[3]))))  # noqa: T201
