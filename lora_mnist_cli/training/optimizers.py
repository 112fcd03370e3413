"""Optimisers by name, with PyTorch's fused kernels; and one optimiser for many members, each with its own rate."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import TrainingConfig

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], float]] = {
    "adam": (torch.optim.Adam, 0.0),
    "adamw": (torch.optim.AdamW, 0.01),
    "sgd": (torch.optim.SGD, 0.0),
}
"""Name → class, and PyTorch's default weight decay for it."""

WARM_UP = 0.05
"""Share of the training in which the cosine schedule's rate rises."""

PLATEAU_PATIENCE = 10
"""Epochs without a better validation loss before the study's schedule divides the learning rate by ten."""


def weight_decay(config: TrainingConfig) -> float:
    """The config's weight decay; the optimiser's own default where it has none."""
    return _OPTIMIZERS[config.optimizer][1] if config.weight_decay is None else config.weight_decay


def ratio_b(config: TrainingConfig) -> float:
    """How many times the rate of all else that of the factors B is (LoRA+)."""
    return config.lr_ratio_b if isinstance(config, AdapterConfig) else 1.0


def is_factor_b(name: str) -> bool:
    """Whether a parameter of that name is the B of an adapter."""
    return name.rpartition(".")[2].startswith("lora_B")


def make_optimizer(
    config: TrainingConfig, parameters: Iterable[nn.Parameter], factors_b: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """The optimiser that the config names, with PyTorch's fused kernel.

    Args:
        factors_b: of the parameters those that have a learning rate of their own, the B of adapters.
    """
    kind, _ = _OPTIMIZERS[config.optimizer]
    groups: Any = list(parameters)
    if ratio_b(config) != 1 and factors_b:
        own = {id(parameter) for parameter in factors_b}
        others = [parameter for parameter in groups if id(parameter) not in own]
        groups = [{"params": others}, {"params": list(factors_b), "lr": ratio_b(config) * config.rate}]
    optimizer = kind(groups, lr=config.rate, weight_decay=weight_decay(config), fused=True)  # type: ignore[call-arg]
    if not torch.cuda.is_available():
        _skip_graph_check(optimizer)
    return optimizer


class BareStep:
    """An optimiser's step without what stands around its arithmetic.

    A step of Adam collects its tensors, groups them by device and asks about graphs anew each time, which takes longer
    than the kernel on an adapter of a small rank. From its second step on only the kernel is called, with the rate that
    its parameter group has then; on the CPU the numbers are the same, bit for bit. Other changes of the groups need
    another of these.

    Args:
        optimizer: with a gradient for each of its parameters, which are all on one device.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer
        self._plain = partial(inspect.unwrap(type(optimizer).step), optimizer)
        self._has_kernel = isinstance(optimizer, torch.optim.Adam) and all(g["fused"] for g in optimizer.param_groups)
        self._kernels: list[_AdamKernel] = []
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self.recordable = self._has_kernel and all(map(_takes_rate_tensor, parameters))
        """Whether a step may be recorded in a CUDA graph; :meth:`set_rates` is called before it is replayed."""

    def __call__(self) -> None:
        """One step."""
        if self._kernels:
            for kernel in self._kernels:
                kernel()
            return
        self._plain()
        if self._has_kernel:  # the first step made what the optimiser remembers
            self._kernels = [_AdamKernel(self._optimizer, group) for group in self._optimizer.param_groups]

    def set_rates(self) -> None:
        """Let a recorded step have the rates that the parameter groups have now."""
        for kernel in self._kernels:
            kernel.set_rate()


class _AdamKernel:
    """PyTorch's fused kernel for one parameter group."""

    def __init__(self, optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> None:
        parameters = group["params"]
        memory = [optimizer.state[parameter] for parameter in parameters]
        self._group, self._counts = group, [each["step"] for each in memory]
        self._one = torch.ones_like(self._counts[0])
        self._rate = torch.full_like(self._one, group["lr"]) if _takes_rate_tensor(parameters[0]) else None
        self._set = group["lr"]
        self._fused = partial(
            torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_,
            parameters, [parameter.grad for parameter in parameters], [each["exp_avg"] for each in memory],
            [each["exp_avg_sq"] for each in memory], [], self._counts, beta1=group["betas"][0],
            beta2=group["betas"][1], weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False,
            maximize=False,
        )  # fmt: skip

    def __call__(self) -> None:
        self.set_rate()
        for count in self._counts:
            count.add_(self._one)
        self._fused(lr=self._group["lr"] if self._rate is None else self._rate)

    def set_rate(self) -> None:
        if self._rate is not None and self._set != self._group["lr"]:
            self._set = self._group["lr"]
            self._rate.fill_(self._set)


def _takes_rate_tensor(parameter: Tensor) -> bool:
    """Whether a parameter's rate is a tensor: what a graph reads has to lie on the device.

    The kernel reads such a rate in single precision, which is not enough for training in double precision.
    """
    return parameter.is_cuda and parameter.dtype == torch.float32


def make_plateau(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    """The study's schedule."""
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=PLATEAU_PATIENCE)


def cosine_share(progress: float) -> float:
    """What part of its learning rate a training on the cosine schedule takes: a line up from 0, then a cosine to 0.

    A warm-up (Goyal et al. 2017, arXiv:1706.02677) and half a wave of a cosine (Loshchilov and Hutter 2017,
    arXiv:1608.03983), without restarts.

    Args:
        progress: how much of the training is over, of 0 to 1; the first :data:`WARM_UP` of it is the line.
    """
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


class MemberOptimizer:
    """One optimiser over the parameters of many members in one flat tensor, with each member's rate and weight decay.

    Members with the same rate and decay are one parameter group of as few tensors as can be, so that an update is one
    fused kernel a group. A schedule acts on each member alone: it watches a rate of its own.

    Args:
        flat: all parameters.
        gradient: of the same size.
        parts: the slices of ``flat`` that are each member's.
        configs: of each member; all name the same optimiser.
        parts_b: of each member's slices those of its factors B, which may have a rate of their own (LoRA+).
    """

    def __init__(
        self, flat: Tensor, gradient: Tensor, parts: Sequence[Sequence[slice]], configs: Sequence[TrainingConfig],
        parts_b: Sequence[Sequence[slice]] | None = None,
    ) -> None:  # fmt: skip
        self._flat, self._gradient = flat, gradient
        self._own: list[list[tuple[float, Sequence[slice]]]] = []
        """Of each member: slices, and the multiple of its rate that they are updated with."""
        for m, (config, own) in enumerate(zip(configs, parts, strict=True)):
            ratio, others = ratio_b(config), parts_b[m] if parts_b else ()
            self._own.append([(1.0, own)] if ratio == 1 else [(1.0, without(own, others)), (ratio, others)])
        self._decays = [weight_decay(config) for config in configs]
        self._rates = [config.rate for config in configs]
        self._cosine = [config.schedule == "cosine" for config in configs]
        self._share = 1.0
        # ReduceLROnPlateau wants an optimiser to change; a member's is one that holds nothing but its rate.
        self._holders = [torch.optim.SGD([torch.zeros(1)], lr=config.rate) for config in configs]
        self._schedules = [
            make_plateau(holder) if config.schedule == "plateau" else None
            for config, holder in zip(configs, self._holders, strict=True)
        ]
        self.optimizer = make_optimizer(configs[0], [nn.Parameter(flat)])
        self._regroup()

    @property
    def rates(self) -> list[float]:
        """Each member's learning rate now."""
        return [rate * self._share if moves else rate for rate, moves in zip(self._rates, self._cosine, strict=True)]

    def advance(self, progress: float) -> None:
        """Set the rates of those on the cosine schedule.

        Args:
            progress: how much of the training is over, of 0 to 1.
        """
        if any(self._cosine):
            self._share = cosine_share(progress)
            for group in self.optimizer.param_groups:
                group["lr"] = group["full_lr"] * (self._share if group["cosine"] else 1)

    def watch(self, losses: Sequence[float]) -> None:
        """Let each member's schedule look at its loss."""
        for schedule, loss in zip(self._schedules, losses, strict=True):
            if schedule is not None:
                schedule.step(loss)
        rates = [float(holder.param_groups[0]["lr"]) for holder in self._holders]
        if rates != self._rates:
            self._rates = rates
            self._regroup()

    def _regroup(self) -> None:
        """Make a parameter group of each rate and weight decay; what the optimiser remembers goes along."""
        memory = self._memory()
        groups: dict[tuple[float, float, bool], list[slice]] = {}
        each = zip(self._rates, self._decays, self._cosine, self._own, strict=True)
        for rate, decay, cosine, own_parts in each:
            for ratio, parts in own_parts:
                groups.setdefault((ratio * rate, decay, cosine), []).extend(parts)
        self.optimizer.state.clear()
        self.optimizer.param_groups.clear()
        for (rate, decay, cosine), parts in groups.items():
            own = []
            for part in joined(parts):
                parameter = nn.Parameter(self._flat[part])
                parameter.grad = self._gradient[part]
                state = {name: value[part].clone() if value.ndim else value.clone() for name, value in memory.items()}
                if state:
                    self.optimizer.state[parameter] = state
                own.append(parameter)
            now = rate * self._share if cosine else rate
            group = {"params": own, "lr": now, "full_lr": rate, "cosine": cosine, "weight_decay": decay}
            self.optimizer.add_param_group(group)
        self.step = BareStep(self.optimizer)

    def _memory(self) -> dict[str, Tensor]:
        """What the optimiser remembers: flat tensors, and counts of steps, which are the same for all."""
        memory: dict[str, Tensor] = {}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                start = parameter.storage_offset() - self._flat.storage_offset()
                state: dict[str, Any] = self.optimizer.state.get(parameter, {})
                for name, value in state.items():
                    if not torch.is_tensor(value):
                        continue
                    if value.ndim == 0:
                        memory[name] = value
                    else:
                        whole = memory.setdefault(name, torch.zeros_like(self._flat))
                        whole[start : start + len(value)] = value
        return memory


def joined(parts: Iterable[slice]) -> list[slice]:
    """The same places in as few slices as can be, in order."""
    result: list[slice] = []
    for part in sorted(parts, key=lambda each: each.start):
        if result and result[-1].stop == part.start:
            result[-1] = slice(result[-1].start, part.stop)
        else:
            result.append(part)
    return result


def without(parts: Iterable[slice], others: Iterable[slice]) -> list[slice]:
    """The places of some slices that are in none of the others, which all lie within them."""
    ends = sorted((part.start, part.stop) for part in others)
    left = []
    for part in joined(parts):
        start = part.start
        for low, high in ends:
            if part.start <= low < part.stop:
                left.append(slice(start, low))
                start = high
        left.append(slice(start, part.stop))
    return [part for part in left if part.start < part.stop]


def _skip_graph_check(optimizer: torch.optim.Optimizer) -> None:
    """Spare each step the question whether an accelerator is recording a graph, where there is no accelerator.

    A build of PyTorch with CUDA looks for the driver's library anew each time, which takes a sixth of a step.
    """
    for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        if hasattr(optimizer, name):
            setattr(optimizer, name, lambda: None)
