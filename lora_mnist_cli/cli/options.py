"""The options that commands share, as types, and the parsers of lists that a user writes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from lora_mnist_cli import config
from lora_mnist_cli.errors import UsageError
from lora_mnist_cli.registry import Registry
from lora_mnist_cli.stages import workspace

DEFAULT_RUNS = workspace.DEFAULT_RUNS
DEFAULT_DATA = workspace.DEFAULT_DATA
MAX_LIST = 10_000
_RANGE = re.compile(r"(-?[0-9]{1,18})(?:-([0-9]{1,18}))?", re.ASCII)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"lora-mnist {version('lora-mnist')}")
        raise typer.Exit


def complete_artifact(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of artifacts that begin as typed, for the shell's completion."""
    root = ctx.params.get("runs_dir") or os.environ.get("LORA_MNIST_RUNS") or DEFAULT_RUNS
    return [name for name in Registry(Path(root)).names() if name.startswith(incomplete)]


def choices(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The known words that begin as typed, for the shell's completion."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def _help(cls: type[config.TrainingConfig], name: str) -> str:
    """A field's sentence, and what the reference recipe has for it."""
    reference = config.RECIPES["reference"]
    ours = [getattr(each, name) for each in (reference.base, reference.adapter) if hasattr(each, name)]
    text = str(cls.__dataclass_fields__[name].metadata["help"])
    if None in ours:
        return text
    values = f"{ours[0]} for a base, {ours[1]} for an adapter" if len(set(ours)) > 1 else str(ours[0])
    return f"{text} (reference: {values})"


_PLACES = "Where things are"
_OUTPUT = "Output"
_TRAINING = "Training"

Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
]
RunsDir = Annotated[
    Path, typer.Option("--runs-dir", envvar="LORA_MNIST_RUNS", help="Folder of the artifacts.", rich_help_panel=_PLACES)
]
DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar="LORA_MNIST_DATA",
        help="Folder of the data sets; MNIST needs none.",
        rich_help_panel=_PLACES,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=_OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notices on stderr.", rich_help_panel=_OUTPUT)]
Verbose = Annotated[
    bool, typer.Option("--verbose", help="More on stderr; tracebacks of errors.", rich_help_panel=_OUTPUT)
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Name of the artifact; by default it says what is inside.", rich_help_panel=_PLACES),
]
Force = Annotated[
    bool, typer.Option("--force", help="Do the work again, and replace what has the name.", rich_help_panel=_PLACES)
]
Artifact = Annotated[
    str | None,
    typer.Argument(help="Name of an artifact; the newest that fits by default.", autocompletion=complete_artifact),
]
ArtifactName = Annotated[str, typer.Argument(help="Name of an artifact.", autocompletion=complete_artifact)]
Base = Annotated[
    str | None,
    typer.Option("--base", help="Base to adapt; the newest by default.", autocompletion=complete_artifact),
]

Recipe = Annotated[
    str,
    typer.Option(
        "--recipe", help=f"Named set of hyperparameters: {', '.join(config.RECIPES)}.", rich_help_panel=_TRAINING,
        autocompletion=choices(config.RECIPES),
    ),
]  # fmt: skip
# A value of None is the recipe's.
Seed = Annotated[
    int | None, typer.Option("--seed", help=_help(config.TrainingConfig, "seed"), rich_help_panel=_TRAINING)
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", help=_help(config.TrainingConfig, "epochs"), rich_help_panel=_TRAINING)
]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help=_help(config.TrainingConfig, "batch_size"), rich_help_panel=_TRAINING)
]
Lr = Annotated[float | None, typer.Option("--lr", help=_help(config.TrainingConfig, "lr"), rich_help_panel=_TRAINING)]
Optimizer = Annotated[
    str | None, typer.Option("--optimizer", help=_help(config.TrainingConfig, "optimizer"), rich_help_panel=_TRAINING,
                             autocompletion=choices(config.OPTIMIZERS))
]  # fmt: skip
WeightDecay = Annotated[
    float | None,
    typer.Option("--weight-decay", help=_help(config.TrainingConfig, "weight_decay"), rich_help_panel=_TRAINING),
]
ValSplit = Annotated[
    float | None, typer.Option("--val-split", help=_help(config.TrainingConfig, "val_split"), rich_help_panel=_TRAINING)
]
Precision = Annotated[
    str | None, typer.Option("--precision", help=_help(config.TrainingConfig, "precision"), rich_help_panel=_TRAINING,
                             autocompletion=choices(config.PRECISIONS))
]  # fmt: skip
Accelerator = Annotated[
    str, typer.Option("--accelerator", help=f"One of {', '.join(config.ACCELERATORS)}.", rich_help_panel=_TRAINING,
                      autocompletion=choices(config.ACCELERATORS))
]  # fmt: skip
Logger = Annotated[
    str, typer.Option("--logger", help="csv (always written), or tensorboard as well.", rich_help_panel=_TRAINING,
                      autocompletion=choices(config.LOGGERS))
]  # fmt: skip
DatasetOfBase = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        help="Data set of the base; a base of another one is refused.",
        autocompletion=choices(config.DATASETS),
    ),
]

Alpha = Annotated[float | None, typer.Option("--alpha", help=_help(config.AdapterConfig, "alpha"))]
AdapterDigits = Annotated[str | None, typer.Option("--digits", help=_help(config.AdapterConfig, "digits"))]
Scaling = Annotated[
    str | None,
    typer.Option("--scaling", help=_help(config.AdapterConfig, "scaling"), autocompletion=choices(config.SCALINGS)),
]
Init = Annotated[
    str | None, typer.Option("--init", help=_help(config.AdapterConfig, "init"), autocompletion=choices(config.INITS))
]
Dropout = Annotated[float | None, typer.Option("--dropout", help=_help(config.AdapterConfig, "dropout"))]
TargetLayers = Annotated[str | None, typer.Option("--target-layers", help=_help(config.AdapterConfig, "target_layers"))]


def parse_integers(text: str, what: str) -> list[int]:
    """The whole numbers of a list such as ``1,2,4`` or ``0-4,7``.

    Raises:
        UsageError: for anything else, naming the part that is wrong, or a list of more than :data:`MAX_LIST`.
    """
    numbers: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"'{part}' in --{what} '{text}' is not a whole number", hint="write 1,2,4 or 0-4", value=text
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"the range '{part}' in --{what} runs backwards", hint=f"{last}-{first}", value=text)
        if len(numbers) + last - first >= MAX_LIST:
            raise UsageError(f"--{what} '{text}' has more than {MAX_LIST:,} values", value=text)
        numbers.extend(range(first, last + 1))
    return numbers


def parse_floats(text: str, what: str) -> list[float]:
    """The numbers of a list such as ``0,0.5,1``.

    Raises:
        UsageError: for anything else, naming the part that is wrong.
    """
    numbers = []
    for part in text.split(","):
        try:
            numbers.append(float(part))
        except ValueError:
            raise UsageError(
                f"'{part}' in --{what} '{text}' is not a number", hint="write 0,0.5,1", value=text
            ) from None
    return numbers


def parse_layers(text: str | None) -> tuple[str, ...] | None:
    """Layer names of ``fc1,fc3``; None, which is all layers, for ``all``."""
    if text is None or text.strip().lower() == "all":
        return None
    return tuple(part.strip() for part in text.split(","))
