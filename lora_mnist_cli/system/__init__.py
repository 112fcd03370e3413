"""The ground floor: errors and exit codes, files, locks, processes, progress, the machine. It knows nothing of LoRA.

It imports no other room and no framework; only :mod:`.arithmetic`, which working code loads, sets how torch computes.
Read :mod:`~lora_mnist_cli.system.errors` first: each error there maps to one exit code.
"""
