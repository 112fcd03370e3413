"""The options that several commands share: single ones as types, and those that go together as groups."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from lora_mnist_cli.cli import basics, console
from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.tables import score_table
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.cli.training_progress import StderrReporter
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings import choices, recipes
from lora_mnist_cli.settings.runtime import Runtime
from lora_mnist_cli.stages.workspace import DATA_VARIABLE, DEFAULT_DATA, DEFAULT_RUNS, RUNS_VARIABLE, Workspace
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.output_file import is_stdout
from lora_mnist_cli.system.progress import Reporter

_FOLDERS = "Where things are"
OUTPUT = "Output"
_ADAPTER = "The adapter"
_TRAINING = "Training, in detail"
MACHINE = "What it runs on"
_PROTECTION = "Keeping what the base knows"

ArtifactName = Annotated[str, o.artifact_argument("Name of an artifact.")]
NewestByDefault = Annotated[str | None, o.artifact_argument("Name of an artifact; the newest that fits by default.")]
OneName = Annotated[
    list[str] | None, o.artifact_argument("Name of an artifact; the newest that fits by default.", "[NAME]")
]
Experts = Annotated[
    list[str] | None,
    o.artifact_option("With --route, a base or an adapter that answers; may be given more than once.", flag="--expert"),
]
Route = Annotated[
    bool,
    o.switch(
        "--route", "Let a base and its adapters answer together: the digits' densities tell which of them to trust."
    ),
]
RouteBy = Annotated[
    str | None,
    o.word(
        "With --route: experts and the densities of their digits multiplied (fused, the default), experts weighted by "
        "their probability (mixture), the likeliest alone (choose), or the densities alone (densities).",
        known=choices.ROUTES,
    ),
]
Base = Annotated[str | None, o.artifact_option("Base to adapt; the newest by default.")]
DatasetOfBase = Annotated[str | None, o.dataset("Data set of the base; a base of another one is refused.")]
AnyDataset = Annotated[str, o.dataset("Data set.")]
Alpha = Annotated[float | None, o.number("Replaces the alpha that the adapter was trained with.")]
Confidence = Annotated[float, o.number("Of the intervals and verdicts, as a fraction: 0.95 is one error in twenty.")]
REPLACE_LINKS = "put the folder or file itself in place of the link"
JUnit = Annotated[Path | None, o.file("Write the verdicts as JUnit XML too, for CI.")]
Recipe = Annotated[
    str,
    o.word(
        "Named settings. reference: the original study's, given with each option; tuned: the best that were found.",
        None,
        recipes.RECIPES,
        flag="--recipe",
    ),
]
Logger = Annotated[
    str,
    o.word("History: csv always; tensorboard, mlflow or wandb beside it.", MACHINE, choices.LOGGERS),
]
Name = Annotated[str | None, o.word("Name of the artifact; by default it says what is inside.")]
Note = Annotated[str, o.word("A note of your own, kept with the artifact.", _FOLDERS)]
Seed = Annotated[int | None, o.setting("seed", None)]
Epochs = Annotated[int | None, o.setting("epochs", None)]
Method = Annotated[str | None, o.setting("method", _ADAPTER, choices.METHODS)]
Rank = Annotated[
    str | None,
    o.rank("Rank of the adapter, or of each of some layers: fc1=8,fc2=4; by default 8. Methods without one have none."),
]
AdapterDigits = Annotated[str | None, o.setting("digits", None)]
Vary = Annotated[str | None, o.setting("vary", _ADAPTER, choices.VARIED)]


@dataclass(frozen=True)
class BaseTraining:
    """How a base is trained; None is the recipe's value."""

    seed: Seed = None
    epochs: Epochs = None
    batch_size: Annotated[int | None, o.setting("batch_size", _TRAINING)] = None
    lr: Annotated[float | None, o.setting("lr", _TRAINING)] = None
    schedule: Annotated[str | None, o.setting("schedule", _TRAINING, choices.SCHEDULES)] = None
    optimizer: Annotated[str | None, o.setting("optimizer", _TRAINING, choices.OPTIMIZERS)] = None
    weight_decay: Annotated[float | None, o.setting("weight_decay", _TRAINING)] = None
    val_split: Annotated[float | None, o.setting("val_split", _TRAINING)] = None
    precision: Annotated[str | None, o.setting("precision", _TRAINING, choices.PRECISIONS)] = None


