"""Loading heavy packages: the status line says which, and no garbage is collected meanwhile."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from typing import Any

from lora_mnist_cli.cli.status_line import LINE, STARTING

PACKAGES = {
    "torch": "PyTorch",
    "pytorch_lightning": "Lightning",
    "torchvision": "torchvision",
    "matplotlib": "Matplotlib",
    "scipy": "SciPy",
    "peft": "PEFT",
    "onnx": "ONNX",
    "ray": "Ray",
    "tensorboard": "TensorBoard",
    "mlflow": "MLflow",
    "wandb": "Weights & Biases",
}
"""Packages whose import can be felt, and what the line calls them."""


class _Watcher:
    """Finds what the other finders find, and has each of :data:`PACKAGES` loaded with a word about it."""

    def __init__(self, afterwards: str) -> None:
        self._afterwards, self._loading = afterwards, False

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        """Find one of the packages, unless it is a part of another one that is being loaded."""
        if fullname not in PACKAGES or self._loading:
            return None
        self._loading = True
        try:
            spec = find_spec(fullname)
        finally:
            self._loading = False
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def told(module: Any) -> None:
                with self._telling(PACKAGES[fullname]):
                    execute(module)

            spec.loader.exec_module = told  # type: ignore[method-assign]
        return spec

    @contextlib.contextmanager
    def _telling(self, package: str) -> Iterator[None]:
        self._loading = True
        before = LINE.text
        LINE.change(f"loading {package} …")
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            # What was loaded stays, so that no later collection need look at it.
            gc.freeze()
            if was_enabled:
                gc.enable()
            LINE.change(self._afterwards if before == STARTING else before)
            self._loading = False


@contextlib.contextmanager
def watched_imports(afterwards: str) -> Iterator[None]:
    """Watch the imports of a block; ``afterwards`` is what the status line says when a package is loaded.

    A collection visits all objects. While PyTorch is imported their number grows and almost none is garbage: 411
    collections took a seventh of the time.
    """
    watcher = _Watcher(afterwards)
    sys.meta_path.insert(0, watcher)
    try:
        yield
    finally:
        sys.meta_path.remove(watcher)
