"""A small laboratory for LoRA on MNIST. The stages are in :mod:`lora_mnist_cli.stages`."""

from importlib.metadata import version

__version__ = version("lora-mnist")
