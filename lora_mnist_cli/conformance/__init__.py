"""A test bench for any LoRA code: laws that an implementation must keep, behind a small protocol.

It may import ``models`` and the rooms below, and torch; :mod:`~lora_mnist_cli.conformance.ready` alone imports PEFT or
loralib, when asked. Read :mod:`~lora_mnist_cli.conformance.protocol` first, then
:mod:`~lora_mnist_cli.conformance.laws`.
"""
