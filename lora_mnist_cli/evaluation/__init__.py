"""What a figure is worth: logits to scores, statistics over seeds, forgetting and transfer, figures of others.

It may import ``settings`` and ``system``; torch and SciPy inside functions. Read
:mod:`~lora_mnist_cli.evaluation.scores` first, then :mod:`~lora_mnist_cli.evaluation.statistics`.
"""
