"""``lora-mnist conformance``."""

import time
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.junit import Case, check_junit, write_junit
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.conformance.running import BROKEN, HOLDS, READY, SKIPPED, check, find_factory
from lora_mnist_cli.settings.choices import METHODS
from lora_mnist_cli.system.errors import GateError

_OUTCOMES = {HOLDS: "passed", BROKEN: "failed", SKIPPED: "skipped"}


@o.grouped
def command(
    *,
    implementation: Annotated[
        str,
        typer.Argument(
            help=f"pkg.module:factory, which is imported and called; or {', '.join(READY)}.",
            metavar="IMPLEMENTATION",
            autocompletion=o.completions(READY),
        ),
    ],
    method: Annotated[str, o.word("Method that it implements.", known=METHODS)] = "lora",
    skip: Annotated[
        list[str] | None, o.word("Don't try this law; may be given more than once.", metavar="NAME")
    ] = None,
    junit: shared.JUnit = None,
    output: shared.Output,
) -> None:
    """Test the laws of LoRA on anyone's implementation, behind a small protocol.

    Exit code 1 if a law is broken. This runs the code that you name: name only code that you trust. Other methods have
    laws of their own (--method; ours or peft, or your code). The protocol is described in docs/conformance.md.
    """
    check_junit(junit)
    start = time.perf_counter()
    rows = check(find_factory(implementation, method), method=method, skip=skip or (), reporter=output.reporter())
    broken = [row["law"] for row in rows if row["verdict"] == BROKEN]
    named = {"implementation": implementation} | ({} if method == "lora" else {"method": method})
    document = {**named, "verdict": "FAIL" if broken else "PASS", "laws": rows}
    output.print("conformance", document, _tables)  # first: no file that can't be written takes the verdict away
    if junit is not None:
        cases = [
            Case(f"{row['law']}: {row['about']}", f"{row['law']}: {row['evidence']}", _OUTCOMES[row["verdict"]],
                 row["verdict"])
            for row in rows
        ]  # fmt: skip
        write_junit(junit, " ".join(["conformance", *named.values()]), cases, seconds=time.perf_counter() - start)
    if broken:
        raise GateError(f"{len(broken)} of {len(rows)} laws broken: {', '.join(broken)}", value=broken)


def _tables(document: dict[str, Any]) -> list[Table | str]:
    heads, laws = ("law", "verdict", "evidence"), document["laws"]
    rows = ([row[head] for head in heads] for row in laws)
    title = f"The laws of {METHODS[document.get('method', 'lora')].title} on {document['implementation']}"
    made = Table(heads, rows, title=title, text_columns=heads)
    demands = [f"{row['law']}: {row['about']}" for row in laws if row["verdict"] == BROKEN]
    counts = {word: sum(row["verdict"] == verdict for row in laws) for verdict, word in
              ((HOLDS, "hold"), (BROKEN, "broken"), (SKIPPED, "skipped"))}  # fmt: skip
    return [made, *demands, ", ".join(f"{count} {word}" for word, count in counts.items() if count)]