@dataclass(frozen=True)
class AdapterTraining(BaseTraining):
    """How an adapter is trained; None is the recipe's value."""

    lr_power: Annotated[float | None, o.setting("lr_power", _TRAINING)] = None
    lr_ratio_b: Annotated[float | None, o.setting("lr_ratio_b", _TRAINING)] = None


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter changes and what protects the base's digits; None is the recipe's value."""

    alpha: Annotated[float | None, o.setting("alpha", _ADAPTER)] = None
    scaling: Annotated[str | None, o.setting("scaling", _ADAPTER, choices.SCALINGS)] = None
    init: Annotated[str | None, o.setting("init", _ADAPTER, choices.INITS)] = None
    rank_pattern: Annotated[str | None, o.setting("rank_pattern", _ADAPTER)] = None
    train: Annotated[str | None, o.setting("train", _ADAPTER, choices.TRAINED)] = None
    dropout: Annotated[float | None, o.setting("dropout", _ADAPTER)] = None
    target_layers: Annotated[str | None, o.setting("target_layers", _ADAPTER)] = None
    protect: Annotated[str | None, o.setting("protect", _PROTECTION, choices.PROTECTIONS)] = None
    replay_old: Annotated[float | None, o.setting("replay_old", _PROTECTION)] = None
    replay_new: Annotated[float | None, o.setting("replay_new", _PROTECTION)] = None
    distill_weight: Annotated[float | None, o.setting("distill_weight", _PROTECTION)] = None
    nullspace_energy: Annotated[float | None, o.setting("nullspace_energy", _PROTECTION)] = None


@dataclass(frozen=True)
class Machine:
    """What training runs on. Fields have the names of :class:`~lora_mnist_cli.settings.runtime.Runtime`'s."""

    accelerator: Annotated[
        str, o.word("Train on the CPU or a GPU; auto takes a GPU where there is one.", MACHINE, choices.ACCELERATORS)
    ] = "auto"
    engine: Annotated[
        str,
        o.word(
            "What drives the epochs: plain (auto takes it), lightning (the same bytes), fused (on a GPU, LoRA alone).",
            MACHINE, ("auto", *choices.ENGINES),
        ),
    ] = "auto"  # fmt: skip
    threads: Annotated[
        int, o.integer("CPU threads of training; with more than one, weights differ in their last places.", MACHINE)
    ] = 1

    def runtime(self, **more: Any) -> Runtime:
        """Give the runtime, with what a command knows beside it."""
        return Runtime(**vars(self), **more)


@dataclass(frozen=True)
class BankMachine(Machine):
    """What the banks of a sweep are trained on."""

    backend: Annotated[
        str,
        o.word("Where banks are trained: local, in processes, or on ray; the bytes are the same.", MACHINE,
            choices.BACKENDS,
        ),
    ] = "local"  # fmt: skip
    workers: Annotated[int | None, o.integer("Processes of --backend processes (one core per thread).", MACHINE)] = None
    address: Annotated[
        str | None, o.word("Ray cluster of --backend ray; by default the one that Ray finds.", MACHINE)
    ] = None
    logger: Logger = "csv"


Keep = Annotated[
    str,
    o.word("Whose weights are published: all, the best N on validation images (best:10), none, or those of the adapter "
        "of this name. Every adapter has a row in any case.", _FOLDERS,
    ),
]  # fmt: skip


OwnNames = Annotated[
    bool, o.switch("--own-names", "Name a sweep's adapters for it, as NAME-r8, even where their usual names are free.",
        _FOLDERS,
    ),
]  # fmt: skip


@dataclass(frozen=True)
class Publication:
    """How an artifact is published, beside its name."""

    note: Note = ""
    force: Annotated[
        bool, o.switch("--force", "Do the work again, and replace the artifact of that name.", _FOLDERS)
    ] = False


