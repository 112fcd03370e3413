"""Images: the files of the data sets, the data set in memory, random streams, and a user's own pictures.

It may import ``settings`` and ``system``; NumPy, torch and Pillow, and torchvision only to download. Read
:mod:`~lora_mnist_cli.data.sources` first, then :mod:`~lora_mnist_cli.data.dataset`.
"""
