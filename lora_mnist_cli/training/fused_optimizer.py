"""Adam, AdamW and SGD by PyTorch's fused kernels, called directly: the private calls into its optimisers, in this file.

An optimiser of ``torch.optim`` imports half of PyTorch's compiler when it is made, which takes longer than to train a
base, and a step of it collects its tensors, groups them by device and asks about graphs anew each time, which takes
longer than the kernel on an adapter of a small rank. :class:`FusedOptimizer` does neither. Where a version of PyTorch
lacks one of the private names, or computes something else by it, ``torch.optim`` takes the steps: a new PyTorch costs
speed alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

KERNELS = {"adam": "_fused_adam_", "adamw": "_fused_adamw_", "sgd": "_fused_sgd_"}
"""Name of an optimiser → the function of ``torch`` that updates a parameter group."""
CLASSES: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
"""Name of an optimiser → PyTorch's class, which imports the compiler when it is called."""
DECAYS = {"adam": 0.0, "adamw": 0.01, "sgd": 0.0}
"""Name of an optimiser → PyTorch's default weight decay for it."""
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""PyTorch's defaults for Adam, which are those of its paper (Kingma and Ba 2015, arXiv:1412.6980)."""

State = dict[nn.Parameter, dict[str, Tensor]]


class FusedOptimizer:
    """An optimiser of ``torch.optim`` without its imports: the same groups, state and numbers.

    On the CPU the numbers are those of ``torch.optim`` with ``fused=True``, bit for bit.

    Args:
        kind: ``adam``, ``adamw`` or ``sgd``.
        groups: dictionaries with ``params``, ``lr`` and ``weight_decay``; all parameters are on one device.
        state: the tensors of each parameter by name, where steps were taken before.

    Attributes:
        param_groups: the groups. Rates may change between steps, and nothing else.
        state: empty before the first step, and always for SGD.
    """

    def __init__(self, kind: str, groups: Iterable[dict[str, Any]], state: State | None = None) -> None:
        self.kind, self.param_groups = kind, list(groups)
        self.state: State = defaultdict(dict, state or {})
        self._updates: list[Callable[[], object]] = []
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        self._known = kernel_works(self.kind, parameters[0].device.type)
        self.recordable = self._known and self.kind != "sgd" and all(map(takes_rate_tensor, parameters))
        """Whether a step may be recorded in a CUDA graph; call :meth:`set_rates` before a replay."""

    def __call__(self) -> None:
        """Take one step by the gradients of the parameters; each has one."""
        if torch.is_grad_enabled():  # most callers have turned it off, and to do so again takes a tenth of a small step
            with torch.no_grad():
                return self()
        if not self._updates:
            self._updates = self._start()
        for update in self._updates:
            update()

    def set_rates(self) -> None:
        """Give a recorded step the rates that the parameter groups have now."""
        for update in self._updates:
            if isinstance(update, _AdamKernel):
                update.set_rate()

    def _start(self) -> list[Callable[[], object]]:
        if self._known:
            return [_kernel(self.kind, group, self.state) for group in self.param_groups]
        # It keeps these very dictionaries, so it sees their rates.
        public = CLASSES[self.kind](self.param_groups, fused=True)
        public.state = self.state
        return [public.step]


def _kernel(kind: str, group: dict[str, Any], state: State) -> Callable[[], object]:
    """Return the update of one parameter group by its kernel."""
    return _SGDKernel(group) if kind == "sgd" else _AdamKernel(kind, group, state)


class _SGDKernel:
    """PyTorch's fused kernel for one parameter group, without momentum."""

    def __init__(self, group: dict[str, Any]) -> None:
        self._group = group
        self._fused = partial(
            getattr(torch, KERNELS["sgd"]), momentum_buffer_list=[], weight_decay=group["weight_decay"],
            momentum=0.0, dampening=0.0, nesterov=False, maximize=False, is_first_step=False,
        )  # fmt: skip

    def __call__(self) -> None:
        parameters = self._group["params"]
        self._fused(parameters, [parameter.grad for parameter in parameters], lr=self._group["lr"])


class _AdamKernel:
    """PyTorch's fused kernel for one parameter group, whose state is made here where there is none."""

    def __init__(self, kind: str, group: dict[str, Any], state: State) -> None:
        parameters, one = group["params"], torch.ones((), device=group["params"][0].device)
        for parameter in parameters:
            if parameter not in state:
                averages = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
                state[parameter] = {"step": torch.zeros_like(one), **averages}
        states = [state[parameter] for parameter in parameters]
        self._group, self._one, self._counts = group, one, [each["step"] for each in states]
        self._rate = torch.full_like(one, group["lr"]) if takes_rate_tensor(parameters[0]) else None
        self._rate_now = group["lr"]
        self._fused = partial(
            getattr(torch, KERNELS[kind]), exp_avgs=[each["exp_avg"] for each in states],
            exp_avg_sqs=[each["exp_avg_sq"] for each in states], max_exp_avg_sqs=[], state_steps=self._counts,
            beta1=BETA1, beta2=BETA2, weight_decay=group["weight_decay"], eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip

    def __call__(self) -> None:
        self.set_rate()
        for count in self._counts:
            count.add_(self._one)
        parameters, rate = self._group["params"], self._group["lr"] if self._rate is None else self._rate
        self._fused(parameters, [parameter.grad for parameter in parameters], lr=rate)

    def set_rate(self) -> None:
        if self._rate is not None and self._rate_now != self._group["lr"]:
            self._rate_now = self._group["lr"]
            self._rate.fill_(self._rate_now)


def takes_rate_tensor(parameter: Tensor) -> bool:
    """Return whether a parameter's rate is a tensor: a graph can read it on the device alone.

    The kernel reads such a rate in single precision, which is not enough for training in double precision.
    """
    return parameter.is_cuda and parameter.dtype == torch.float32


@cache
def kernel_works(kind: str, device: str) -> bool:
    """Return whether the private call exists and computes what the optimiser's formula says, on a type of device."""
    try:
        return _agrees(kind, device)
    except Exception:  # noqa: BLE001 - whatever a private call of another version raises, the public one works
        return False


@torch.no_grad()
def _agrees(kind: str, device: str) -> bool:
    """Take three steps on three numbers, by the kernel and by the formula in double precision."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float32, device=device))
    group: dict[str, Any] = {"params": [parameter], "lr": 0.0, "weight_decay": 0.1}
    update = _kernel(kind, group, {})
    expected = parameter.double()
    mean, square = torch.zeros_like(expected), torch.zeros_like(expected)
    for number in range(1, 4):
        rate = group["lr"] = 0.1 / number
        parameter.grad = parameter * parameter + number
        gradient = parameter.grad.double()
        update()
        if kind == "adamw":
            expected = expected * (1 - rate * 0.1)
        else:
            gradient = gradient + 0.1 * expected
        if kind == "sgd":
            expected = expected - rate * gradient
            continue
        mean, square = BETA1 * mean + (1 - BETA1) * gradient, BETA2 * square + (1 - BETA2) * gradient**2
        root = (square / (1 - BETA2**number)).sqrt() + EPSILON
        expected = expected - rate * mean / (1 - BETA1**number) / root
    return torch.allclose(parameter.double(), expected, rtol=1e-5, atol=1e-6)
