"""``lora-mnist evaluate``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import classes, print_result, workspace
from lora_mnist_cli.digits import DigitSet
from lora_mnist_cli.errors import GateError
from lora_mnist_cli.lists import parse_floats
from lora_mnist_cli.scores import with_intervals
from lora_mnist_cli.stages import check_gates, evaluate, parse_gates


def command(
    name: o.Artifact = None,
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
    """Score an adapter or a base on the test images; the newest adapter by default."""
    alphas = None if alpha is None else parse_floats(alpha, "--alpha")
    digit_sets = [DigitSet.parse(text) for text in digits or ()]
    gates = parse_gates(min_accuracy) if min_accuracy is not None else []
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    evaluations = evaluate(name, alphas=alphas, digit_sets=digit_sets, workspace=where)
    from lora_mnist_cli.cli.tables import alpha_table, score_table, table, titled

    artifact = evaluations[0].artifact
    rows = [{"alpha": evaluation.alpha, **with_intervals(evaluation.scores)} for evaluation in evaluations]
    title = f"{artifact.name} on the test images of {artifact.dataset}"
    document: dict[str, Any] = {"artifact": artifact.name, **classes(artifact.dataset)}
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
    print_result("evaluate", document, tables, as_json=json_output)
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