@dataclass(frozen=True)
class RunsFolder:
    """Where artifacts are. Fields have the names of :class:`~lora_mnist_cli.stages.workspace.Workspace`'s."""

    runs_dir: Annotated[Path, o.folder_option(RUNS_VARIABLE, "Folder of the artifacts.", _FOLDERS)] = DEFAULT_RUNS

    def workspace(self, output: Output, *, runtime: Runtime | None = None, note: str = "") -> Workspace:
        """Give the workspace of a command, whose reporter writes to stderr."""
        folders = {name: path for name, path in vars(self).items() if name != "settings"}
        return Workspace(**folders, runtime=runtime or Runtime(), reporter=output.reporter(), note=note)

    def registry(self, output: Output) -> Registry:
        """Give the artifacts."""
        return self.workspace(output).registry


@dataclass(frozen=True)
class Folders(RunsFolder):
    """Where artifacts and data sets are."""

    data_dir: Annotated[
        Path, o.folder_option(DATA_VARIABLE, "Folder of the data sets; MNIST needs none.", _FOLDERS)
    ] = DEFAULT_DATA
    settings: Annotated[
        Path | None, o.settings_file("TOML file with values of options, as rank = 8. Options override it.", _FOLDERS)
    ] = None


@dataclass(frozen=True)
class Output:
    """What a command prints, and how."""

    json_output: Annotated[bool, o.switch("--json", "Print one JSON document.", OUTPUT)] = False
    quiet: Annotated[bool, o.switch("--quiet", "No progress and no notices on stderr.", OUTPUT)] = False
    verbose: Annotated[bool, o.switch("--verbose", "More on stderr; tracebacks of errors.", OUTPUT)] = False
    version: basics.Version = False

    def reporter(self) -> StderrReporter:
        """Give the reporter of a command, which writes to stderr."""
        return StderrReporter(quiet=self.quiet, verbose=self.verbose)

    def print(self, command: str, document: dict[str, Any], tables: Tables, *, beside: Path | None = None) -> None:
        """Print a command's result to stdout: the document as JSON, or its tables, which a function may make of it.

        Args:
            beside: the file that the command wrote. Where it is standard output, the result goes to stderr.
        """
        taken = beside is not None and is_stdout(beside)
        with contextlib.redirect_stdout(sys.stderr) if taken else contextlib.nullcontext():
            if self.json_output:
                console.print_json(command, document)
            else:
                console.print_tables(tables(document) if callable(tables) else tables)

    def print_scores(self, command: str, artifact: Artifact, title: str, below: Tables = (), **facts: Any) -> None:
        """Print what was published, its scores on the test images, and what stands ``below`` their table.

        The JSON document has the ``facts`` beside the artifact's name and its scores.
        """

        def tables(document: dict[str, Any]) -> list[Table | str]:
            scores = score_table(title, artifact.scores, artifact.classes)
            return [scores, *(below(document) if callable(below) else below)]

        self.print(command, {"artifact": artifact.name, **facts, **with_intervals(artifact.scores)}, tables)


Tables = Sequence[Table | str] | Callable[[dict[str, Any]], Sequence[Table | str]]


def chosen_experts(names: list[str] | None, experts: list[str] | None, reporter: Reporter) -> list[str]:
    """Return the artifacts that a command names: by ``--expert``, or as arguments, the former way to name several.

    Raises:
        UsageError: where both are given.
    """
    if names and experts:
        hint = " ".join(f"--expert {name}" for name in (*names, *experts))
        raise UsageError("experts are named by --expert alone", hint=hint, value=names)
    if names and len(names) > 1:
        now = " ".join(f"--expert {name}" for name in names)
        reporter.notice(f"several experts as arguments are deprecated; write {now}")
    return experts or names or []


def refuse_without_route(
    route: bool, route_by: str | None, names: Sequence[str], alpha: object = None, experts: Sequence[str] | None = None
) -> None:
    """Refuse options that need ``--route`` without it, and ``--alpha`` with it.

    Raises:
        UsageError: for the first of them.
    """
    if experts and not route:
        raise UsageError("--expert needs --route", hint=f"name '{experts[0]}' alone, or add --route", value=experts)
    if route and alpha is not None:
        raise UsageError("--alpha is not for --route: experts answer as they were trained", value=alpha)
    if not route and route_by is not None:
        raise UsageError("--route-by needs --route", hint=f"--route --route-by {route_by}", value=route_by)
    if not route and len(names) > 1:
        raise UsageError(
            f"one artifact at a time, not '{names[1]}' beside '{names[0]}'",
            hint=f"--route --expert {names[0]} --expert {names[1]} lets them answer together",
            value=names,
        )  # fmt: skip
