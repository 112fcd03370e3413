"""``runs verify``, ``runs clean`` and ``runs remove``: keeping a folder of artifacts sound and tidy."""

from __future__ import annotations

from typing import Annotated, Any

from lora_mnist_cli.cli import options as o
from lora_mnist_cli.cli.console import print_result, workspace
from lora_mnist_cli.registry.manifest import UPGRADE
from lora_mnist_cli.system.errors import ArtifactError


def verify_command(
    name: o.OptionalArtifactName = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Check that artifacts are what they claim to be: every byte, the manifest, weights and lineage.

    All artifacts, or one with all that it was made from. Exit code 3 names each bad file and what descends from it.
    """
    from lora_mnist_cli.registry.verification import problem_line, verify

    registry = workspace(runs_dir, quiet=quiet, verbose=verbose).registry
    verdicts = verify(registry, name)
    rows = [
        {
            "artifact": verdict.name,
            "kind": verdict.kind,
            "sound": not verdict.problems,
            "files": verdict.files,
            "bytes": verdict.bytes,
            "problems": [{"file": file, "problem": problem} for file, problem in verdict.problems],
            "descendants": verdict.descendants,
        }
        for verdict in verdicts
    ]
    bad = [verdict for verdict in verdicts if verdict.problems]
    tables: list[Any] = []
    if not json_output:
        from lora_mnist_cli.cli.tables import table

        if rows:
            made = table(("name", "kind", "files", "bytes", "verdict"), text_columns=("name", "kind", "verdict"))
            for each in verdicts:
                word = "NEWER" if each.newer else "DAMAGED" if each.problems else "sound"
                made.add_row(each.name, each.kind or "?", str(each.files), f"{each.bytes:,}", word)
            tables = [made]
        tables.append(f"{len(verdicts) - len(bad)} of {len(verdicts)} artifacts are sound.")
    print_result("runs verify", {"sound": not bad, "artifacts": rows}, tables, as_json=json_output)
    if bad:
        damaged = [verdict for verdict in bad if not verdict.newer]
        lines = " | ".join(problem_line(verdict, registry.root) for verdict in bad)
        hints = ["lora-mnist runs remove NAME --cascade, then make them again"] if damaged else []
        hints += [UPGRADE] if len(damaged) < len(bad) else []
        raise ArtifactError(lines, hint="; ".join(hints), value=bad)


def clean_command(
    dry_run: Annotated[bool, o.switch("--dry-run", "Only list them, with what they hold.")] = False,
    all_hosts: Annotated[
        bool, o.switch("--all-hosts", "Those of other machines too; only while none of them works here.")
    ] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Remove the staging folders that killed processes left. Those of live processes stay."""
    found = workspace(runs_dir, quiet=quiet, verbose=verbose).registry.clean(dry_run=dry_run, all_hosts=all_hosts)
    tables: list[Any] = []
    if not json_output:
        from lora_mnist_cli.cli.tables import table

        if found:
            columns = ("was to become", "host", "process", "started (UTC)", "state", "bytes", "holds", "removed")
            made = table(columns, text_columns=tuple(c for c in columns if c not in ("bytes", "process")))
            for row in found:
                files = ", ".join(row["files"]) or "–"
                made.add_row(
                    row["name"], row["host"], str(row["pid"] or "–"), str(row["started"] or "–"), row["state"],
                    f"{row['bytes']:,}", files, "yes" if row["removed"] else "no",
                )  # fmt: skip
            tables = [made]
        dead = sum(row["state"] == "dead" for row in found)
        removed = sum(row["removed"] for row in found)
        tables.append(f"{len(found)} staging folders, {dead} dead, {removed} removed.")
    document = {"dry_run": dry_run, "staging": found}
    print_result("runs clean", document, tables, as_json=json_output)


def remove_command(
    name: o.ArtifactName,
    cascade: Annotated[bool, o.switch("--cascade", "Take along all that was made from it.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    json_output: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    version: o.Version = False,
) -> None:
    """Remove one artifact, unless others were made from it."""
    removed = workspace(runs_dir, quiet=quiet, verbose=verbose).registry.remove(name, cascade=cascade)
    document = {"artifact": removed[-1], "removed": removed}
    print_result("runs remove", document, [f"removed {each}" for each in removed], as_json=json_output)
