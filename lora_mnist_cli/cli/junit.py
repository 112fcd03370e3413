"""Verdicts as JUnit XML, which CI services show test by test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from lora_mnist_cli.system.files import machine_errors
from lora_mnist_cli.system.output_file import check_writable, output_file


@dataclass(frozen=True)
class Case:
    """One verdict: what was asked, the evidence in a line, the outcome (``passed``, ``failed`` or ``skipped``).

    ``kind`` is the verdict's name, for what did not pass.
    """

    name: str
    output: str
    outcome: str
    kind: str = ""


def junit_xml(suite: str, cases: Sequence[Case], *, seconds: float) -> bytes:
    """Write a suite of verdicts with the elements and attributes that Ant's and Jenkins's schemas of the format share.

    Each case has the suite's name as its class, and an equal share of its seconds.
    """
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    outcomes = [case.outcome for case in cases]
    attributes = {
        "name": suite, "package": "lora-mnist", "id": "0", "timestamp": when, "hostname": "localhost",
        "tests": str(len(cases)), "failures": str(outcomes.count("failed")), "errors": "0",
        "skipped": str(outcomes.count("skipped")), "time": f"{seconds:.3f}",
    }  # fmt: skip
    root = ET.Element("testsuites")
    element = ET.SubElement(root, "testsuite", attributes)
    ET.SubElement(element, "properties")
    for case in cases:
        share = f"{seconds / len(cases):.3f}"
        one = ET.SubElement(element, "testcase", name=case.name, classname=suite, time=share)
        if case.outcome == "failed":
            ET.SubElement(one, "failure", message=case.output, type=case.kind).text = case.output
        elif case.outcome == "skipped":
            ET.SubElement(one, "skipped", message=case.output)
    ET.SubElement(element, "system-out").text = "\n".join(case.output for case in cases)
    ET.SubElement(element, "system-err")
    ET.indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode").encode() + b"\n"


def check_junit(path: Path | None) -> None:
    """Refuse a file of ``--junit`` that can't be written, before the verdicts are worked out, by a MachineError."""
    if path is not None:
        check_writable(path, "--junit")


def write_junit(path: Path, suite: str, cases: Sequence[Case], *, seconds: float) -> None:
    """Write a suite of verdicts to the file of ``--junit``.

    Raises:
        MachineError: if the file can't be written.
    """
    content = junit_xml(suite, cases, seconds=seconds)
    with machine_errors(f"can't write {path}", "--junit"), output_file(path) as file:
        file.write(content)
