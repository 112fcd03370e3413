"""From artifacts to pictures: gathers the record that a plot draws. A new kind is a function here and its entry."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_mnist_cli.models.architecture import TRAIN_SAMPLE
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.adapter_config import AdapterConfig
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.settings.digits import ALL_DIGITS, DigitSet
from lora_mnist_cli.settings.grid import METHOD, Value, in_words, short, varying_axes
from lora_mnist_cli.stages.evaluating import evaluate
from lora_mnist_cli.stages.records.ceilings import ceilings, method_of, titles
from lora_mnist_cli.stages.records.histories import members, read_history, validation_runs
from lora_mnist_cli.stages.records.results import study_accuracies
from lora_mnist_cli.stages.workspace import Workspace
from lora_mnist_cli.system.errors import ArtifactError, UsageError, make_again, refuse_unknown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Labels = npt.NDArray[np.int64]

ALPHAS = tuple(i / 8 for i in range(13))
"""The multipliers that the alpha plot scores: 0 to 1.5."""


PATH = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.25)
"""Shares of the trained alpha that the trade-off's paths go through."""


@dataclass(frozen=True)
class PlotOptions:
    """What a user may choose of a plot; a kind that has no use for an option refuses it.

    Args:
        digits: the test images shown or counted; by default the digits that the artifact learned.
        alpha: put in the trained alpha's place.
        count: how many images a grid shows.
        where: field → value, one of those that a sweep varies beside rank and seed: what is drawn of it.
        beside: names of further artifacts that are drawn in the same picture.
    """

    digits: DigitSet | None = None
    alpha: float | None = None
    count: int | None = None
    where: Mapping[str, Value] = field(default_factory=dict)
    beside: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.alpha is not None and not math.isfinite(self.alpha):
            raise UsageError(f"alpha is a finite number, not {self.alpha}", value=self.alpha)
        if self.count is not None and not 1 <= self.count <= 500:
            raise UsageError(f"a grid shows 1 to 500 images, not {self.count}", value=self.count)

    def given(self) -> list[str]:
        """Names of the options that were set."""
        return [name for name, value in vars(self).items() if value not in (None, {}, ())]


@dataclass(frozen=True)
class PlotKind:
    """A kind of plot: what it shows, of which artifacts, which options it takes, and how it is made."""

    about: str
    artifacts: tuple[str, ...]
    options: tuple[str, ...]
    make: Callable[[Workspace, Artifact, PlotOptions], Figure]


def plot(
    kind: str, name: str | None = None, *, output: Path | None = None, options: PlotOptions | None = None,
    workspace: Workspace | None = None,
) -> tuple[Artifact, Path]:  # fmt: skip
    """Draw one picture of an artifact.

    Args:
        kind: one of :data:`KINDS`.
        name: the newest artifact that the kind can draw by default.
        output: PNG, SVG or PDF by its suffix; by default a PNG in the present folder, named for what it shows.

    Returns:
        The artifact, and where the picture is.

    Raises:
        UsageError: for an unknown kind or suffix, or an option that the kind has no use for.
        ArtifactError: where the artifact is missing, damaged or of a kind that can't be drawn so.
        DataError: where test images are needed and can't be had.
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
        from lora_mnist_cli.plots.style import check_suffix

        check_suffix(output)
    if name is not None:
        artifact = workspace.registry.get(name, *chosen.artifacts)
    else:
        artifact = workspace.latest(*chosen.artifacts)
    figure = chosen.make(workspace, artifact, options)
    from lora_mnist_cli.plots.style import save

    if output is None:
        digits = f"-on-{options.digits}" if options.digits else ""
        alpha = f"-alpha-{options.alpha:g}" if options.alpha is not None else ""
        where = "".join(f"-{name}-{short(value)}" for name, value in options.where.items())
        beside = "".join(f"-and-{name}" for name in options.beside)
        output = Path(f"{kind}-{artifact.name}{digits}{alpha}{where}{beside}.png")
    save(figure, output)
    return artifact, output


def _predictions(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    import numpy as np

    from lora_mnist_cli.data.sources import class_names, load_split
    from lora_mnist_cli.plots import predictions

    digits = options.digits or DigitSet.parse(artifact.config["digits"])
    predicted, labels = _predict(workspace, artifact, options.alpha)
    shown = np.flatnonzero(np.isin(labels, digits.members))[: options.count or 50]
    pixels, _ = load_split(artifact.dataset, "test", workspace.data_dir)
    return predictions.draw(
        pixels[shown], labels[shown], predicted[shown],
        title=f"{_model_title(artifact, options.alpha)}: predictions on digits {digits}",
        subtitle=f"the first {len(shown)} test images of {digits} in the file's order",
        names=class_names(artifact.dataset),
    )  # fmt: skip


def _confusion(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    import numpy as np

    from lora_mnist_cli.data.sources import class_names
    from lora_mnist_cli.plots import confusion

    digits = options.digits or ALL_DIGITS
    predicted, labels = _predict(workspace, artifact, options.alpha)
    counts = np.zeros((10, 10), dtype=np.int64)
    np.add.at(counts, (labels, predicted), np.isin(labels, digits.members))
    title = f"{_model_title(artifact, options.alpha)}: test images of digits {digits}"
    return confusion.draw(counts, title=title, names=class_names(artifact.dataset))


def _ranks(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import ranks

    learned, known = artifact.config["digits"], artifact.details.get("base_digits")
    if known is None:
        raise ArtifactError(f"'{artifact.name}' does not tell the base's digits", hint=make_again(artifact.name))
    results = [row for row in _chosen(artifact, options.where) if row["rank"]]
    if not results:
        raise UsageError(
            f"'{artifact.name}' has no ranks to draw", hint="full fine-tuning and head have none", value=artifact.name
        )
    return ranks.draw(
        results, base_digits=known, new_digits=learned, study=study_accuracies(workspace, artifact, options.where),
        ceilings=_ceilings(workspace, artifact, options),
        title=f"Adapters on digits {learned}, base on {known}{_which(options.where)}: test accuracy by rank",
    )  # fmt: skip


def _ceilings(workspace: Workspace, sweep: Artifact, options: PlotOptions) -> dict[str, list[dict[str, Any]]]:
    """Title → results of methods without a rank: those of the sweep itself, and of adapters or sweeps beside it.

    Raises:
        As :func:`lora_mnist_cli.stages.records.ceilings.ceilings`.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    # What has no rank is the same at any other value but that of the rate, which it has as well.
    others = {name: value for name, value in options.where.items() if name != "method"}
    for row in sweep.details["results"]:
        if not row["rank"] and "method" in row and all(row[name] == value for name, value in others.items()):
            found.setdefault(METHODS[row["method"]].title, []).append(row)
    return found | titles(workspace, ceilings(workspace, sweep, options.beside), list(found))


