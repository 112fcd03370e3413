"""A small laboratory for LoRA on MNIST. The stages are in :mod:`lora_mnist_cli.stages`."""


def __getattr__(name: str) -> str:
    """``__version__``, looked up when it is asked for: the lookup costs a tenth of the start of the program."""
    if name == "__version__":
        from importlib.metadata import version

        return version("lora-mnist")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
