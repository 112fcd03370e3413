"""``lora-mnist conformance``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result
from lora_mnist_cli.conformance.running import BROKEN, HOLDS, READY, SKIPPED, check, find_factory
from lora_mnist_cli.system.errors import GateError
from lora_mnist_cli.system.files import machine_errors, whole_file


def command(
    implementation: Annotated[
        str,
        typer.Argument(
            metavar="IMPLEMENTATION",
            help=f"pkg.module:factory, which is imported and called; or {', '.join(READY)}.",
            autocompletion=o.completions(READY),
        ),
    ],
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="LAW", help="Don't try this law; may be given more than once."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the verdicts as JUnit XML too, for CI.")
    ] = None,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Try the laws of LoRA on anyone's implementation, behind a small protocol.

    Exit code 1 where a law is broken. The code that is named is run: name none that you don't trust. The protocol is
    described in docs/conformance.md.
    """
    start = time.perf_counter()
    rows = check(find_factory(implementation), skip=skip or ())
    broken = [row["law"] for row in rows if row["verdict"] == BROKEN]
    if junit is not None:
        _write_junit(junit, implementation, rows, time.perf_counter() - start)
    document = {"implementation": implementation, "verdict": "FAIL" if broken else "PASS", "laws": rows}
    print_result("conformance", document, [] if json_output else _tables(document), as_json=json_output)
    if broken:
        raise GateError(f"{len(broken)} of {len(rows)} laws broken: {', '.join(broken)}", value=broken)


def _tables(document: dict[str, Any]) -> list[Any]:
    from lora_mnist_cli.cli.tables import table, titled

    made = table(("law", "verdict", "evidence"), text_columns=("law", "verdict", "evidence"))
    for row in document["laws"]:
        made.add_row(row["law"], row["verdict"], row["evidence"])
    demands = [f"{row['law']}: {row['about']}" for row in document["laws"] if row["verdict"] == BROKEN]
    verdicts = [row["verdict"] for row in document["laws"]]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {word}"
        for verdict, word in ((HOLDS, "hold"), (BROKEN, "broken"), (SKIPPED, "skipped"))
        if verdicts.count(verdict)
    )
    return [titled(f"The laws of LoRA on {document['implementation']}", made), *demands, counts]


def _write_junit(path: Path, implementation: str, rows: list[dict[str, str]], seconds: float) -> None:
    from lora_mnist_cli.cli.junit import Case, junit_xml

    outcomes = {HOLDS: "passed", BROKEN: "failed", SKIPPED: "skipped"}
    cases = [
        Case(
            f"{row['law']}: {row['about']}",
            f"{row['law']}: {row['evidence']}",
            outcomes[row["verdict"]],
            row["verdict"],
        )
        for row in rows
    ]
    content = junit_xml(f"conformance {implementation}", cases, seconds=seconds)
    with machine_errors(f"can't write {path}", "--junit"), whole_file(path) as file:
        file.write(content)
