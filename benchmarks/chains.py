"""How long chains of tasks take: ``python benchmarks/chains.py``; Markdown tables on stdout, in about ten minutes.

First full fine-tuning, the stage alone: by autograd and with the gradient written out, in turn. Then
``lora-mnist reproduce --study forgetting`` as a whole process, with one process that trains and with one per core. A
ratio is that of a round.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

from harness import (
    MEASURED,
    TOOL,
    Timing,
    compared,
    hardware,
    in_turn,
    measured,
    options,
    process,
    report,
    table,
    timed,
)

from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.config import BaseConfig
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.stages import Workspace, finetune, train_base
from lora_mnist_cli.system.machine import cores
from lora_mnist_cli.training import trainer


def full(rounds: int, epochs: int) -> dict[str, list[Timing]]:
    """Full fine-tuning on 5-9, scored and published."""
    config = AdapterConfig(method="full", epochs=epochs, digits=DigitSet(range(5, 10)))
    with TemporaryDirectory() as place:
        workspace = Workspace(Path(place))
        train_base(BaseConfig(epochs=1), workspace=workspace)

        def train(name: str, written_out: bool) -> Timing:
            with mock.patch.object(trainer, "_is_plain", wraps=trainer._is_plain) as plain:
                if not written_out:
                    plain.side_effect = lambda *_, **__: False
                return timed(name, partial(finetune, config, workspace=workspace, name="full", force=True))

        train("to load what is loaded late", True)
        ways = {"by autograd": False, "gradient written out": True}
        return in_turn({name: partial(train, name, way) for name, way in ways.items()}, rounds)


def study(rounds: int, epochs: int | None) -> dict[str, list[Timing]]:
    """The whole study of forgetting, both chains and three seeds, from an empty folder."""

    def run(name: str, workers: int) -> Timing:
        with TemporaryDirectory() as place:
            command = [*TOOL, "reproduce", "--study", "forgetting", "--runs-dir", place, "--workers", workers]
            return process(name, [*command, "--json", "--quiet", *(["--epochs", epochs] if epochs else [])])

    counts = {"one process": 1} | ({f"{cores()} processes": cores()} if cores() > 1 else {})
    return in_turn({name: partial(run, name, workers) for name, workers in counts.items()}, rounds)


def tables(heading: str, timings: dict[str, list[Timing]]) -> list[str]:
    """The times, and the ratios of each way to the last."""
    *others, last = timings
    rows = [(name, *measured(each)) for name, each in timings.items()]
    return [table((heading, *MEASURED), rows), compared("ratio", timings, [(name, last) for name in others])]


def main() -> None:
    """Measure, and print the tables."""
    parser = options(__doc__, rounds=5, epochs=None)
    parser.add_argument("--study-rounds", type=int, default=2, help="of the study; --rounds is of full fine-tuning")
    given = parser.parse_args()
    parts = tables("full fine-tuning on 5-9", full(given.rounds, given.epochs or 10))
    if given.study_rounds:
        parts += tables("the study of forgetting", study(given.study_rounds, given.epochs))
    report(given, *parts, hardware())


if __name__ == "__main__":
    main()
