"""How weights are found: the loop, optimisers, the MLP's own step, the bank, objectives, protections, EWC.

It may import ``data``, ``models``, ``evaluation`` and the rooms below, and torch. Read
:mod:`~lora_mnist_cli.training.trainer` first, then :mod:`~lora_mnist_cli.training.bank.trainer`.
"""
