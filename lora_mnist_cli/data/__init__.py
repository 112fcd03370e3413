"""Images: where they come from, the data set in memory, its random streams, and pictures of one's own.

It may import ``settings`` and ``system``; NumPy, torch and Pillow, and torchvision only to download. Read
:mod:`~lora_mnist_cli.data.dataset` first.
"""
