"""The options that commands share, as types."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import basics
from lora_mnist_cli.registry.catalog import Catalog
from lora_mnist_cli.settings import choices, config, recipes
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS, PROTECTIONS
from lora_mnist_cli.stages import workspace
from lora_mnist_cli.system.errors import LoraMnistError

DEFAULT_RUNS = workspace.DEFAULT_RUNS
DEFAULT_DATA = workspace.DEFAULT_DATA


def complete_artifact(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of artifacts that begin as typed, for the shell's completion."""
    root = ctx.params.get("runs_dir") or os.environ.get(workspace.RUNS_VARIABLE) or DEFAULT_RUNS
    with contextlib.suppress(LoraMnistError):  # a complaint would end up in the line that is being typed
        catalog = Catalog(Path(root))
        known = [f"@{alias}" for alias in catalog.tags()] if incomplete.startswith("@") else catalog.names()
        return [name for name in known if name.startswith(incomplete)]
    return []


def completions(known: Iterable[str]) -> Callable[[str], list[str]]:
    """The known words that begin as typed, for the shell's completion."""
    return lambda incomplete: [word for word in known if word.startswith(incomplete)]


def whole(text: str | int) -> int:
    """A whole number, or a line that shows what was given in its place; a default comes as the number itself."""
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", str(text).strip(), re.ASCII):
        raise typer.BadParameter(f"'{text}' is not a whole number")
    return int(text)


