"""The gradient of a ReLU, in place: the one private operator of PyTorch that the steps call, and the public way.

A ReLU passes a gradient on where its output is above 0, and gives 0 elsewhere. ``aten::threshold_backward`` does that
in one kernel, into memory that exists. Its overload with ``grad_input`` is not a public interface; where it is missing,
or computes something else, a comparison and a fill do the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor


def relu_gradient(gradient: Tensor, outputs: Tensor) -> list[Callable[[], object]]:
    """Return the operations that turn a gradient by a ReLU's outputs into the one by its inputs, in place.

    Args:
        gradient: any shape; the operations overwrite it.
        outputs: the ReLU's, of the same shape.
    """
    if operator_works(gradient.device.type):
        return [partial(_operator(), gradient, outputs, 0, grad_input=gradient)]
    blocked = torch.empty(outputs.shape, dtype=torch.bool, device=outputs.device)
    return [partial(torch.le, outputs, 0, out=blocked), partial(gradient.masked_fill_, blocked, 0)]


def _operator() -> Any:
    return torch.ops.aten.threshold_backward.grad_input


@cache
def operator_works(device: str) -> bool:
    """Return whether the private operator exists in this PyTorch and computes the gradient, on a type of device."""
    gradient = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float32, device=device)
    outputs = torch.tensor([0.5, 0.0, 2.0], dtype=torch.float32, device=device)
    try:
        _operator()(gradient, outputs, 0, grad_input=gradient)
    except Exception:  # noqa: BLE001 - whatever a private call of another version raises, the public calls work
        return False
    return gradient.tolist() == [1.0, 0.0, 3.0]
