"""From logits to figures: scores, intervals and tests, forgetting and transfer, and the figures of the literature.

It may import ``settings`` and ``system``; torch, and SciPy inside functions. Read
:mod:`~lora_mnist_cli.evaluation.scores` first, then :mod:`~lora_mnist_cli.evaluation.intervals`.
"""
