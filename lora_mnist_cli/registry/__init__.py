"""The folder ``runs/``: artifacts, manifests, lineage, publication, verification, archives, PEFT's folder.

It may import ``models`` and the rooms below, and safetensors; nothing heavy at import. Read
:mod:`~lora_mnist_cli.registry.artifact` first, then :mod:`~lora_mnist_cli.registry.registry`.
"""
