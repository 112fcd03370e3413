"""The code that computes logits: the MLP, LoRA on one page, the other methods, combining, densities, the router, ONNX.

It may import ``settings``, ``system`` and torch. Read :mod:`~lora_mnist_cli.models.lora` first, then
:mod:`~lora_mnist_cli.models.methods`.
"""
