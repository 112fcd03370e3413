"""``lora-mnist evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import classes, print_result, workspace
from lora_mnist_cli.evaluation.scores import with_intervals
from lora_mnist_cli.settings.digits import DigitSet
from lora_mnist_cli.settings.lists import parse_floats
from lora_mnist_cli.stages import Evaluation, check_gates, evaluate, evaluate_routed, parse_gates
from lora_mnist_cli.system.errors import GateError, UsageError

if TYPE_CHECKING:
    from lora_mnist_cli.stages.evaluating import Gate
    from lora_mnist_cli.stages.evaluating_routed import RoutedEvaluation


def command(
    names: o.Experts = None,
    route: o.Route = False,
    route_by: o.RouteBy = None,
    alpha: Annotated[
        str | None,
        typer.Option(
            "--alpha", help="Put in the trained alpha's place: 0 is the base alone; 0,0.5,1 compares several."
        ),
    ] = None,
    digits: Annotated[
        list[str] | None, typer.Option("--digits", help="Score these digits instead; may be given more than once.")
    ] = None,
    min_accuracy: Annotated[
        str | None,
        typer.Option("--min-accuracy", help="A gate, as 0-4=0.98,5-9=0.95: exit code 1 where it is not met."),
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Score an adapter or a base on the test images; the newest adapter by default.

    With --route, a base and adapters on it answer together, and no label of the task is needed.
    """
    alphas = None if alpha is None else parse_floats(alpha, "--alpha")
    digit_sets = [DigitSet.parse(text) for text in digits or ()]
    gates = parse_gates(min_accuracy) if min_accuracy is not None else []
    refuse_without_route(route, route_by, names or [])
    if route and alphas:
        raise UsageError("--alpha is not for --route: experts answer as they were trained", value=alphas)
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    document: dict[str, Any]
    if route:
        routed = evaluate_routed(names or [], by=route_by or "mixture", digit_sets=digit_sets, workspace=where)
        document, tables = _routed(routed)
        _finish(document, tables, gates, [routed], json_output)
        return
    name = names[0] if names else None
    evaluations = evaluate(name, alphas=alphas, digit_sets=digit_sets, workspace=where)
    from lora_mnist_cli.cli.tables import alpha_table, score_table

    artifact = evaluations[0].artifact
    rows = [{"alpha": evaluation.alpha, **with_intervals(evaluation.scores)} for evaluation in evaluations]
    title = f"{artifact.name} on the test images of {artifact.dataset}"
    document = {"artifact": artifact.name, **classes(artifact.dataset)}
    if len(evaluations) == 1:
        document |= rows[0]
        shown = "" if evaluations[0].alpha is None else f" at alpha {evaluations[0].alpha:g}"
        tables = [
            score_table(
                f"{artifact.name}{shown} on the test images of {artifact.dataset}",
                evaluations[0].scores,
                artifact.dataset,
            )
        ]
    else:
        document["results"] = rows
        tables = [alpha_table(title, [(evaluation.alpha, evaluation.scores) for evaluation in evaluations])]
    _finish(document, tables, gates, evaluations, json_output)


def refuse_without_route(route: bool, route_by: str | None, names: Sequence[str]) -> None:
    """Refuse what makes sense with ``--route`` alone.

    Raises:
        UsageError: where it is given without.
    """
    if not route and route_by is not None:
        raise UsageError("--route-by needs --route", hint="--route --route-by " + route_by, value=route_by)
    if not route and len(names) > 1:
        raise UsageError(
            f"one artifact at a time, not '{names[1]}' beside '{names[0]}'", hint="--route lets them answer together",
            value=names,
        )  # fmt: skip


def _routed(routed: RoutedEvaluation) -> tuple[dict[str, Any], list[Any]]:
    """The document and the tables of experts behind a router."""
    from lora_mnist_cli.cli.tables import percent, score_table, table, titled

    document = {
        "artifact": None, "alpha": None, "base": routed.base.name, "route_by": routed.by, "experts": routed.experts,
        **classes(routed.base.dataset), **with_intervals(routed.scores),
    }  # fmt: skip
    made = table(("expert", "digits", "answered", "share %", "own digits found %"), text_columns=("expert", "digits"))
    for row in routed.experts:
        made.add_row(
            row["artifact"], row["digits"], f"{row['answered']:,}", percent(row["share"]), percent(row["right_expert"])
        )
    named = ", ".join(row["artifact"] for row in routed.experts)
    title = f"{named}, routed by {routed.by}, on the test images of {routed.base.dataset}"
    return document, [score_table(title, routed.scores, routed.base.dataset), titled("experts", made)]


def _finish(
    document: dict[str, Any], tables: list[Any], gates: Sequence[Gate], evaluations: Sequence[Evaluation], as_json: bool
) -> None:
    """Check the gates, print all, and complain of a gate that is not met."""
    from lora_mnist_cli.cli.tables import table, titled

    checked = [row for evaluation in evaluations for row in check_gates(gates, evaluation)]
    if gates:
        document["gates"] = checked
        verdicts = table(
            ("digits", "alpha", "images", "accuracy", "minimum", "verdict"), text_columns=("digits", "verdict")
        )
        for row in checked:
            at = "–" if row["alpha"] is None else f"{row['alpha']:g}"
            accuracy = "–" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
            verdict = "met" if row["passed"] else "NOT MET"
            verdicts.add_row(row["digits"], at, f"{row['count']:,}", accuracy, f"{row['minimum']:g}", verdict)
        tables.append(titled("gates", verdicts))
    print_result("evaluate", document, tables, as_json=as_json)
    short = [row for row in checked if not row["passed"]]
    if short:
        raise GateError("; ".join(_shortfall(row) for row in short), value=short)


def _shortfall(row: dict[str, Any]) -> str:
    at = "" if row["alpha"] is None else f" at alpha {row['alpha']:g}"
    if row["accuracy"] is None or row["loss"] is None:
        return (
            f"digits {row['digits']}{at}: no finite figure from {row['count']} images, so {row['minimum']:g} is not met"
        )
    accuracy = f"accuracy {row['accuracy']:.4f} is below {row['minimum']:g}"
    return f"digits {row['digits']}{at}: {accuracy} ({row['count']} images)"
