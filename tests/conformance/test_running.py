"""``lora-mnist conformance``: from a name to a report, JUnit XML and an exit code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lora_mnist_cli.conformance.laws import LAWS, laws_of


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of one's own in the folder that one works in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [each for each in sys.modules if each.partition(".")[0] == "their_lora"]:
        monkeypatch.delitem(sys.modules, name)  # another test's, whose folder may be gone
    package = tmp_path / "their_lora"
    package.mkdir()
    (package / "__init__.py").touch()
    shutil.copy(Path(__file__).parent / "implementations.py", package / "code.py")
    (package / "leaving.py").write_text("import sys; sys.exit(0)\n")
    (package / "broken.py").write_text("import nothing_of_that_name\n")
    (package / "odd.py").write_text(
        "from their_lora.code import Right\n"
        "number = 3\n"
        "def nothing(): return object()\n"
        "def needs(rank): return Right()\n"
        "class Claim(Right): scaling = 'none'\n"
        "def build(): return Right()\n"
        "def leave(): raise SystemExit(0)\n"
        "class LeaveLater(Right):\n"
        "    def merge(self, model): raise SystemExit(0)\n"
    )


def test_a_right_one_passes(theirs, run):
    outcome = run("conformance", "their_lora.code:Right")
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ["holds"]] == list(LAWS)
    assert outcome.out.endswith(f"\n{len(LAWS)} hold\n")
    assert run("conformance", "their_lora.odd:build", "--json").json["verdict"] == "PASS"


def test_a_wrong_one_is_reported_with_what_the_law_demands(theirs, run):
    outcome = run("conformance", "their_lora.code:LoadTakesAnything")
    assert (outcome.code, outcome.err) == (1, f"error: 1 of {len(LAWS)} laws broken: load-strict\n")
    assert f"load-strict: {LAWS['load-strict'].about}" in outcome.out
    assert "taken without a word: a state with other names" in outcome.out
    outcome = run("conformance", "their_lora.code:LoadTakesAnything", "--skip", "load-strict")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, f"{len(LAWS) - 1} hold, 1 skipped")


def test_json_and_junit_say_the_same(theirs, run, tmp_path):
    arguments = ("their_lora.code:BIsNotZero", "--skip", "gradients", "--json", "--junit", "out.xml")
    outcome = run("conformance", *arguments)
    assert outcome.code == 1
    document = outcome.json
    assert (document["command"], document["implementation"]) == ("conformance", "their_lora.code:BIsNotZero")
    assert document["verdict"] == "FAIL"
    verdicts = {row["law"]: row["verdict"] for row in document["laws"]}
    assert list(verdicts) == list(LAWS)
    assert (verdicts["zero-b"], verdicts["gradients"], verdicts["scaling"]) == ("BROKEN", "skipped", "holds")
    suite = ET.parse(tmp_path / "out.xml").getroot()[0]
    told = {}
    for case in suite.iter("testcase"):
        law = case.attrib["name"].partition(":")[0]
        told[law] = next((element.tag for element in case), "passed")
    words = {"failure": "BROKEN", "skipped": "skipped", "passed": "holds"}
    assert {law: words[tag] for law, tag in told.items()} == verdicts
    assert suite.attrib["failures"] == str(list(verdicts.values()).count("BROKEN"))
    evidence = next(row["evidence"] for row in document["laws"] if row["law"] == "zero-b")
    assert evidence in next(e for e in suite.iter("failure") if "zero-b" in e.attrib["message"]).attrib["message"]


def test_another_method_has_its_own_laws_and_protocol(theirs, run, tmp_path):
    shutil.copy(Path(__file__).parent / "method_implementations.py", tmp_path / "their_lora" / "methods.py")
    with (tmp_path / "their_lora" / "methods.py").open("a") as code:
        code.write("\n\ndef ia3(): return Right(IA3)\ndef odd(): return Right(MultipliersAreSpreadInTheWrongOrder)\n")
    right = run("conformance", "their_lora.methods:ia3", "--method", "ia3", "--json")
    assert (right.code, right.json["method"], right.json["verdict"]) == (0, "ia3", "PASS")
    assert [row["law"] for row in right.json["laws"]] == list(laws_of("ia3"))
    wrong = run("conformance", "their_lora.methods:odd", "--method", "ia3", "--junit", "out.xml")
    assert (wrong.code, wrong.err) == (1, f"error: 1 of {len(laws_of('ia3'))} laws broken: columns\n")
    assert wrong.out.startswith("The laws of (IA)³ on their_lora.methods:odd\n")
    assert ET.parse(tmp_path / "out.xml").getroot()[0].attrib["name"] == "conformance their_lora.methods:odd ia3"
    lacking = run("conformance", "their_lora.odd:nothing", "--method", "ia3")
    assert "lacks attach, set_alpha, merge, unmerge, state, load, weights" in lacking.err


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("pefd", "'pefd' names no implementation (did you mean 'peft'?)"),
        ("their_lora.code", "write pkg.module:factory"),
        (":Right", "names no implementation"),
        ("", "names no implementation"),
        ("their_lora.cod:Right", "can't import 'their_lora.cod': ModuleNotFoundError"),
        ("their_lora.broken:Right", "No module named 'nothing_of_that_name'"),
        ("their_lora.leaving:Right", "can't import 'their_lora.leaving': it ends the process, as if all were well"),
        ("their_lora.odd:leave", "makes no implementation: it ends the process"),
        ("..:x", "can't import '..'"),
        ("their_lora.code:Rigth", "has no 'Rigth' (did you mean 'Right'?)"),
        ("their_lora.odd:number", "can't be called"),
        ("their_lora.odd:needs", "makes no implementation: TypeError"),
        ("their_lora.odd:nothing", "lacks attach, set_alpha, merge, unmerge, state, load, factors, weights"),
        ("their_lora.odd:Claim", "has the scaling 'none' (one of constant, standard, rslora)"),
    ],
)
def test_what_is_no_implementation_is_refused(theirs, run, name, shown):
    outcome = run("conformance", name)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert shown in outcome.err


@pytest.mark.parametrize("library", ["peft", "loralib"])
def test_a_library_that_is_missing_says_which_command_helps(library, run, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    outcome = run("conformance", library)
    assert (outcome.code, outcome.err) == (2, f"error: {library} is not installed (pip install {library})\n")


def test_other_libraries_are_not_imported_before_they_are_asked_for():
    skipped = [f"--skip={law}" for law in list(LAWS)[1:]]
    code = (
        f"import sys; from lora_mnist_cli.cli import main; code = main(['conformance', 'ours', '--json', *{skipped}]);"
        "print(code, sorted({'peft', 'loralib', 'transformers'} & set(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == "0 []\n"


def test_code_that_ends_the_process_in_a_law_breaks_it(theirs, run):
    outcome = run("conformance", "their_lora.odd:LeaveLater", "--json")
    assert outcome.code == 1
    ended = [row for row in outcome.json["laws"] if "it ends the process" in row["evidence"]]
    assert ended
    assert {row["verdict"] for row in ended} == {"BROKEN"}


def test_a_file_of_verdicts_that_cannot_be_written_is_told_before_the_work(theirs, run, tmp_path):
    outcome = run("conformance", "their_lora.leaving:Right", "--junit", tmp_path / "none" / "a.xml")
    assert (outcome.code, outcome.out) == (5, "")
    assert "can't write" in outcome.err
