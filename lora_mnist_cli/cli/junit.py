"""Verdicts as JUnit XML, which CI services show test by test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree as ET


@dataclass(frozen=True)
class Case:
    """One verdict.

    Args:
        name: what was asked.
        output: the evidence, in a line.
        outcome: ``passed``, ``failed`` or ``skipped``.
        kind: the verdict's own name, for what did not pass.
    """

    name: str
    output: str
    outcome: str
    kind: str = ""


def junit_xml(suite: str, cases: Sequence[Case], *, seconds: float = 0.0, now: datetime | None = None) -> bytes:
    """A suite of verdicts, with the elements and attributes that both Ant's and Jenkins's schema of the format have.

    Args:
        suite: its name, which each case has for a class.
        seconds: how long all took; each case gets its share.
    """
    when = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S")
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
