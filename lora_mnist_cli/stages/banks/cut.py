"""Deciding which adapters are trained together. Nothing here reads data or files, or trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from lora_mnist_cli.models.architecture import member_bytes
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.training.bank.grouping import cohorts

MAX_MEMBERS = 256
"""Adapters per bank: each has a staging folder with an open lock, and a process may have a thousand files open."""

WORTH_A_PROCESS = 64
"""Adapters times epochs that make a bank worth a process: some seconds of work. Cutting seventy adapters into five
banks costs no more than their times differ from run to run."""


@dataclass(frozen=True)
class AdapterRequest:
    """An adapter that a stage wants to have; its config has digits and layers filled in."""

    name: str
    config: AdapterConfig


Bank = list[AdapterRequest]


def cut_into_banks(requests: Sequence[AdapterRequest], base: Artifact, runtime: Runtime) -> Iterator[Bank]:
    """Yield groups of adapters that can be trained together within a memory budget, those of one seed side by side.

    A bank ends with a cohort as soon as it has work for some seconds, so that several processes can share a grid. The
    number of processes has no influence on the cut: another cut changes results in their last places. Kernels train
    all members at the same time and each by itself, so there only memory ends a bank.

    Args:
        runtime: has the budget and the engine.
    """
    seconds_are_enough = runtime.engine_taken != "fused"
    in_order = sorted(requests, key=lambda request: (_shared(request), request.config.seed))  # stable within a seed
    for _, group in groupby(in_order, _shared):
        members = list(group)
        bank: Bank = []
        used = 0
        for places, _ in cohorts([member.config for member in members]):
            for member in (members[place] for place in sorted(places)):
                need = training_bytes(member.config, base)
                if bank and (used + need > runtime.bank_megabytes * 2**20 or len(bank) == MAX_MEMBERS):
                    yield bank
                    bank, used = [], 0
                bank.append(member)
                used += need
            if seconds_are_enough and len(bank) * members[0].config.epochs >= WORTH_A_PROCESS:
                yield bank
                bank, used = [], 0
        if bank:
            yield bank


def _shared(request: AdapterRequest) -> tuple[Any, ...]:
    """Return what the members of a bank have in common."""
    config = request.config
    # What is trained alone has nothing in common, so any methods may share a bank.
    method = () if config.alone else (config.method, config.plain)
    needs = config.alone, config.needs_statistics, config.objective, method
    return str(config.digits), config.epochs, config.precision, *needs


def training_bytes(config: AdapterConfig, base: Artifact) -> int:
    """Estimate the bytes of memory that an adapter takes in training."""
    shapes = [(fan_in, fan_out) for fan_in, fan_out in base.details["layers"].values()]
    # A method without ranks trains as many numbers as full rank at most.
    rank = config.rank or max(min(shape) for shape in shapes)
    return member_bytes(shapes, rank, config.batch_size, 8 if "64" in config.precision else 4)


def unfinished_banks(
    requests: Sequence[AdapterRequest], base: Artifact, runtime: Runtime, bank_of: Mapping[str, str | None],
    mark: Callable[[Bank], str],
) -> list[Bank]:  # fmt: skip
    """Return the banks in which the adapters are trained that are not there yet.

    The whole grid is cut in the same way whichever adapters are there, because sums in another bank are added up in
    another order, and running a command again has to end with the same bytes. A bank that was published in part, as its
    process was killed, is therefore trained again as a whole. The rest of banks that were mixed with adapters from
    elsewhere goes into banks of its own.

    Args:
        bank_of: name → mark of the bank that it was trained in, for each adapter that is there.
        mark: gives the mark of a bank, which tells it from any other.
    """
    if len(bank_of) == len(requests):
        return []
    banks: list[Bank] = []
    rest: Bank = []
    for bank in cut_into_banks(requests, base, runtime):
        missing = [member for member in bank if member.name not in bank_of]
        if missing and {bank_of[member.name] for member in bank if member.name in bank_of} <= {mark(bank)}:
            banks.append(bank)
        else:
            rest += missing
    return [*banks, *_banks_of_rest(rest, requests, base, runtime, bank_of, mark)] if rest else banks


def _banks_of_rest(
    rest: Bank, requests: Sequence[AdapterRequest], base: Artifact, runtime: Runtime,
    bank_of: Mapping[str, str | None], mark: Callable[[Bank], str],
) -> list[Bank]:  # fmt: skip
    """Return banks of adapters that are missing; put one together again that another grid published in part."""
    missing = {member.name for member in rest}
    for published in sorted({of_bank for of_bank in bank_of.values() if of_bank}):
        there = [request for request in requests if bank_of.get(request.name) == published]
        if mark(next(cut_into_banks(there, base, replace(runtime, bank_megabytes=2**20)))) == published:
            continue  # nothing of it is missing
        together = [request for request in requests if request.name in missing or request in there]
        banks = [
            bank for bank in cut_into_banks(together, base, runtime)
            if any(member.name in missing for member in bank)
        ]  # fmt: skip
        if any(mark(bank) == published for bank in banks):
            return banks
    return list(cut_into_banks([request for request in requests if request.name in missing], base, runtime))


def title_of(members: Sequence[AdapterRequest]) -> str:
    """Name adapters for progress: one by its name, several by their number and digits."""
    return members[0].name if len(members) == 1 else f"{len(members)} adapters on {members[0].config.digits}"
