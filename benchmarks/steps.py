"""Where the time of one step of a bank goes on this CPU: ``python benchmarks/steps.py --rounds 5``.

Three cohorts take turns: that of the study's sweep (seven ranks of two seeds), a single adapter, and that of a grid of
rank 8 (sixteen seeds). A whole step is timed by CPU seconds (the mean of 300), and each of its operations inside the
loop by the clock (the median), so that other work on the machine disturbs neither. Beside them stand two bounds: the
arithmetic of its products at the speed of the fastest square product, and its number of operations times the time of a
product of single numbers, which is nothing but PyTorch's dispatch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from statistics import median

import torch
from harness import hardware, in_turn, options, report, spread, table

from lora_mnist_cli.data.dataset import MNISTDataset
from lora_mnist_cli.evaluation.original_study import NEW_DIGITS, RANKS
from lora_mnist_cli.models.mlp import MNISTModel
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.stages.records.loading import twin
from lora_mnist_cli.system.arithmetic import computing
from lora_mnist_cli.training.bank.cohort import Cohort
from lora_mnist_cli.training.bank.inputs import FrozenInputs
from lora_mnist_cli.training.bank.optimizer import MemberOptimizer

BATCH, STEPS = 64, 300
COHORTS: dict[str, tuple[Sequence[int], int]] = {
    "seven ranks × two seeds": (RANKS, 2), "one adapter of rank 8": ((8,), 1), "rank 8 × sixteen seeds": ((8,), 16)
}  # fmt: skip
"""Title → ranks, and how many seeds of each."""
HEAD = (
    "µs per step", "whole step", "products", "gather", "Adam", "other", "arithmetic alone", "dispatch alone",
    "products, each repeated",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The microseconds of a step, in the order of :data:`HEAD`; the bounds are the last three."""

    step: float
    products: float
    gather: float
    adam: float
    other: float
    arithmetic: float
    dispatch: float
    repeated: float


def clocked(call: Callable[[], object], times: int = STEPS) -> float:
    """Return the median time of a call in microseconds."""
    clocks = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        clocks.append(time.perf_counter_ns() - start)
    return median(clocks) / 1e3


def measure(base: MNISTModel, images: MNISTDataset, ranks: Sequence[int], seeds: int) -> Parts:
    """Time the steps of a cohort."""
    configs = [AdapterConfig(rank=rank, seed=seed, digits=NEW_DIGITS) for rank in ranks for seed in range(seeds)]
    inputs = FrozenInputs(images, base.fc1)  # type: ignore[arg-type]
    cohort = Cohort([twin(base, config) for config in configs], inputs, BATCH, seeds=seeds)
    update = MemberOptimizer(cohort.flat, cohort.gradient, cohort.parts, configs).step
    batches = cycle([torch.randint(len(images), (seeds, BATCH)) for _ in range(STEPS)])
    program = cohort._program(BATCH, training=True)

    def step() -> None:
        cohort._step(update, next(batches))

    def load() -> None:
        inputs.load(next(batches), program.batch)

    calls = {"gather": [load], "products": [], "other": [], "adam": [update]}
    for call in program.step:
        name = (call.func if isinstance(call, partial) else call).__name__
        calls["products" if name.endswith(("addmm", "bmm")) else "other"].append(call)
    kinds = {id(call): kind for kind, each in calls.items() for call in each}
    clocked(step)
    cpu = time.thread_time()
    for _ in range(STEPS):
        step()
    cpu = (time.thread_time() - cpu) / STEPS * 1e6
    clocks: dict[int, list[int]] = {place: [] for place in kinds}
    for _ in range(STEPS):
        for each in (load, *program.step, update):
            start = time.perf_counter_ns()
            each()
            clocks[id(each)].append(time.perf_counter_ns() - start)
    totals = {kind: sum(median(clocks[id(call)]) for call in each) / 1e3 for kind, each in calls.items()}
    number, square = torch.ones(1, 1), torch.randn(256, 256)
    empty = clocked(partial(torch.addmm, number, number, number, out=torch.zeros(1, 1)))
    rate = 2 * 256**3 / clocked(partial(torch.mm, square, square, out=torch.empty(256, 256)))
    return Parts(
        cpu, totals["products"], totals["gather"], totals["adam"], totals["other"],
        sum(map(flop, (config.rank for config in configs))) / rate, empty * (len(program.step) + 5),
        sum(clocked(call, 60) for call in calls["products"]),
    )  # fmt: skip


def flop(rank: int) -> int:
    """Return the operations of a member's products: both of the first layer with the images, and the other layers'."""
    inner = sum(6 * rank * i * o + 6 * BATCH * i * o for i, o in ((64, 64), (64, 10)))
    return 2 * BATCH * rank * (2 * 784 + 3 * 64) + inner


@torch.no_grad()
@computing()
def main() -> None:
    """Measure, and print the table."""
    given = options(__doc__, rounds=3).parse_args()
    torch.manual_seed(0)
    base, images = MNISTModel(), MNISTDataset.load("train", NEW_DIGITS)
    ways = {title: partial(measure, base, images, *cohort) for title, cohort in COHORTS.items()}
    found = in_turn(ways, given.rounds)
    rows = [
        (title, *(spread([getattr(parts, name) for parts in each], 0) for name in Parts.__annotations__))
        for title, each in found.items()
    ]
    report(given, table(HEAD, rows), f"n = {given.rounds}. {hardware()}")


if __name__ == "__main__":
    main()
