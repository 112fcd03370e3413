"""PyTorch's fused Adam kernel, called directly: the private calls into PyTorch's optimisers, all in this file.

A step of Adam collects its tensors, groups them by device and asks about graphs anew each time, which takes longer than
the kernel on an adapter of a small rank. :class:`FusedAdamStep` skips that. Where a version of PyTorch lacks one of the
private names, or computes something else by them, it calls ``optimizer.step()``: a new PyTorch costs speed alone.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

KERNELS = {False: "_fused_adam_", True: "_fused_adamw_"}
"""Whether the weight decay is decoupled → the function of ``torch`` that updates a parameter group."""


class FusedAdamStep:
    """The step of an optimiser, by the kernel alone where the optimiser is a fused Adam or AdamW.

    The first step is the optimiser's, and makes its state. From the second on only the kernel is called, with the rate
    that the parameter group has then. On the CPU the numbers are those of ``optimizer.step()``, bit for bit. Other
    changes of the groups need another of these. Call it without autograd.

    Args:
        optimizer: with a gradient for each of its parameters, which are all on one device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer, self._kernels = optimizer, list[_AdamKernel]()
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        known = kernel_works(parameters[0].device.type)
        self._reference_step = _bare_step(optimizer) if known else optimizer.step
        fused = isinstance(optimizer, torch.optim.Adam) and all(g["fused"] for g in optimizer.param_groups)
        self._has_kernel = known and fused
        self.recordable = self._has_kernel and all(map(takes_rate_tensor, parameters))
        """Whether a step may be recorded in a CUDA graph; call :meth:`set_rates` before a replay."""

    def __call__(self) -> None:
        """Take one step."""
        if self._kernels:
            for kernel in self._kernels:
                kernel()
            return
        self._reference_step()
        if self._has_kernel:
            self._kernels = [_AdamKernel(self._optimizer, group) for group in self._optimizer.param_groups]

    def set_rates(self) -> None:
        """Give a recorded step the rates that the parameter groups have now."""
        for kernel in self._kernels:
            kernel.set_rate()


class _AdamKernel:
    """PyTorch's fused kernel for one parameter group, whose state exists."""

    def __init__(self, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        parameters = group["params"]
        states = [optimizer.state[parameter] for parameter in parameters]
        self._group, self._counts = group, [state["step"] for state in states]
        self._one = torch.ones_like(self._counts[0])
        self._rate = torch.full_like(self._one, group["lr"]) if takes_rate_tensor(parameters[0]) else None
        self._rate_now = group["lr"]
        self._fused = partial(
            getattr(torch, KERNELS[group["decoupled_weight_decay"]]),
            parameters, [parameter.grad for parameter in parameters], [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states], [], self._counts, beta1=group["betas"][0],
            beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False,
            maximize=False,
        )  # fmt: skip

    def __call__(self) -> None:
        self.set_rate()
        for count in self._counts:
            count.add_(self._one)
        self._fused(lr=self._group["lr"] if self._rate is None else self._rate)

    def set_rate(self) -> None:
        if self._rate is not None and self._rate_now != self._group["lr"]:
            self._rate_now = self._group["lr"]
            self._rate.fill_(self._rate_now)


def takes_rate_tensor(parameter: Tensor) -> bool:
    """Return whether a parameter's rate is a tensor: a graph can read it on the device alone.

    The kernel reads such a rate in single precision, which is not enough for training in double precision.
    """
    return parameter.is_cuda and parameter.dtype == torch.float32


def skip_graph_check(optimizer: torch.optim.Optimizer) -> None:
    """Turn off an optimiser's question, per step, whether an accelerator is recording a graph.

    A build of PyTorch with CUDA searches for the driver's library each time, which takes a sixth of a step.
    """
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(optimizer, name):
            setattr(optimizer, name, lambda: None)


@cache
def kernel_works(device: str) -> bool:
    """Return whether the private calls exist and compute what ``optimizer.step()`` does, on a type of device."""
    try:
        return all(_agrees(kind, device) for kind in (torch.optim.Adam, torch.optim.AdamW))
    except Exception:  # noqa: BLE001 - whatever a private call of another version raises, the public call works
        return False


@torch.no_grad()
def _agrees(kind: type[torch.optim.Adam], device: str) -> bool:
    """Take three steps on three numbers, by the public call and by the private ones, and compare the results."""
    results = []
    for private in (False, True):
        parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float32, device=device))
        parameter.grad = torch.zeros_like(parameter)
        optimizer = kind([parameter], lr=0.1, weight_decay=0.1, fused=True)
        group = optimizer.param_groups[0]
        step: Any = _bare_step(optimizer) if private else optimizer.step
        for number in range(3):
            parameter.grad.copy_(parameter * parameter + number)
            group["lr"] = 0.1 / (number + 1)
            step()
            if private and number == 0:
                step = _AdamKernel(optimizer, group)
        results.append(parameter.detach())
    # A rate that is a tensor is rounded to single precision.
    tolerance = 1e-5 if takes_rate_tensor(results[0]) else 0.0
    return torch.allclose(results[0], results[1], rtol=tolerance, atol=0.0)


def _bare_step(optimizer: torch.optim.Optimizer) -> partial[Any]:
    """Return an optimiser's step without the hooks for profiling and gradients that are wrapped around it."""
    return partial(inspect.unwrap(type(optimizer).step), optimizer)