def real(text: str) -> float:
    """A number, or a line that shows what was given in its place."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number") from None


def integer_option(flag: str, about: str, panel: str | None = None) -> Any:
    """An option that takes a whole number."""
    return typer.Option(flag, help=about, parser=whole, metavar="INT", rich_help_panel=panel)


def number_option(flag: str, about: str, panel: str | None = None) -> Any:
    """An option that takes a number."""
    return typer.Option(flag, help=about, parser=real, metavar="FLOAT", rich_help_panel=panel)


def word_option(flag: str, about: str, panel: str | None = None, known: Iterable[str] = ()) -> Any:
    """An option that takes a word; the known ones are completed."""
    return typer.Option(flag, help=about, metavar="TEXT", autocompletion=completions(known), rich_help_panel=panel)


def artifact_option(flag: str, about: str) -> Any:
    """An option that takes the name of an artifact, which is completed."""
    return typer.Option(flag, help=about, metavar="TEXT", autocompletion=complete_artifact)


def folder(text: str) -> Path:
    """A folder; an empty word, as an unset variable of a shell gives, is none."""
    if not str(text).strip():
        raise typer.BadParameter("it is empty")
    return Path(text)


def switch(flag: str, about: str, panel: str | None = None) -> Any:
    """An option that takes nothing."""
    return typer.Option(flag, help=about, rich_help_panel=panel)


_PLACES = "Where things are"
_OUTPUT = "Output"
_TRAINING = "Training"
_RUNS_HELP = "Folder of the artifacts."
_DATA_HELP = "Folder of the data sets; MNIST needs none."
_NAME_HELP = "Name of the artifact; by default it says what is inside."
_ARTIFACT_HELP = "Name of an artifact; the newest that fits by default."
_BASE_DATASET_HELP = "Data set of the base; a base of another one is refused."


def _folder(flag: str, variable: str, about: str) -> Any:
    return typer.Option(flag, envvar=variable, help=about, metavar="FOLDER", parser=folder, rich_help_panel=_PLACES)


def _field(make: Callable[..., Any], flag: str, name: str, panel: str | None = _TRAINING, **more: Any) -> Any:
    """An option that sets a config's field; not given, it is None and the recipe's value stands."""
    cls = AdapterConfig if name in AdapterConfig.__dataclass_fields__ else config.BaseConfig
    reference = recipes.RECIPES["reference"]
    ours = [getattr(each, name) for each in (reference.base, reference.adapter) if hasattr(each, name)]
    about = (
        cls.__dataclass_fields__[name].metadata.get("help")
        or (config.TrainingConfig.__dataclass_fields__[name].metadata["help"])
    )
    if None not in ours and () not in ours:
        values = f"{ours[0]} for a base, {ours[1]} for an adapter" if len(set(ours)) > 1 else str(ours[0])
        about = f"{about} (reference: {values})"
    return make(flag, about, panel, **more)


Version = basics.Version
RunsDir = Annotated[Path, _folder("--runs-dir", workspace.RUNS_VARIABLE, _RUNS_HELP)]
DataDir = Annotated[Path, _folder("--data-dir", workspace.DATA_VARIABLE, _DATA_HELP)]
Json = Annotated[bool, switch("--json", "Print one JSON document.", _OUTPUT)]
Quiet = Annotated[bool, switch("--quiet", "No progress and no notices on stderr.", _OUTPUT)]
Verbose = Annotated[bool, switch("--verbose", "More on stderr; tracebacks of errors.", _OUTPUT)]
Name = Annotated[str | None, word_option("--name", _NAME_HELP, _PLACES)]
Note = Annotated[str, word_option("--note", "Words of your own, kept with what is made.", _PLACES)]
Force = Annotated[bool, switch("--force", "Do the work again, and replace what has the name.", _PLACES)]
Artifact = Annotated[str | None, typer.Argument(help=_ARTIFACT_HELP, autocompletion=complete_artifact)]
Experts = Annotated[
    list[str] | None,
    typer.Argument(
        help="Name of an artifact; the newest that fits by default. With --route, of several experts.",
        autocompletion=complete_artifact, metavar="[NAME]...",
    ),
]  # fmt: skip
Route = Annotated[
    bool, switch("--route", "A base and adapters on it as experts: each image's digit density decides which answers.")
]
RouteBy = Annotated[
    str | None,
    word_option(
        "--route-by", "mixture (experts weighed by their probability; the default), or choose (the likeliest alone).",
        None, choices.ROUTES,
    ),
]  # fmt: skip
OptionalArtifactName = Annotated[
    str | None, typer.Argument(help="Name of an artifact; all by default.", autocompletion=complete_artifact)
]
ArtifactName = Annotated[str, typer.Argument(help="Name of an artifact.", autocompletion=complete_artifact)]
Base = Annotated[str | None, artifact_option("--base", "Base to adapt; the newest by default.")]
DatasetOfBase = Annotated[str | None, word_option("--dataset", _BASE_DATASET_HELP, None, choices.DATASETS)]

Recipe = Annotated[
    str,
    word_option("--recipe", f"Named set of hyperparameters: {', '.join(recipes.RECIPES)}.", _TRAINING, recipes.RECIPES),
]
Accelerator = Annotated[
    str, word_option("--accelerator", f"One of {', '.join(choices.ACCELERATORS)}.", _TRAINING, choices.ACCELERATORS)
]
Logger = Annotated[
    str,
    word_option(
        "--logger", "csv (always written), or one beside it: tensorboard, mlflow or wandb.", _TRAINING, choices.LOGGERS
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        help="CPU threads of training; with more than one, weights differ in their last places.",
        parser=whole,
        metavar="INT",
        rich_help_panel=_TRAINING,
    ),
]
Backend = Annotated[
    str,
    word_option(
        "--backend", "Where banks are trained: local, in processes, or on ray; the bytes are the same.", _TRAINING,
        choices.BACKENDS,
    ),
]  # fmt: skip
Workers = Annotated[
    int | None, integer_option("--workers", "Processes of --backend processes (a core for each thread).", _TRAINING)
]
Address = Annotated[
    str | None, word_option("--address", "Ray cluster of --backend ray; by default the one that Ray finds.", _TRAINING)
]
Seed = Annotated[int | None, _field(integer_option, "--seed", "seed")]
Epochs = Annotated[int | None, _field(integer_option, "--epochs", "epochs")]
BatchSize = Annotated[int | None, _field(integer_option, "--batch-size", "batch_size")]
Lr = Annotated[float | None, _field(number_option, "--lr", "lr")]
LrPower = Annotated[float | None, _field(number_option, "--lr-power", "lr_power")]
Schedule = Annotated[str | None, _field(word_option, "--schedule", "schedule", known=choices.SCHEDULES)]
Optimizer = Annotated[str | None, _field(word_option, "--optimizer", "optimizer", known=choices.OPTIMIZERS)]
WeightDecay = Annotated[float | None, _field(number_option, "--weight-decay", "weight_decay")]
ValSplit = Annotated[float | None, _field(number_option, "--val-split", "val_split")]
Precision = Annotated[str | None, _field(word_option, "--precision", "precision", known=choices.PRECISIONS)]

Method = Annotated[str | None, _field(word_option, "--method", "method", None, known=METHODS)]
_PROTECTING = "Keeping what the base knows"
Protect = Annotated[str | None, _field(word_option, "--protect", "protect", _PROTECTING, known=PROTECTIONS)]
ReplayOld = Annotated[float | None, _field(number_option, "--replay-old", "replay_old", _PROTECTING)]
ReplayNew = Annotated[float | None, _field(number_option, "--replay-new", "replay_new", _PROTECTING)]
DistillWeight = Annotated[float | None, _field(number_option, "--distill-weight", "distill_weight", _PROTECTING)]
NullspaceEnergy = Annotated[float | None, _field(number_option, "--nullspace-energy", "nullspace_energy", _PROTECTING)]
LrRatioB = Annotated[float | None, _field(number_option, "--lr-ratio-b", "lr_ratio_b")]
Rank = Annotated[int | None, _field(integer_option, "--rank", "rank", None)]
AdapterDigits = Annotated[str | None, _field(word_option, "--digits", "digits", None)]
Alpha = Annotated[float | None, _field(number_option, "--alpha", "alpha", None)]
Scaling = Annotated[str | None, _field(word_option, "--scaling", "scaling", None, known=choices.SCALINGS)]
Init = Annotated[str | None, _field(word_option, "--init", "init", None, known=choices.INITS)]
Dropout = Annotated[float | None, _field(number_option, "--dropout", "dropout", None)]
Vary = Annotated[str | None, _field(word_option, "--vary", "vary", None, known=choices.VARIED)]
TargetLayers = Annotated[str | None, _field(word_option, "--target-layers", "target_layers", None)]
