"""``lora-mnist gate``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.commands.compare import Confidence
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.stages.evaluating import parse_gates
from lora_mnist_cli.stages.gating import INCONCLUSIVE, PASS, about, gate, in_one_line, plan_gate
from lora_mnist_cli.stages.records.samples import named_without_rank
from lora_mnist_cli.system.errors import GateError, UsageError
from lora_mnist_cli.system.files import machine_errors, whole_file


def command(
    require: Annotated[
        str, typer.Option("--require", metavar="TEXT", help="Accuracies to reach, as 5-9=0.95 or 0-4=0.98,5-9=0.95.")
    ],
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="SWEEP",
            help="A sweep; the newest by default. An adapter or a base is one run.",
            autocompletion=o.complete_artifact,
        ),
    ] = None,
    rank: Annotated[
        int | None, o.integer_option("--rank", "Look at this rank alone; by default each has to pass.")
    ] = None,
    confidence: Confidence = CONFIDENCE,
    allow_inconclusive: Annotated[
        bool, o.switch("--allow-inconclusive", "Exit code 0 where the data can't tell.")
    ] = False,
    plan_only: Annotated[
        bool, o.switch("--plan", "Only say how many seeds the margin needs, and others; no verdict.")
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML too, for CI.")
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    data_dir: o.DataDir = o.DEFAULT_DATA,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Hold the mean over a sweep's seeds against thresholds: PASS, FAIL or INCONCLUSIVE.

    PASS (exit code 0) where the interval of the mean lies wholly at or above the threshold, FAIL (1) where it lies
    wholly below, INCONCLUSIVE (1) otherwise. Runs that diverged or digits without images are a FAIL, a single seed is
    never a PASS.
    """
    if plan_only and junit is not None:
        raise UsageError("--plan gives no verdict for --junit to write", hint="give one of them", value=junit)
    gates = parse_gates(require, "--require")
    where = workspace(runs_dir, data_dir, quiet=quiet, verbose=verbose)
    if plan_only:
        document = plan_gate(gates, name, rank=rank, confidence=confidence, workspace=where)
        print_result("gate", document, [] if json_output else _plan_tables(document), as_json=json_output)
        return
    start = time.perf_counter()
    document = gate(gates, name, rank=rank, confidence=confidence, workspace=where)
    if junit is not None:
        _write_junit(junit, document, allow_inconclusive, time.perf_counter() - start)
    print_result("gate", document, [] if json_output else _tables(document), as_json=json_output)
    let_through = (PASS, INCONCLUSIVE) if allow_inconclusive else (PASS,)
    if document["verdict"] not in let_through:
        short = [row for row in document["gates"] if row["verdict"] not in let_through]
        raise GateError("; ".join(f"{row['verdict']}: {about(row)}" for row in short), value=short)


def _tables(document: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import interval, percent, spread_cells, table, titled

    named, cells = _settings(document["gates"])
    columns = (*named, "digits", "needs %", "mean %", "interval", "worst (seed)", "n", "verdict")
    made = table(columns, text_columns=("setting", "digits", "verdict"), tight=True)
    for row, own in zip(document["gates"], cells, strict=True):
        bounds = interval(row["interval"]["low"], row["interval"]["high"])
        made.add_row(
            *own, row["digits"], percent(row["minimum"]), percent(row["accuracy"]["mean"]), bounds,
            spread_cells(row["accuracy"], percent)[1], str(row["n"]), row["verdict"],
        )  # fmt: skip
    title = f"{document['artifact']}: mean test accuracy, {100 * document['confidence']:g} % intervals"
    reasons = [in_one_line(row) for row in document["gates"] if row["verdict"] != PASS]
    return [titled(title, made), *reasons, document["verdict"]]


def _settings(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Heads and cells that say which setting each row is about; a rank alone where the rows differ in nothing else."""
    others = [named_without_rank(row["setting"]) for row in rows]
    ranks = [str(row["setting"].get("rank") or "–") for row in rows]
    if not any(others):
        return ["rank"], [[rank] for rank in ranks]
    return ["setting", "rank"], [[other, rank] for other, rank in zip(others, ranks, strict=True)]


def _plan_tables(document: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import percent, table, titled

    margins = [f"{100 * margin:g}" for margin, _ in document["plans"][0]["seeds_by_margin"]]
    named, cells = _settings(document["plans"])
    columns = (*named, "digits", "needs %", "n", "mean %", "sd", "margin", "seeds", *margins)
    made = table(columns, text_columns=("setting", "digits"), tight=True, optional=margins)

    def seeds(number: int | None) -> str:
        return "–" if number is None else f"{number:,}"

    for row, own in zip(document["plans"], cells, strict=True):
        margin = "–" if row["margin"] is None else f"{100 * row['margin']:+.2f}"
        made.add_row(
            *own, row["digits"], percent(row["minimum"]), str(row["n"]), percent(row["mean"]), percent(row["sd"]),
            margin, seeds(row["seeds_needed"]), *(seeds(number) for _, number in row["seeds_by_margin"]),
        )  # fmt: skip
    title = (
        f"{document['artifact']}: seeds that decide a gate at {100 * document['confidence']:g} % confidence in "
        f"{100 * document['power']:g} % of tries"
    )
    explained = (
        "seeds: for the sweep's own margin. The last columns: for margins of so many points. All of it if the spread "
        "is what these seeds show, which few of them know only roughly."
    )
    lacking = any(row["margin"] is None for row in document["plans"])
    alone = ["A spread takes two seeds at least: lora-mnist sweep --seeds 0-4."] if lacking else []
    return [titled(title, made), explained, *alone]


def _write_junit(path: Path, document: dict[str, Any], allow_inconclusive: bool, seconds: float) -> None:
    from lora_mnist_cli.cli.junit import Case, junit_xml

    cases = []
    for row in document["gates"]:
        outcome = {PASS: "passed", INCONCLUSIVE: "skipped" if allow_inconclusive else "failed"}
        asked = f"{about(row)}: accuracy of at least {row['minimum']:g}"
        cases.append(Case(asked, in_one_line(row), outcome.get(row["verdict"], "failed"), row["verdict"]))
    content = junit_xml(f"gate {document['artifact']}", cases, seconds=seconds)
    with machine_errors(f"can't write {path}", "--junit"), whole_file(path) as file:
        file.write(content)
