"""Exports that are imported when somebody asks for them."""

from __future__ import annotations

import ast
import pkgutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

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


@pytest.fixture
def anew() -> Iterator[None]:
    """For one test the package is not imported yet."""

    def forget() -> dict[str, ModuleType]:
        names = [name for name in sys.modules if name.partition(".")[0] == "lora_mnist_cli"]
        return {name: sys.modules.pop(name) for name in names}

    before = forget()
    yield
    forget()
    sys.modules |= before


@pytest.mark.usefixtures("anew")
def test_exports_are_still_what_they_were_after_all_modules_were_imported():
    """Of a package that is imported anew: other tests have asked for the exports of this one before."""
    packages = [import_module(package.__name__) for package in PACKAGES]
    assert packages[0] is not lora_mnist_cli
    for module in pkgutil.walk_packages(packages[0].__path__, "lora_mnist_cli."):
        if not module.name.endswith("__main__") and ".platforms." not in module.name:
            import_module(module.name)
    for package in packages:
        for name in package.__all__:
            assert not isinstance(getattr(package, name), ModuleType), name
    assert callable(packages[1].forgetting)


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_not_exported_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
        _ = package.nothing
