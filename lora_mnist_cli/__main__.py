"""``python -m lora_mnist_cli`` is ``lora-mnist``."""

from lora_mnist_cli.cli import entry

entry()
