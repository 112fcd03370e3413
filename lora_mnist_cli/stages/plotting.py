"""Pictures of artifacts: the table of kinds, and the stage that draws one.

A new kind is a row in :data:`KINDS`, a function ``draw_KIND`` in :mod:`lora_mnist_cli.stages.pictures` that gathers the
record, and a file of its name in :mod:`lora_mnist_cli.plots` that draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.registry.newest import any_artifact
from lora_mnist_cli.settings.grid import short, varying_axes
from lora_mnist_cli.stages import costs
from lora_mnist_cli.stages.pictures.options import PlotOptions
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.caller import stage
from lora_mnist_cli.system.errors import UsageError, refuse_unknown
from lora_mnist_cli.system.work import DRAWING

__all__ = ["KINDS", "PlotKind", "PlotOptions", "plot", "plot_kinds"]


@dataclass(frozen=True)
class PlotKind:
    """A kind of picture, in words.

    Args:
        about: a sentence for help and tables.
        artifacts: the kinds of artifacts that it draws.
        options: the fields of :class:`PlotOptions` that mean something to it.
    """

    about: str
    artifacts: tuple[str, ...]
    options: tuple[str, ...] = ()


KINDS = {
    "predictions": PlotKind(
        "A grid of test images with true and predicted label, mistakes marked.",
        ("adapter", "base"), ("digits", "alpha", "count"),
    ),
    "ranks": PlotKind(
        "Accuracy by rank, with the study's points; old digits too.", ("sweep",), ("where", "beside")
    ),
    "learning-rate": PlotKind(
        "Validation accuracy by learning rate, a line per rank, the best rates marked.", ("sweep",), ("where",)
    ),
    "landscape": PlotKind(
        "Accuracy over two settings, rank and rate by default, as a heat map: contours, the best cell, what diverged.",
        ("sweep",), ("where", "axes", "digits"),
    ),
    "alpha": PlotKind("Accuracy on old, new and all digits as alpha goes from 0 to 1.5.", ("adapter",)),
    "tradeoff": PlotKind(
        "Accuracy on new digits against old ones, a path from the base as alpha rises.",
        ("adapter", "sweep"), ("where",),
    ),
    "spectrum": PlotKind(
        "Singular values of what adapters add to the weights, by layer.", ("adapter", "sweep"),
        ("where", "beside", "threshold"),
    ),
    "forgetting": PlotKind(
        "What an adapter forgot of old digits, and what it merely outranks: probes, answers, calibration.",
        ("adapter",),
    ),
    "board": PlotKind(
        "All settings of a sweep: new accuracy and forgetting by trained parameters, and the front.", ("sweep",)
    ),
    "history": PlotKind("Training and validation loss and accuracy by epoch.", ("adapter", "base")),
    "confusion": PlotKind("Confusion matrix: true against predicted digits.", ("adapter", "base"), ("digits", "alpha")),
}  # fmt: skip


def _has_ranks(sweep: Artifact) -> bool:
    return len(sweep.config["ranks"]) > 1


_FITS: dict[str, Callable[[Artifact], bool]] = {
    "ranks": _has_ranks,
    "board": lambda sweep: _has_ranks(sweep) or any(axis.field != "lr" for axis in varying_axes(sweep.config)),
    "landscape": lambda sweep: _has_ranks(sweep) + len(varying_axes(sweep.config)) > 1
}  # fmt: skip
"""Kind → which artifact it draws rather than a newer one, where none is named."""


def plot_kinds() -> list[dict[str, Any]]:
    """List the kinds: name, sentence, the kinds of artifacts that each draws, and the options it takes."""
    return [
        {"kind": name, "about": kind.about, "artifacts": list(kind.artifacts), "options": list(kind.options)}
        for name, kind in KINDS.items()
    ]


@stage
def plot(
    kind: str, name: str | None = None, *, output: Path | str | None = None, options: PlotOptions | None = None,
    workspace: Workspace | None = None,
) -> tuple[Artifact, Path]:  # fmt: skip
    """Draw one picture of an artifact.

    Args:
        kind: one of :data:`KINDS`.
        name: by default the newest artifact that the kind can draw.
        output: PNG, SVG or PDF by its suffix; by default a PNG in the current folder, named for what it shows.

    Returns:
        The artifact, and the path of the picture.

    Raises:
        UsageError: for an unknown kind or suffix, or an option that means nothing to the kind.
        ArtifactError: where the artifact is missing, damaged or of a kind that this picture can't show.
        DataError: where test images are needed and not available.
        MachineError: where the picture can't be written.
    """
    workspace, options = workspace or Workspace(), options or PlotOptions()
    refuse_unknown("plot", kind, list(KINDS), "kinds:")
    chosen = KINDS[kind]
    for option in options.given():
        if option not in chosen.options:
            hint = f"it takes --{', --'.join(chosen.options)}" if chosen.options else "it takes none"
            raise UsageError(f"plot {kind} has no use for --{option}", hint=hint, value=option)
    if output is not None:
        output = Path(output)
        from lora_mnist_cli.plots.style import check_suffix

        check_suffix(output)
    kinds = chosen.artifacts
    fits = _FITS.get(kind, any_artifact)
    artifact = workspace.latest(*kinds, fits=fits) if name is None else workspace.registry.get(name, *kinds)
    from lora_mnist_cli.plots.style import save

    output = output or _default_path(kind, artifact, options)
    picture = gatherer(kind)(workspace, artifact, options)
    workspace.reporter.phase(DRAWING, costs.PICTURE)
    save(picture, output)
    return artifact, output


def gatherer(kind: str) -> Callable[[Workspace, Artifact, PlotOptions], Any]:
    """Return the function that gathers what a kind draws and gives the figure."""
    module = "of_sweeps" if "sweep" in KINDS[kind].artifacts else "of_models"
    function: Callable[[Workspace, Artifact, PlotOptions], Any] = getattr(
        import_module(f"lora_mnist_cli.stages.pictures.{module}"), f"draw_{kind.replace('-', '_')}"
    )
    return function


def _default_path(kind: str, artifact: Artifact, options: PlotOptions) -> Path:
    digits = f"-on-{options.digits}" if options.digits else ""
    alpha = f"-alpha-{options.alpha:g}" if options.alpha is not None else ""
    where = "".join(f"-{name}-{short(value)}" for name, value in options.where.items())
    beside = "".join(f"-and-{name}" for name in options.beside)
    axes = "".join(f"-by-{axis.field}" for axis in options.axes)
    return Path(f"{kind}-{artifact.name}{digits}{alpha}{axes}{where}{beside}.png")
