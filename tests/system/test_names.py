"""Names that Windows reserves: nothing new gets one, and what has one goes on being read."""

from __future__ import annotations

import ntpath
import shutil
import zipfile

import pytest

from lora_mnist_cli.system.platforms.names import is_portable

RESERVED = ["con", "CON", "Aux.txt", "nul.tar.gz", "COM1", "lpt9.x", "PRN", "a.", "base-0-4."]
FREE = ["console", "com", "com10", "null", "base-0-4", "a.con", "lora-5-9-r8", "a,b_c.d"]


@pytest.mark.parametrize("name", [*RESERVED, "a:b", "a ", 'a"b', "what?", "com¹", "a\nb"])
def test_what_windows_reserves_is_not_portable(name):
    assert not is_portable(name)
    if hasattr(ntpath, "isreserved"):
        assert ntpath.isreserved(f"folder/{name}")  # at the start a letter and a colon would be a drive


@pytest.mark.parametrize("name", FREE)
def test_other_names_are(name):
    assert is_portable(name)
    if hasattr(ntpath, "isreserved"):
        assert not ntpath.isreserved(name)


@pytest.mark.parametrize("name", RESERVED)
def test_nothing_new_gets_such_a_name(example, refused, name):
    for call in (
        ["train-base", "--name", name], ["finetune", "--name", name], ["sweep", "--name", name],
        ["merge", "lora-5-9-r1", "--name", name], ["chain", "--name", name], ["runs", "tag", "base-0-4", name],
    ):  # fmt: skip
        refused(call, 2, "Windows reserves it")


def test_an_artifact_that_has_such_a_name_is_read(example, run, forge):
    shutil.copytree(example / "base-0-4", example / "aux.old")
    forge(example / "aux.old", lambda manifest: manifest.update(name="aux.old"))
    assert run("runs", "show", "aux.old").code == 0
    assert "aux.old" in run("runs", "list").out
    assert run("runs", "remove", "aux.old").code == 0


@pytest.mark.parametrize("entry", ["con/artifact.json", "base-0-4/nul", "base-0-4/a:b", "base-0-4/tensorboard/aux.1"])
def test_an_archive_with_such_a_name_is_refused(tmp_path, refused, entry):
    with zipfile.ZipFile("forged.zip", "w") as archive:
        archive.writestr(entry, "{}")
    refused(["runs", "import", "forged.zip"], 3, "a name that Windows reserves")
