"""The folder ``runs/``: artifacts, manifests, lineage, publication, verification, archives, PEFT's folder.

It may import ``models`` and the rooms below, safetensors and msgspec; ``checkpoint`` alone imports torch. Read
:mod:`~lora_mnist_cli.registry.artifact` first, then :mod:`~lora_mnist_cli.registry.registry`.
"""
