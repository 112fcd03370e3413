"""A small laboratory for LoRA on MNIST.

The stages are plain functions with the defaults of the commands: ``from lora_mnist_cli import train_base, finetune,
sweep, evaluate``. More of them are in :mod:`lora_mnist_cli.stages`. Nothing heavy is imported before there is work.
"""

from typing import TYPE_CHECKING, Any

from lora_mnist_cli.system.lazy import lazy_exports

if TYPE_CHECKING:
    from lora_mnist_cli.registry.artifact import Artifact as Artifact
    from lora_mnist_cli.settings.adapter_config import AdapterConfig as AdapterConfig
    from lora_mnist_cli.settings.config import BaseConfig as BaseConfig
    from lora_mnist_cli.settings.digits import DigitSet as DigitSet
    from lora_mnist_cli.settings.recipes import recipe as recipe
    from lora_mnist_cli.settings.runtime import Runtime as Runtime
    from lora_mnist_cli.stages import Evaluation as Evaluation
    from lora_mnist_cli.stages import Workspace as Workspace
    from lora_mnist_cli.stages import evaluate as evaluate
    from lora_mnist_cli.stages import finetune as finetune
    from lora_mnist_cli.stages import sweep as sweep
    from lora_mnist_cli.stages import train_base as train_base
    from lora_mnist_cli.training.engines.lightning import MNISTDataModule as MNISTDataModule
    from lora_mnist_cli.training.engines.lightning import MNISTLightningModule as MNISTLightningModule

    __version__: str

_HOMES = {
    "AdapterConfig": "settings.adapter_config",
    "Artifact": "registry.artifact",
    "BaseConfig": "settings.config",
    "DigitSet": "settings.digits",
    "Runtime": "settings.runtime",
    "recipe": "settings.recipes",
} | dict.fromkeys(("Evaluation", "Workspace", "evaluate", "finetune", "sweep", "train_base"), "stages")
__all__ = list(_HOMES)
# These import Lightning when they are asked for, so ``import *`` leaves them out.
_LIGHTNING = dict.fromkeys(("MNISTDataModule", "MNISTLightningModule"), "training.engines.lightning")

_export = lazy_exports(__name__, _HOMES | _LIGHTNING)


def __getattr__(name: str) -> Any:
    """Look up an export when it is asked for; ``__version__`` alone would cost a tenth of the program's start."""
    if name == "__version__":
        from lora_mnist_cli.system.version import version

        return version()
    return _export(name)
