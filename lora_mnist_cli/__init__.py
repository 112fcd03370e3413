"""A small laboratory for LoRA on MNIST.

The stages are plain functions with the defaults of the commands: ``from lora_mnist_cli import train_base, finetune,
sweep, evaluate``. More of them are in :mod:`lora_mnist_cli.stages`. Nothing heavy is loaded before there is work.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lora_mnist_cli.registry.artifact import Artifact
    from lora_mnist_cli.settings.adapter_config import AdapterConfig
    from lora_mnist_cli.settings.config import BaseConfig
    from lora_mnist_cli.settings.digits import DigitSet
    from lora_mnist_cli.settings.recipes import recipe
    from lora_mnist_cli.settings.runtime import Runtime
    from lora_mnist_cli.stages.adapting import finetune, sweep
    from lora_mnist_cli.stages.evaluating import Evaluation, evaluate
    from lora_mnist_cli.stages.training_base import train_base
    from lora_mnist_cli.stages.workspace import Workspace

    __version__: str

__all__ = [
    "AdapterConfig", "Artifact", "BaseConfig", "DigitSet", "Evaluation", "Runtime", "Workspace", "evaluate", "finetune",
    "recipe", "sweep", "train_base",
]  # fmt: skip

_HOMES = {
    "AdapterConfig": "settings.adapter_config",
    "Artifact": "registry.artifact",
    "BaseConfig": "settings.config",
    "DigitSet": "settings.digits",
    "Evaluation": "stages",
    "Runtime": "settings.runtime",
    "Workspace": "stages",
    "evaluate": "stages",
    "finetune": "stages",
    "recipe": "settings.recipes",
    "sweep": "stages",
    "train_base": "stages",
}


def __getattr__(name: str) -> Any:
    """What is asked for, looked up then: of ``__version__`` alone that costs a tenth of the start of the program."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lora-mnist")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
