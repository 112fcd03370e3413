"""The command line: the only importer of Typer and Rich. One file a subcommand, as thin as it can be."""

from lora_mnist_cli.cli.app import main

__all__ = ["main"]
