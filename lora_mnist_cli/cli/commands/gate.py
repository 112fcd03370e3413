"""``lora-mnist gate``."""

import time
from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.junit import Case, check_junit, write_junit
from lora_mnist_cli.cli.tables import confidence_of, interval, percent, points, spread_cells
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.evaluation.intervals import CONFIDENCE
from lora_mnist_cli.registry.artifact import check_name
from lora_mnist_cli.stages.evaluating import parse_gates
from lora_mnist_cli.stages.gating import INCONCLUSIVE, PASS, about, gate, in_one_line, plan_gate
from lora_mnist_cli.stages.records.samples import named_without_rank
from lora_mnist_cli.system.errors import GateError, UsageError


@o.grouped
def command(
    *,
    require: Annotated[str, o.words("Accuracies to reach, as 5-9=0.95 or 0-4=98%,5-9=95%.")],
    name: Annotated[
        str | None, o.artifact_argument("A sweep; the newest by default. An adapter or a base is one run.", "NAME")
    ] = None,
    rank: Annotated[int | None, o.integer("Check this rank only; by default each rank has to pass.")] = None,
    confidence: shared.Confidence = CONFIDENCE,
    allow_inconclusive: Annotated[
        bool, o.switch("--allow-inconclusive", "Exit code 0 if the data can't tell.")
    ] = False,
    plan_only: Annotated[
        bool, o.switch("--plan", "Only say how many seeds this margin and others need; no verdict.")
    ] = False,
    tag: Annotated[
        str | None, o.word("Let @TAG stand for what passed, as champion; if it does not pass, nothing changes.")
    ] = None,
    junit: shared.JUnit = None,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Compare the mean over a sweep's seeds with thresholds: PASS, FAIL or INCONCLUSIVE.

    PASS (exit code 0): the interval of the mean lies wholly at or above the threshold. FAIL (1): it lies wholly below.
    INCONCLUSIVE (1): otherwise. Runs that diverged and digits without images are a FAIL; a single seed is never a PASS.
    """
    if plan_only and (junit is not None or tag is not None):
        other = "--junit to write" if junit is not None else "--tag to go by"
        raise UsageError(f"--plan gives no verdict for {other}", hint="give one of them", value=junit or tag)
    if tag is not None:
        check_name(tag.removeprefix("@"))
    gates = parse_gates(require, "--require")
    workspace = folders.workspace(output)
    if plan_only:
        document = plan_gate(gates, name, rank=rank, confidence=confidence, workspace=workspace)
        output.print("gate", document, _plan_tables)
        return
    check_junit(junit)
    start = time.perf_counter()
    document = gate(gates, name, rank=rank, confidence=confidence, workspace=workspace)
    output.print("gate", document, _tables)  # first: no file that can't be written takes the verdict away
    if junit is not None:
        cases = _cases(document["gates"], allow_inconclusive)
        write_junit(junit, f"gate {document['artifact']}", cases, seconds=time.perf_counter() - start)
    let_through = (PASS, INCONCLUSIVE) if allow_inconclusive else (PASS,)
    if missed := [row for row in document["gates"] if row["verdict"] not in let_through]:
        # The table and its lines say which ones.
        which = about(missed[0]) if len(missed) == 1 else f"{len(missed)} of {len(document['gates'])} do not pass"
        raise GateError(f"{document['verdict']}: {which}", value=missed)
    if tag is not None:
        workspace.registry.tag(document["artifact"], tag)
        workspace.reporter.notice(f"@{tag.removeprefix('@')} stands for {document['artifact']}")


def _tables(document: dict[str, Any]) -> list[Table | str]:
    heads, settings = _settings(document["gates"])
    title = f"{document['artifact']}: mean test accuracy, {confidence_of(document)} intervals"
    made = Table(
        (*heads, "digits", "required %", "mean %", "interval", "worst (seed)", "n", "verdict"), title=title,
        text_columns=("setting", "digits", "verdict"), tight=True,
    )  # fmt: skip
    for row, setting in zip(document["gates"], settings, strict=True):
        made.add_row(
            *setting, row["digits"], percent(row["minimum"]), percent(row["accuracy"]["mean"]),
            interval(row["interval"]["low"], row["interval"]["high"]), spread_cells(row["accuracy"], percent)[1],
            str(row["n"]), row["verdict"],
        )  # fmt: skip
    missed = [row for row in document["gates"] if row["verdict"] != PASS]
    reasons = [f"{about(row)}: {row['verdict']}: {row['reason']}" for row in missed]
    return [made, *reasons, document["verdict"]]


def _settings(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Make the heads and cells that say which setting each row is about; the rank alone if nothing else differs."""
    others = [named_without_rank(row["setting"]) for row in rows]
    ranks = [str(row["setting"].get("rank") or "–") for row in rows]
    if not any(others):
        return ["rank"], [[rank] for rank in ranks]
    return ["setting", "rank"], [[other, rank] for other, rank in zip(others, ranks, strict=True)]


def _plan_tables(document: dict[str, Any]) -> list[Table | str]:
    margins = [f"{100 * margin:g}" for margin, _ in document["plans"][0]["seeds_by_margin"]]
    heads, settings = _settings(document["plans"])
    title = (
        f"{document['artifact']}: seeds that decide a gate at {confidence_of(document)} confidence with "
        f"{100 * document['power']:g} % power"
    )
    made = Table(
        (*heads, "digits", "required %", "n", "mean %", "sd", "margin", "seeds", *margins), title=title,
        text_columns=("setting", "digits"), tight=True, optional=margins,
    )  # fmt: skip
    for row, setting in zip(document["plans"], settings, strict=True):
        needed = [row["seeds_needed"], *(number for _, number in row["seeds_by_margin"])]
        made.add_row(
            *setting, row["digits"], percent(row["minimum"]), str(row["n"]), percent(row["mean"]), percent(row["sd"]),
            points(row["margin"]), *("–" if number is None else f"{number:,}" for number in needed),
        )  # fmt: skip
    explained = (
        "seeds: for the sweep's own margin. The last columns: for margins of that many points. The estimate takes the "
        "spread of these seeds as the true one; with few seeds it is rough."
    )
    lacking = any(row["margin"] is None for row in document["plans"])
    return [made, explained, *(["A spread needs at least two seeds: lora-mnist sweep --seeds 0-4."] if lacking else [])]


def _cases(rows: list[dict[str, Any]], allow_inconclusive: bool) -> list[Case]:
    outcomes = {PASS: "passed", INCONCLUSIVE: "skipped" if allow_inconclusive else "failed"}
    return [
        Case(
            f"{about(row)}: accuracy of at least {row['minimum']:g}", in_one_line(row),
            outcomes.get(row["verdict"], "failed"), row["verdict"],
        )
        for row in rows
    ]  # fmt: skip
