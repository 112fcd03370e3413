"""Exports that are imported when somebody asks for them."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import lora_mnist_cli
from lora_mnist_cli import stages

PACKAGES = [lora_mnist_cli, stages]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_has_the_name_of_an_export(package):
    """Python sets an imported submodule in its package, and the export of that name would be gone."""
    assert set(package.__all__) & {module.name for module in pkgutil.iter_modules(package.__path__)} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_what_is_exported(package):
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    aliases = [
        (node.module, alias) for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    heavy = {"MNISTDataModule", "MNISTLightningModule"} if package is lora_mnist_cli else set()
    assert sorted(alias.asname or "" for _, alias in aliases) == sorted({*package.__all__, *heavy})
    for module, alias in aliases:
        assert alias.asname == alias.name  # without it, strict checkers take the import for private
        assert getattr(package, alias.name) is getattr(import_module(str(module)), alias.name)


def test_exports_are_still_what_they_were_after_all_modules_were_imported():
    """In an interpreter of its own: here, other tests have asked for the exports before."""
    code = """
import importlib, pkgutil, types
import lora_mnist_cli
from lora_mnist_cli import stages
for package in (lora_mnist_cli, stages):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__") and ".platforms." not in module.name:
            importlib.import_module(module.name)
    for name in package.__all__:
        assert not isinstance(getattr(package, name), types.ModuleType), name
assert callable(stages.forgetting)
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_not_exported_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
