"""Doing a chain again: its report and its parts make room; what other artifacts were made from stays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lora_mnist_cli.registry.entries import children_first
from lora_mnist_cli.stages.chains.chain_run import ChainRun
from lora_mnist_cli.stages.chains.strategies import STRATEGIES
from lora_mnist_cli.stages.records.resolving import base_name


def make_room(report: str, chain_runs: Sequence[ChainRun], strategies: Sequence[str]) -> None:
    """Remove the report of a chain and the parts that only it needs.

    A base under its usual name is shared with everything else, so it goes only if it has other settings.
    """
    workspace = chain_runs[0].workspace
    registry = workspace.registry
    seeds = {chain_run.base.seed for chain_run in chain_runs}
    begin = tuple(f"{chain_runs[0].prefix}-{strategy}-" for strategy in STRATEGIES)
    entries, _ = registry.scan()
    parts = [entry for entry in entries if entry.name.startswith(begin) and entry.seed in seeds]
    doomed = children_first([*(entry for entry in entries if entry.name == report), *parts])
    for chain_run in chain_runs:
        learned = [chain_run.base.digits, *([chain_run.every] if "joint" in strategies else [])]
        for config in (dataclasses.replace(chain_run.base, digits=digits) for digits in learned):
            name = base_name(config)
            there = registry.readable(name)
            doomed += [name] if there is not None and there.config != config.to_json() else []
    removed = [name for name in doomed if not registry.descendants(name) and registry.remove(name)]
    if removed:
        workspace.reporter.notice(f"learned again, in the place of {', '.join(removed)}")