def _chosen(sweep: Artifact, where: Mapping[str, Value], drawn: str = "") -> list[dict[str, Any]]:
    """A sweep's results at one value of each axis that it varies beside rank and seed.

    Args:
        drawn: an axis that the picture shows all values of.

    Raises:
        UsageError: where one is left open, is none of the sweep's, or is not varied.
    """
    varying = {axis.field: axis for axis in varying_axes(sweep.config) if axis.field != drawn}
    for name, value in where.items():
        if name == drawn:
            raise UsageError(f"this picture shows every {in_words(name)}", hint="leave that --where out", value=name)
        if name not in varying:
            hint = (
                f"it varies {', '.join(map(in_words, varying))}" if varying else "--where is for sweeps that vary more"
            )
            raise UsageError(f"'{sweep.name}' does not vary {in_words(name)}", hint=hint, value=name)
        if value not in (values := sweep.config[varying[name].plural]):
            hint = f"it has {', '.join(map(short, values))}"
            raise UsageError(f"'{sweep.name}' has no {in_words(name)} {short(value)}", hint=hint, value=value)
    left = [axis for name, axis in varying.items() if name not in where]
    if left:
        lists = "; ".join(f"{in_words(a.plural)} {', '.join(map(short, sweep.config[a.plural]))}" for a in left)
        first = [f"--where {a.option[2:]}={short(sweep.config[a.plural][0])}" for a in left]
        raise UsageError(
            f"'{sweep.name}' has several adapters a rank and seed: {lists}",
            hint=f"draw one combination: {' '.join(first)}",
            value=sweep.name,
        )
    return [row for row in sweep.details["results"] if all(row[name] == value for name, value in where.items())]


def _which(where: Mapping[str, Value]) -> str:
    """What was chosen of a sweep, for a title."""
    return "".join(f", {in_words(name)} {short(value)}" for name, value in where.items())


