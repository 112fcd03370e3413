"""How to install what an extra needs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from lora_mnist_cli.system.extras import install_command

REQUIRED = [
    "torch>=2.7", 'mlflow>=2.16; extra == "mlflow"', "onnx>=1.17; extra == 'onnx'", "onnxscript>=0.5; extra == 'onnx'",
    "ray>=2.40; python_version < '3.14' and extra == 'ray'", "onnx>=1.17; extra == 'test'",
]  # fmt: skip


def test_the_packages_of_an_extra_are_named_as_an_index_has_them(monkeypatch):
    """This package is in no index, so an extra of it can't be installed by its name."""
    monkeypatch.setattr(metadata, "requires", lambda _: REQUIRED)
    assert install_command("mlflow") == "pip install 'mlflow>=2.16'"
    assert install_command("ray") == "pip install 'ray>=2.40'"
    assert install_command("onnx") == "pip install 'onnx>=1.17' 'onnxscript>=0.5'"


def test_every_extra_that_a_message_names_has_packages():
    for extra in ("onnx", "ray", "mlflow", "wandb", "tensorboard"):
        assert f"'{extra}>=" in install_command(extra)


def test_a_checkout_that_is_not_installed_knows_its_extras(monkeypatch):
    installed = {extra: install_command(extra) for extra in ("onnx", "mlflow")}

    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    monkeypatch.setattr(
        "lora_mnist_cli.system.version._PROJECT", Path(__file__).resolve().parents[2] / "pyproject.toml"
    )
    assert {extra: install_command(extra) for extra in installed} == installed
