"""``runs verify``, ``runs clean`` and ``runs remove``: keeping a folder of artifacts undamaged and tidy."""

import sys
from typing import Annotated, Any

import typer

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli import shared_options as shared
from lora_mnist_cli.cli.text_table import Table
from lora_mnist_cli.registry.manifest import UPGRADE
from lora_mnist_cli.registry.registry import Registry
from lora_mnist_cli.settings.lists import counted, some
from lora_mnist_cli.system.errors import ArtifactError, UsageError


@o.grouped
def verify_command(
    *,
    name: Annotated[str | None, o.artifact_argument("Name of an artifact; all by default.")] = None,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Check that artifacts are what they claim to be: every byte, the manifest, weights and lineage.

    Checks all artifacts, or one and everything that it was made from. Exit code 3 names each bad file and the
    artifacts made from it.
    """
    from lora_mnist_cli.registry.verification import problem_line, verify

    registry = folder.registry(output)
    verdicts = verify(registry, name, output.reporter())
    bad = [verdict for verdict in verdicts if verdict.problems]
    rows = [
        {
            "artifact": verdict.name, "kind": verdict.kind, "sound": not verdict.problems, "files": verdict.files,
            "bytes": verdict.bytes,
            "problems": [{"file": file, "problem": problem} for file, problem in verdict.problems],
            "descendants": verdict.descendants,
        }
        for verdict in verdicts
    ]  # fmt: skip

    def tables(_: dict[str, Any]) -> list[Table | str]:
        heads = ("name", "kind", "files", "bytes", "verdict")
        made = Table(heads, text_columns=("name", "kind", "verdict"))
        for each in verdicts:
            word = "NEWER" if each.newer else "DAMAGED" if each.problems else "undamaged"
            made.add_row(each.name, each.kind or "?", str(each.files), f"{each.bytes:,}", word)
        count = f"{len(verdicts) - len(bad)} of {len(verdicts)} artifacts are undamaged."
        return [made, count] if verdicts else [count]

    skipped = registry.links() if name is None else []
    sound = bool(verdicts) and not bad and not skipped
    output.print("runs verify", {"sound": sound, "artifacts": rows}, tables)
    if not verdicts and not skipped:
        hint = "is --runs-dir the right folder?"
        raise ArtifactError(f"there is nothing to verify in {registry.root}", hint=hint, value=registry.root)
    if bad or skipped:
        damaged = [verdict for verdict in bad if not verdict.newer]
        told = [problem_line(verdict, registry.root) for verdict in bad]
        told += [f"{registry.root / link}: not checked, it is a symbolic link" for link in skipped]
        lines = " | ".join(told)
        behind_links = "it is a symbolic link" in lines  # what another tool has moved away is not lost
        hints = [shared.REPLACE_LINKS] if behind_links else []
        if damaged and not behind_links:
            hints += ["lora-mnist runs remove NAME --cascade, then make them again"]
        hints += [UPGRADE] if len(damaged) < len(bad) else []
        raise ArtifactError(lines, hint="; ".join(hints), value=bad)


@o.grouped
def clean_command(
    *,
    dry_run: Annotated[bool, o.switch("--dry-run", "Only list them, with their files.")] = False,
    all_hosts: Annotated[
        bool, o.switch("--all-hosts", "Those of other machines too; use it only while none of them works here.")
    ] = False,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Remove the staging folders that killed processes left. Those of live processes stay."""
    found = folder.registry(output).clean(dry_run=dry_run, all_hosts=all_hosts)
    output.print("runs clean", {"dry_run": dry_run, "staging": found}, lambda _: _staging(found))


def _staging(found: list[dict[str, Any]]) -> list[Table | str]:
    heads = ("was to become", "host", "process", "started (UTC)", "state", "bytes", "holds", "removed")
    made = Table(heads, text_columns=[head for head in heads if head not in ("bytes", "process")])
    for row in found:
        made.add_row(
            row["name"], row["host"], str(row["pid"] or "–"), str(row["started"] or "–"), row["state"],
            f"{row['bytes']:,}", ", ".join(row["files"]) or "–", "yes" if row["removed"] else "no",
        )  # fmt: skip
    dead, removed = sum(row["state"] == "dead" for row in found), sum(row["removed"] for row in found)
    count = f"{len(found)} staging folders, {dead} dead, {removed} removed."
    return [made, count] if found else [count]


@o.grouped
def remove_command(
    *,
    name: shared.ArtifactName,
    cascade: Annotated[bool, o.switch("--cascade", "Also delete everything that was made from it.")] = False,
    yes: Annotated[bool, o.switch("--yes", "Don't ask before --cascade deletes several.")] = False,
    folder: shared.RunsFolder,
    output: shared.Output,
) -> None:
    """Remove one artifact, unless others were made from it."""
    registry = folder.registry(output)
    if cascade and not yes:
        _ask(registry, name)
    removed = registry.remove(name, cascade=cascade)
    document = {"artifact": removed[-1], "removed": removed}
    output.print("runs remove", document, [f"removed {each}" for each in removed])


def _ask(registry: Registry, name: str) -> None:
    """Have a person confirm what a removal takes along; refuse where there is none to ask."""
    others = [entry.name for entry in registry.descendants(registry.resolve(name), all_generations=True)]
    if not others:
        return
    told = f"also deletes {counted(len(others), 'artifact')} made from '{name}': {some(others)}"
    if not sys.stdin.isatty():
        raise UsageError(f"--cascade {told}", hint="with --yes it does so without asking", value=others)
    typer.confirm(f"This {told}. Delete?", abort=True, err=True)
