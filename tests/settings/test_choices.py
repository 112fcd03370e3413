"""The tables of choices and the modules that do the work."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

from lora_mnist_cli.models.combining import Combiner
from lora_mnist_cli.models.methods import Method
from lora_mnist_cli.settings.choices import COMBINERS, METHODS, PROTECTIONS, STARTS, implementation
from lora_mnist_cli.training.protections import Protection
from lora_mnist_cli.training.starts import Start


@pytest.mark.parametrize(
    ("table", "package", "kind"),
    [
        (METHODS, "lora_mnist_cli.models.methods", Method),
        (COMBINERS, "lora_mnist_cli.models.combining", Combiner),
        (PROTECTIONS, "lora_mnist_cli.training.protections", Protection),
        (STARTS, "lora_mnist_cli.training.starts", Start),
    ],
)
def test_every_row_has_its_module_and_every_implementation_its_row(table, package, kind):
    modules = {found.name for found in pkgutil.iter_modules(import_module(package).__path__)}
    implemented = {name for name in modules if hasattr(import_module(f"{package}.{name}"), "IMPLEMENTATION")}
    named = {name.replace("-", "_") for name in table}
    assert not named - implemented, f"{package} lacks a file with an IMPLEMENTATION of these"
    assert not implemented - named, "settings/choices.py lacks a row of these"
    assert all(isinstance(implementation(package, name), kind) for name in table)
