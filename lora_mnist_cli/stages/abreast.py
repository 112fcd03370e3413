"""Parts of a chain in processes beside each other: each publishes what it has learned, and nothing else comes back.

What is not there afterwards, for whatever reason, is learned by who asked for it; so is an error told by that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing.connection import wait

from lora_mnist_cli.errors import LoraMnistError
from lora_mnist_cli.reporting import Silent
from lora_mnist_cli.stages.cures import CURES, Course

Part = tuple[Course, Sequence[str]]


def learn_abreast(courses: Sequence[Course], cures: Sequence[str], workers: int) -> None:
    """Learn some courses by some cures in so many processes; what is up to date is not learned again.

    Args:
        courses: of one chain, a seed each.
    """
    for course in courses:
        course.first()  # which all cures begin with
    # What two cures share is to be trained by one process.
    together = [[cure for cure in cures if CURES[cure].begins_plain]]
    together += [[cure] for cure in cures if not CURES[cure].begins_plain]
    parts = [(course, group) for group in together if group for course in courses]
    reporter = courses[0].workspace.reporter
    workers = min(workers, len(parts))
    reporter.notice(f"learning in {workers} processes")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_learn, args=(_silent(parts[i::workers]),)) for i in range(workers)]
    try:
        for process in processes:
            process.start()
        alive = [process.sentinel for process in processes]
        while alive:
            for ended in wait(alive):
                alive.remove(ended)  # type: ignore[arg-type]
    finally:
        for process in processes:
            if process.pid is not None:
                process.terminate()
                process.join()
        courses[0].workspace.registry.tidy()


def _silent(parts: Sequence[Part]) -> list[Part]:
    """The same for another process, whose words would be lost between those of this one."""
    return [
        (dataclasses.replace(course, workspace=dataclasses.replace(course.workspace, reporter=Silent())), cures)
        for course, cures in parts
    ]


def _learn(parts: Sequence[Part]) -> None:
    # An interrupt is for the process that asked, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for course, cures in parts:
        for cure in cures:
            with contextlib.suppress(LoraMnistError):
                CURES[cure].states(course)
