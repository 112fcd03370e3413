"""Trains the parts of chains in parallel processes, which publish what they learned and report its scores.

A part whose process dies is retried in another process, and then in the calling one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection

from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.settings.tasks import tasks_text
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.banks import backends
from lora_mnist_cli.stages.chains.chain_run import (
    ChainRun,
    State,
    StateScores,
    is_one_network,
    key_before,
    key_of,
    score,
    score_before,
)
from lora_mnist_cli.stages.chains.strategies import STRATEGIES, works_of
from lora_mnist_cli.system import machine
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.processes import Pool, SendingReporter, answer_tasks
from lora_mnist_cli.system.progress import Reporter, Silent
from lora_mnist_cli.system.work import DRAWING, LEARNING, LOADING, SCORING, Followed, SideBySide, in_turn, total

TRIES = 2
"""How often a part is begun in processes: a part that kills two of them is left to the caller."""

PROGRESS = ("plan", "phase", "begin", "advance")
"""What a process reports beside its warnings and its answer."""

MEMORY = 2 * 10**9
"""Bytes that a process may need: 1.8 GB at most were measured, for a protected adapter after five tasks."""


@dataclass(frozen=True)
class ChainPart:
    """The part of a chain that one process learns without waiting for another.

    Args:
        strategies: learned one after the other; with none, only the network after the first task.
        after: numbers of the parts that have to be done before.
    """

    chain_run: ChainRun
    strategies: tuple[str, ...]
    after: frozenset[int]

    def work(self) -> dict[str, float]:
        """Return about how much work it is."""
        return total(works_of(self.strategies, self.chain_run) or [costs.of_base(self.chain_run.base)])

    def __str__(self) -> str:
        what = " and ".join(self.strategies) or "the first task"
        return f"{what} of {tasks_text(self.chain_run.tasks)}, seed {self.chain_run.base.seed}"


@dataclass
class PartResults:
    """The results of parts.

    Args:
        lost: the parts that were not learned.
        scores: of everything that was learned, except single networks, which are published with their scores.
        warned: the warnings that were given.
    """

    lost: list[ChainPart] = field(default_factory=list)
    scores: StateScores = field(default_factory=StateScores)
    warned: set[str] = field(default_factory=set)

    def warn(self, reporter: Reporter, text: str) -> None:
        """Pass a warning on, once."""
        if text not in self.warned:
            reporter.warn(text)
            self.warned.add(text)


Chains = Sequence[tuple[Sequence[ChainRun], Sequence[str]]]
"""The runs of each chain, one per seed, and the strategies that learn them; all in one workspace."""


def train_in_processes(chains: Chains, workers: int | None) -> PartResults | None:
    """Learn chains in several processes; parts that are up to date are not learned again.

    Args:
        workers: see :func:`default_workers`.

    Returns:
        The results; None where one process is enough, and nothing is done here.

    Raises:
        LoraMnistError: the error of a part; the other processes are ended then, and their published artifacts stay.
    """
    parts = parts_of(chains)
    workspace = parts[0].chain_run.workspace
    workers = min(len(parts), workers or default_workers(workspace.runtime))
    if workers == 1:
        return None
    workspace.reporter.notice(f"learning in {workers} processes")
    reporter, learned, done = workspace.reporter, PartResults(), 0
    report = {LOADING: costs.loading("torch", "matplotlib"), SCORING: costs.SCORING_ONE, DRAWING: costs.PICTURE}
    works = [part.work() for part in parts]
    progress = SideBySide(Followed(reporter, report), LEARNING, works, costs.loading_in_processes(), workers)
    sent = [_reporting_to(Silent(), part) for part in parts]
    pool = Pool(serve, sent, tries=TRIES, after=[part.after for part in parts])
    try:
        with contextlib.closing(pool.run(workers)) as messages:
            for message in messages:
                part, process = parts[message.task], f"process {message.pid}"
                if message.kind == "begun":
                    reporter.detail(f"{process} learns {part}")
                elif message.kind == "again":
                    reporter.warn(f"{process} {message.payload[0]}; learning once more: {part}")
                elif message.kind == "lost":
                    reporter.warn(f"{process} {message.payload[0]}; left for the end: {part}")
                    learned.lost.append(part)
                    progress.over(message.task, done=False)
                elif message.kind == "warn":
                    learned.warn(reporter, *message.payload)
                elif message.kind in PROGRESS:
                    progress.heard(message.task, message.kind, *message.payload)
                else:
                    scores, is_new = message.payload
                    learned.scores.update(scores)
                    done += 1
                    progress.over(message.task, done=is_new)
                    state = "learned" if is_new else "up to date"
                    reporter.notice(f"{part}: {state} ({done} of {len(parts)})")
    finally:
        workspace.registry.tidy()
    if learned.lost:
        reporter.warn(f"{len(learned.lost)} of {len(parts)} parts are learned without processes")
    return learned


def default_workers(runtime: Runtime) -> int:
    """Return how many processes leave each thread a core and fit into the memory; 1 where there is a GPU."""
    return machine.fitting(backends.workers(runtime, machine.cores()), MEMORY)


def check_workers(workers: int | None) -> None:
    """Refuse a number of processes that can do no work.

    Raises:
        UsageError: where it is below 1.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"there is at least one worker, not {workers}", value=workers)


