"""``lora-mnist reproduce``."""

from typing import Annotated

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.commands.chain import Baselines, chain_tables
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.registry.artifact import Artifact
from lora_mnist_cli.settings.choices import CLAIMS
from lora_mnist_cli.settings.lists import parse_integers
from lora_mnist_cli.stages.exploring import PAGE_FILE
from lora_mnist_cli.stages.papers import report as papers
from lora_mnist_cli.stages.records.publishing import REPORT_FILE
from lora_mnist_cli.stages.reproducing import STUDIES, reproduce
from lora_mnist_cli.stages.study_report import TEXT_COLUMNS, heading, report_table, verdicts
from lora_mnist_cli.system.errors import UsageError
from lora_mnist_cli.system.progress import Reporter

_CLAIMS = "; ".join(f"{name}: {words}" for name, words in CLAIMS.items())


@o.grouped
def command(
    *,
    study: Annotated[
        str,
        o.word(
            "lora: what LoRA learns at each rank; forgetting: two tasks and five in a row, by each strategy (3 seeds); "
            "papers: claims of papers about LoRA, with a verdict on each (10 seeds).",
            known=STUDIES,
        ),
    ] = "lora",
    seed: shared.Seed = None,
    seeds: Annotated[
        str | None, o.words("Run the study once with each of these seeds, as 0-9: means, ranges, verdicts.")
    ] = None,
    ceiling: Annotated[
        bool, o.switch("--ceiling", "Add full fine-tuning on 5-9, on each base: a row that the study does not have.")
    ] = False,
    baselines: Baselines = False,
    claim: Annotated[
        list[str] | None,
        o.word(
            f"For --study papers: try this claim alone; may be given several times. {_CLAIMS}.",
            known=CLAIMS,
            metavar="CLAIM",
        ),
    ] = None,
    dataset: Annotated[str, o.dataset("Data set; the study used mnist.")] = "mnist",
    epochs: shared.Epochs = None,
    machine: shared.Machine,
    workers: Annotated[
        int | None,
        o.integer(
            "For --study forgetting and papers: processes that train side by side (one core per thread and 2 GB per "
            "process).",
            shared.MACHINE,
        ),
    ] = None,
    folders: shared.Folders,
    output: shared.Output,
) -> None:
    """Run the whole study and compare its figures with the original's, with every picture.

    Its settings are those of the recipe reference, the original study's. Base on 0-4, seven ranks on 5-9, rank 64 on
    0-9, alpha 0. Work that is up to date is not done again. With several seeds, each row says whether the study's
    single run lies in the range that one run of ours would show.
    """
    if seed is not None and seeds is not None:
        raise UsageError("--seed and --seeds can't be given both", hint=f"--seeds {seeds} is enough", value=seed)
    workspace = folders.workspace(output, runtime=machine.runtime())
    artifact = reproduce(
        study=study, seed=seed, seeds=None if seeds is None else parse_integers(seeds, "--seeds"), epochs=epochs,
        ceiling=ceiling, baselines=baselines, claims=claim, dataset=dataset, workers=workers, workspace=workspace,
    )  # fmt: skip
    _print(study, artifact, workspace.reporter, output)


def _print(study: str, artifact: Artifact, reporter: Reporter, output: shared.Output) -> None:
    report = artifact.path / REPORT_FILE
    reporter.notice(f"table and pictures: {report}")
    document = {"artifact": artifact.name, "report": str(report), **artifact.details}
    if PAGE_FILE in artifact.files:
        document["page"] = str(artifact.path / PAGE_FILE)
        reporter.notice(f"a page to play with: {document['page']}")
    if study == "forgetting":
        output.print("reproduce", document, lambda document: [t for of in document["chains"] for t in chain_tables(of)])
    elif study == "papers":
        output.print("reproduce", document, lambda _: [_claims_table(artifact)])
    else:
        output.print("reproduce", document, lambda _: _study_tables(artifact))


def _claims_table(artifact: Artifact) -> Table:
    made = Table(
        papers.COLUMNS, title=papers.table_title(artifact.config), text_columns=papers.TEXT_COLUMNS, tight=True,
        whole=("claim",),
    )  # fmt: skip
    for cells in papers.rows(artifact.details["claims"], deciding=True):
        if cells[0]:
            made.add_section()
        made.add_row(*cells)
    return made


def _study_tables(artifact: Artifact) -> list[Table | str]:
    config, rows = artifact.config, artifact.details["rows"]
    which = f"n = {len(config['seeds'])} seeds" if "seeds" in config else f"seed {config['seed']}"
    heads, lines = report_table(rows)
    title = f"{heading(artifact.dataset)} ({which})"
    made = Table(heads, lines, title=title, text_columns=TEXT_COLUMNS)
    return [made, *verdicts(rows, config["epochs"])]
