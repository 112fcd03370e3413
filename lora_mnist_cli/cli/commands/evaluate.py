"""``lora-mnist evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.console import classes
from lora_mnist_cli.cli.tables import alpha_table, percent, score_table
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import parse_floats
from lora_mnist_cli.stages import Evaluation, check_gates, evaluate, evaluate_routed, parse_gates
from lora_mnist_cli.stages.evaluating import at_alpha
from lora_mnist_cli.system.errors import GateError

if TYPE_CHECKING:
    from lora_mnist_cli.stages.evaluating_routed import RoutedEvaluation

Result = tuple[dict[str, Any], list[Table | str]]


@o.grouped
def command(
    *,
    names: shared.OneName = None,
    route: shared.Route = False,
    experts: shared.Experts = None,
    route_by: shared.RouteBy = None,
    alpha: Annotated[
        str | None, o.words("Replaces the trained alpha: 0 is the base alone; 0,0.5,1 compares several values.")
    ] = None,
    digits: Annotated[list[str] | None, o.digits("Score these digits instead; may be given more than once.")] = None,
    min_accuracy: Annotated[str | None, o.words("A gate, as 0-4=0.98,5-9=95%: exit code 1 if it is not met.")] = None,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Score an adapter or a base on the test images; the newest adapter by default.

    With --route, a base and its adapters answer together, and no label of the task is needed.
    """
    alphas = None if alpha is None else parse_floats(alpha, "--alpha")
    digit_sets = [DigitSet.parse(text) for text in digits or ()]
    gates = parse_gates(min_accuracy) if min_accuracy is not None else []
    shared.refuse_without_route(route, route_by, names or [], alphas, experts)
    workspace = folders.workspace(output)
    chosen = shared.chosen_experts(names, experts, workspace.reporter)
    evaluations: Sequence[Evaluation]
    if route:
        routed = evaluate_routed(chosen, by=route_by, digit_sets=digit_sets, workspace=workspace)
        evaluations, (document, tables) = [routed], _routed(routed)
    else:
        name = chosen[0] if chosen else None
        evaluations = evaluate(name, alphas=alphas, digit_sets=digit_sets, workspace=workspace)
        for odd in (evaluation for evaluation in evaluations if evaluation.reason):
            workspace.reporter.warn(f"'{odd.artifact.name}'{at_alpha(odd.alpha)}: {odd.reason}")
        document, tables = _single(evaluations)
    checked = [row for evaluation in evaluations for row in check_gates(gates, evaluation)]
    if gates:
        document["gates"] = checked
        tables.append(_gate_table(checked))
    output.print("evaluate", document, tables)
    if missed := [row for row in checked if not row["passed"]]:
        raise GateError("; ".join(map(_shortfall, missed)), value=missed)


def _single(evaluations: Sequence[Evaluation]) -> Result:
    """Make the document and the table of one model, at one alpha or at several."""
    artifact = evaluations[0].artifact
    rows = [
        {"alpha": evaluation.alpha, **with_intervals(evaluation.scores)}
        | ({"reason": evaluation.reason} if evaluation.reason else {})
        for evaluation in evaluations
    ]
    document = {"artifact": artifact.name, **classes(artifact)}
    images = f"on the test images of {artifact.dataset}"
    if len(rows) > 1:
        scores = [(evaluation.alpha, evaluation.scores) for evaluation in evaluations]
        return document | {"results": rows}, [alpha_table(f"{artifact.name} {images}", scores)]
    title = f"{artifact.name}{at_alpha(evaluations[0].alpha)} {images}"
    return document | rows[0], [score_table(title, evaluations[0].scores, artifact.classes)]


def _routed(routed: RoutedEvaluation) -> Result:
    """Make the document and the tables of experts behind a router."""
    document = {
        "artifact": None, "alpha": None, "base": routed.base.name, "route_by": routed.by, "experts": routed.experts,
        **classes(routed.base), **with_intervals(routed.scores),
    }  # fmt: skip
    heads = ("expert", "digits", "answered", "share %", "own digits found %")
    made = Table(heads, title="experts", text_columns=("expert", "digits"))
    for row in routed.experts:
        figures = (f"{row['answered']:,}", percent(row["share"]), percent(row["right_expert"]))
        made.add_row(row["artifact"], row["digits"], *figures)
    experts = ", ".join(row["artifact"] for row in routed.experts)
    title = f"{experts}, routed by {routed.by}, on the test images of {routed.base.dataset}"
    return document, [score_table(title, routed.scores, routed.base.classes), made]


def _gate_table(checked: Sequence[dict[str, Any]]) -> Table:
    heads = ("digits", "alpha", "images", "accuracy %", "required %", "verdict")
    made = Table(heads, title="gates", text_columns=("digits", "verdict"))
    for row in checked:
        alpha = "–" if row["alpha"] is None else f"{row['alpha']:g}"
        verdict = "met" if row["passed"] else "NOT MET"
        figures = (f"{row['count']:,}", percent(row["accuracy"]), percent(row["minimum"]))
        made.add_row(row["digits"], alpha, *figures, verdict)
    return made


def _shortfall(row: dict[str, Any]) -> str:
    """Say by how much a gate was missed."""
    which, minimum = f"digits {row['digits']}{at_alpha(row['alpha'])}", f"{percent(row['minimum'])} %"
    images = f"{row['count']:,} images"
    if row["accuracy"] is None or row["loss"] is None:
        return f"{which}: no finite figure from {images}, so {minimum} is not met"
    return f"{which}: accuracy {percent(row['accuracy'])} % is below {minimum} ({images})"