def parts_of(chains: Chains) -> list[ChainPart]:
    """Cut chains into parts: first those that others wait for, then the longest, so that none is left for the end."""
    parts: list[ChainPart] = []
    later: list[ChainPart] = []
    shared: set[tuple[str, int]] = set()
    for chain_runs, strategies in chains:
        # Strategies that share their first adapter are learned by one process.
        groups = [tuple(strategy for strategy in strategies if STRATEGIES[strategy].begins_plain)]
        groups += [(strategy,) for strategy in strategies if not STRATEGIES[strategy].begins_plain]
        for chain_run in chain_runs:
            first = frozenset([len(parts)])
            parts.append(ChainPart(chain_run, (), frozenset()))
            for group in filter(None, groups):
                if STRATEGIES[group[0]].after_first:
                    later.append(ChainPart(chain_run, group, first))
                elif (group[0], chain_run.base.seed) not in shared:  # all chains share it
                    shared.add((group[0], chain_run.base.seed))
                    later.append(ChainPart(chain_run, group, frozenset()))
    return parts + sorted(later, key=lambda part: sum(part.work().values()), reverse=True)


def _reporting_to(reporter: Reporter, part: ChainPart) -> ChainPart:
    """Return the part with another reporter."""
    return dataclasses.replace(part, chain_run=part.chain_run.reporting_to(reporter))


def serve(line: Connection) -> None:
    """Learn the parts that arrive on a connection and send their scores, until it is closed: a worker process."""
    reporter = SendingReporter(line, "warn", *PROGRESS)
    answer_tasks(line, lambda part: _learn(_reporting_to(reporter, part)))


def _learn(part: ChainPart) -> tuple[StateScores, bool]:
    """Learn a part; return its scores, and whether anything in it is new."""
    chain_run, strategies = part.chain_run, part.strategies
    start, state_scores = datetime.now(UTC), StateScores()

    def is_new(state: State) -> bool:
        return any(datetime.fromisoformat(artifact.created) >= start for artifact in state)

    if not strategies:
        chain_run.workspace.reporter.plan(part.work())
        first = chain_run.first()
        if new := is_new((first,)):
            state_scores[key_before(chain_run)] = score_before(chain_run)
        return state_scores, new
    works = works_of(strategies, chain_run)
    turns = zip(strategies, in_turn(chain_run.workspace.reporter, works), strict=True)
    new = False
    for strategy, reporter in turns:
        by = STRATEGIES[strategy].by
        states = STRATEGIES[strategy].states(chain_run.reporting_to(reporter))
        if any(map(is_new, states)):  # states that were all there already are most likely in a report already
            several = [state for state in states if not is_one_network(state, by)]
            state_scores.update({key_of(state, by): score(state, chain_run, by) for state in several})
            new = True
    return state_scores, new