def _learning_rate(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import learning_rate

    if "lrs" not in artifact.config:
        ranks = ",".join(map(str, artifact.config["ranks"]))
        raise ArtifactError(
            f"'{artifact.name}' has one learning rate alone",
            hint=f"lora-mnist sweep --ranks {ranks} --lrs 1e-3,4e-3,1.6e-2 --name rates",
            value=artifact.name,
        )
    results = _chosen(artifact, options.where, drawn="lr")
    rows = validation_runs(workspace.registry, artifact, results)
    learned, method = artifact.config["digits"], str(options.where.get(METHOD.field, method_of(artifact)))
    return learning_rate.draw(
        rows, digits=learned, power=artifact.config.get("lr_power", 0.0), unranked=_label(method, 0),
        title=f"Adapters on digits {learned}{_which(options.where)}: validation accuracy by learning rate",
    )  # fmt: skip


def _adapters(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> tuple[list[tuple[str, Artifact]], str]:
    """The adapter itself; or all of a sweep, by rank, and by method unless one is chosen. Each with its label, which
    the runs of one setting share; and a note on the seeds.

    Raises:
        UsageError: where a combination has to be chosen, or there is nothing to choose from.
        ArtifactError: where one is gone, or all diverged.
    """
    if artifact.kind == "adapter":
        if options.where:
            raise UsageError("--where is for sweeps", hint="leave it out", value=artifact.name)
        return [(_label(method_of(artifact), artifact.config["rank"]), artifact)], ""
    drawn = "" if METHOD.field in options.where else METHOD.field
    side_by_side = bool(drawn) and METHOD in varying_axes(artifact.config)
    methods = [*artifact.config.get(METHOD.plural, ()), ""]
    results = sorted(
        _chosen(artifact, options.where, drawn),
        key=lambda row: (methods.index(row.get(METHOD.field, "")), row["rank"]),
    )
    sound = [row for row in results if row["failed"] is None]
    if not sound:
        raise ArtifactError(
            f"all adapters of '{artifact.name}'{_which(options.where)} diverged", hint="make it with a lower --lr",
            value=artifact.name,
        )  # fmt: skip

    def label(row: Mapping[str, Any]) -> str:
        method = str(row.get(METHOD.field, method_of(artifact)))
        return f"{method}, rank {row['rank']}" if side_by_side and row["rank"] else _label(method, row["rank"])

    seeds = artifact.config["seeds"]
    note = f"seed {seeds[0]}" if len(seeds) == 1 else f"n = {len(seeds)} seeds"
    lost = [f"{label(row)}, seed {row['seed']}" for row in results if row["failed"] is not None]
    note += f"; diverged: {'; '.join(lost)}" if lost else ""
    there = members(workspace.registry, artifact, sound)
    return [(label(row), one) for row, one in zip(sound, there, strict=True)], note


def _label(method: str, rank: int) -> str:
    """What an adapter is called among others of one method: its rank, or the method that has none."""
    return f"rank {rank}" if rank else METHODS[method].title


def _spectrum(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.models.lora import LoRALinear, adapted_layers
    from lora_mnist_cli.plots import spectrum
    from lora_mnist_cli.stages.records.loading import load_model

    changes = []
    adapters, note = _adapters(workspace, artifact, options)
    if options.beside:
        adapters = [(label if artifact.kind == "sweep" else one.name, one) for label, one in adapters]
        adapters += [(name, workspace.registry.get(name, "adapter")) for name in options.beside]
    for label, adapter in adapters:
        layers = adapted_layers(load_model(workspace.registry, adapter).model)
        factors: dict[str, tuple[npt.NDArray[np.floating[Any]], ...]] = {}
        for name, layer in layers.items():
            if isinstance(layer, LoRALinear):
                B, A = (each.detach().double().numpy() for each in (layer.lora_B, layer.lora_A))
                factors[name] = layer.alpha * layer.scale * B, A
            else:  # a method that is no plain product; it is known to its own precision
                factors[name] = (layer.change()[0].detach().numpy(),)
        changes.append(spectrum.Change(label, factors))
    of = f" ({note})" if note else ""
    names = ", ".join((artifact.name, *options.beside))
    return spectrum.draw(
        changes, title=f"{names}{_which(options.where)}: singular values of the update ΔW by layer{of}"
    )


def _tradeoff(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import tradeoff

    old = DigitSet.parse(artifact.details["base_digits"])
    only_new = [digit for digit in DigitSet.parse(artifact.config["digits"]) if digit not in old]
    if not only_new:
        raise ArtifactError(
            f"'{artifact.name}' learned no digit that its base, on {old}, did not know",
            hint="name an adapter that did; plot alpha draws this one",
            value=artifact.name,
        )
    new = DigitSet(only_new)
    adapters, note = _adapters(workspace, artifact, options)
    if len(adapters) > 1:
        workspace.reporter.notice(f"scoring {len(adapters)} adapters at {len(PATH)} alphas each")
    paths = []
    for label, adapter in adapters:
        trained = float(adapter.config["alpha"])
        # An untouched start may have an alpha of 0, and no share of that is another.
        alphas = sorted({share * (trained or 1.0) for share in PATH} | {trained}, key=abs)
        scored = evaluate(
            adapter.name, alphas=[a for a in alphas if math.isfinite(a)], digit_sets=[old, new], workspace=workspace
        )
        points = []
        for each in scored:
            was, now = each.scores["subsets"]
            points.append({"alpha": each.alpha, "old": was["accuracy"], "new": now["accuracy"]})
        paths.append({"label": label, "trained_alpha": trained, "points": points})
    shares = ", ".join(f"{share:g}" for share in PATH)
    return tradeoff.draw(
        paths, old_digits=str(old), new_digits=str(new),
        title=f"{artifact.name}{_which(options.where)}: new digits against old as alpha rises",
        subtitle=f"{note + '; ' if note else ''}points: {shares} of the trained alpha",
    )  # fmt: skip


def _alpha(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import alpha

    trained = AdapterConfig.from_json(artifact.config).alpha
    alphas = sorted({*ALPHAS, trained})
    rows = [{"alpha": e.alpha, **e.scores} for e in evaluate(artifact.name, alphas=alphas, workspace=workspace)]
    return alpha.draw(
        rows, base_digits=artifact.details["base_digits"], new_digits=artifact.config["digits"], trained_alpha=trained,
        title=f"{_model_title(artifact, None)}: test accuracy by alpha",
    )  # fmt: skip


def _forgetting(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import forgetting as picture
    from lora_mnist_cli.stages.measuring_forgetting import forgetting

    document = forgetting(artifact.name, workspace=workspace)
    title = f"{artifact.name} on {document['base']}: what was lost, and what is only outshouted"
    return picture.draw(document["halves"], document["probes"], title=title)


def _history(workspace: Workspace, artifact: Artifact, options: PlotOptions) -> Figure:
    from lora_mnist_cli.plots import history

    title = f"{artifact.name}: training on digits {artifact.config['digits']}"
    return history.draw(read_history(artifact), title=title, sample=TRAIN_SAMPLE)


def _predict(workspace: Workspace, artifact: Artifact, alpha: float | None) -> tuple[Labels, Labels]:
    """Predicted and true labels (each n, int64) of all test images."""
    from lora_mnist_cli.evaluation.logits import predict
    from lora_mnist_cli.models.lora import set_alpha
    from lora_mnist_cli.stages.records.loading import load_model

    if alpha is not None and artifact.kind == "base":
        raise UsageError(f"'{artifact.name}' is a base and has no alpha", hint="name an adapter", value=alpha)
    loaded = load_model(workspace.registry, artifact)
    if alpha is not None:
        set_alpha(loaded.model, alpha)
    test = workspace.test_images(artifact, loaded.pixel_stats)
    return predict(loaded.model, test.images).argmax(1).numpy(), test.labels.numpy()


def _model_title(artifact: Artifact, alpha: float | None) -> str:
    if artifact.kind == "base":
        return f"Base {artifact.config['digits']}"
    at = "" if alpha is None else f" at alpha {alpha:g}"
    config = AdapterConfig.from_json(artifact.config)
    title = METHODS[config.method].title if config.combined is None else f"Combined ({config.combined})"
    return f"{title} {config.digits}{f', rank {config.rank}' if config.rank else ''}{at}"


KINDS = {
    "predictions": PlotKind(
        "A grid of test images with true and predicted label, mistakes marked.",
        ("adapter", "base"), ("digits", "alpha", "count"), _predictions,
    ),
    "ranks": PlotKind(
        "Accuracy by rank, with the study's points; old digits too.", ("sweep",), ("where", "beside"), _ranks
    ),
    "learning-rate": PlotKind(
        "Validation accuracy by learning rate, a line a rank, the best rates marked.",
        ("sweep",), ("where",), _learning_rate,
    ),
    "alpha": PlotKind("Accuracy on old, new and all digits as alpha goes from 0 to 1.5.", ("adapter",), (), _alpha),
    "tradeoff": PlotKind(
        "New digits' accuracy against old ones', a path from the base as alpha rises.",
        ("adapter", "sweep"), ("where",), _tradeoff,
    ),
    "spectrum": PlotKind(
        "Singular values of what adapters add to the weights, by layer.",
        ("adapter", "sweep"), ("where", "beside"), _spectrum,
    ),
    "forgetting": PlotKind(
        "What an adapter lost of old digits, and what it only outshouts: probes, answers, calibration.",
        ("adapter",), (), _forgetting,
    ),
    "history": PlotKind("Training and validation loss and accuracy by epoch.", ("adapter", "base"), (), _history),
    "confusion": PlotKind(
        "Which digit is taken for which.", ("adapter", "base"), ("digits", "alpha"), _confusion
    ),
}  # fmt: skip


def plot_kinds() -> list[dict[str, Any]]:
    """What can be drawn: each kind's name, what it shows, of which kinds of artifacts, and the options it takes."""
    return [
        {"kind": name, "about": kind.about, "artifacts": list(kind.artifacts), "options": list(kind.options)}
        for name, kind in KINDS.items()
    ]
