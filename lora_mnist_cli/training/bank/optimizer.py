"""One optimiser for many members, each with its own rate, weight decay and schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lora_mnist_cli.settings.config import TrainingConfig
from lora_mnist_cli.training.fused_optimizer import FusedOptimizer
from lora_mnist_cli.training.member_rates import MemberRates
from lora_mnist_cli.training.optimizers import cosine_share, ratio_b, weight_decay


class MemberOptimizer:
    """One optimiser over the parameters of many members in one flat tensor, with each member's rate and weight decay.

    Members with the same rate and decay are one parameter group of as few tensors as possible, so an update is one
    fused kernel per group. A schedule acts on each member alone: it watches that member's rate.

    Args:
        flat: all parameters.
        gradient: the same size as ``flat``.
        parts: each member's slices of ``flat``.
        configs: each member's; all name the same optimiser.
        parts_b: the slices of each member that hold its factors B, which may have their own rate (LoRA+).

    Attributes:
        step: takes a step; another one from when members' rates part or meet.
    """

    def __init__(
        self, flat: Tensor, gradient: Tensor, parts: Sequence[Sequence[slice]], configs: Sequence[TrainingConfig],
        parts_b: Sequence[Sequence[slice]] | None = None,
    ) -> None:  # fmt: skip
        self._flat, self._gradient = flat, gradient
        self._parts: list[list[tuple[float, Sequence[slice]]]] = []
        """Per member: slices, and the multiple of its rate that updates them."""
        for m, (config, slices) in enumerate(zip(configs, parts, strict=True)):
            ratio, slices_b = ratio_b(config), parts_b[m] if parts_b else ()
            alike = [(1.0, slices)]
            self._parts.append(alike if ratio == 1 else [(1.0, slices_without(slices, slices_b)), (ratio, slices_b)])
        self._decays = [weight_decay(config) for config in configs]
        self._rates = MemberRates(configs)
        self.step = self._grouped(configs[0].optimizer, {})

    @property
    def rates(self) -> list[float]:
        """Each member's present learning rate."""
        return self._rates.now

    def advance(self, progress: float) -> None:
        """Set the rates of the members on the cosine schedule, at a progress from 0 to 1 of the training."""
        if any(self._rates.cosine):
            self._rates.share = cosine_share(progress)
            for group in self.step.param_groups:
                group["lr"] = group["full_lr"] * (self._rates.share if group["cosine"] else 1)

    def watch(self, losses: Sequence[float]) -> None:
        """Let each member's schedule see its loss."""
        if self._rates.watch(losses):
            self.step = self._grouped(self.step.kind, self._flat_state())

    def _grouped(self, kind: str, flat_state: Mapping[str, Tensor]) -> FusedOptimizer:
        """Return an optimiser with a parameter group per rate and weight decay, in this state."""
        groups: dict[tuple[float, float, bool], list[slice]] = {}
        rates = zip(self._rates.full, self._decays, self._rates.cosine, self._parts, strict=True)
        for rate, decay, cosine, member_parts in rates:
            for ratio, parts in member_parts:
                groups.setdefault((ratio * rate, decay, cosine), []).extend(parts)
        param_groups: list[dict[str, Any]] = []
        state: dict[nn.Parameter, dict[str, Tensor]] = {}
        for (rate, decay, cosine), parts in groups.items():
            parameters = []
            for part in merged_slices(parts):
                parameter = nn.Parameter(self._flat[part])
                parameter.grad = self._gradient[part]
                if flat_state:
                    state[parameter] = {
                        name: value[part].clone() if value.ndim else value.clone() for name, value in flat_state.items()
                    }
                parameters.append(parameter)
            now = rate * self._rates.share if cosine else rate
            group = {"params": parameters, "lr": now, "full_lr": rate, "cosine": cosine, "weight_decay": decay}
            param_groups.append(group)
        return FusedOptimizer(kind, param_groups, state)

    def _flat_state(self) -> dict[str, Tensor]:
        """Return the optimiser's state: flat tensors, and counts of steps, which are the same for all parameters."""
        flat_state: dict[str, Tensor] = {}
        for parameter, state in self.step.state.items():
            start = parameter.storage_offset() - self._flat.storage_offset()
            for name, value in state.items():
                if value.ndim == 0:
                    flat_state[name] = value
                else:
                    whole = flat_state.setdefault(name, torch.zeros_like(self._flat))
                    whole[start : start + len(value)] = value
        return flat_state


def merged_slices(parts: Iterable[slice]) -> list[slice]:
    """Return the same places in as few slices as possible, in order."""
    result: list[slice] = []
    for part in sorted(parts, key=lambda each: each.start):
        if result and result[-1].stop == part.start:
            result[-1] = slice(result[-1].start, part.stop)
        else:
            result.append(part)
    return result


def slices_without(parts: Iterable[slice], others: Iterable[slice]) -> list[slice]:
    """Return the places of some slices that are in none of the others, which all lie within them."""
    ends = sorted((part.start, part.stop) for part in others)
    left = []
    for part in merged_slices(parts):
        start = part.start
        for low, high in ends:
            if part.start <= low < part.stop:
                left.append(slice(start, low))
                start = high
        left.append(slice(start, part.stop))
    return [part for part in left if part.start < part.stop]
