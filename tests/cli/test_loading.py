"""Watching the import of heavy packages."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_mnist_cli.cli import loading
from lora_mnist_cli.cli.loading import watched_imports
from lora_mnist_cli.cli.status_line import STARTING, StatusLine

SEEN = "import gc, sys; from lora_mnist_cli.cli.loading import LINE; SEEN = (LINE._text, gc.isenabled())\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three packages that remember what the line said while they were loaded; one loads another, and one fails."""
    for name, source in {
        "inner": SEEN,
        "outer": f"import inner\n{SEEN}",
        "broken": f"{SEEN}raise OSError('broken')",
    }.items():
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setitem(loading.PACKAGES, name, name.title())
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("inner", "outer", "broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture(autouse=True)
def _line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    line = StatusLine()
    line.begin(STARTING)
    monkeypatch.setattr(loading, "LINE", line)
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("packages")
def test_the_line_says_which_package_is_loaded_and_then_what_is_done():
    with watched_imports("afterwards"):
        assert importlib.import_module("inner").SEEN == ("loading Inner …", False)
        assert loading.LINE.text == "afterwards"
        loading.LINE.change("scoring …")
        assert importlib.import_module("outer").SEEN == ("loading Outer …", False)
        assert loading.LINE.text == "scoring …"
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("packages")
def test_a_package_that_another_one_loads_is_a_part_of_it():
    with watched_imports("afterwards"):
        assert importlib.import_module("outer").SEEN == ("loading Outer …", False)
        assert importlib.import_module("inner").SEEN == ("loading Outer …", False)


@pytest.mark.usefixtures("packages")
def test_what_fails_to_load_fails_as_it_does_without():
    with watched_imports("afterwards"):
        with pytest.raises(OSError, match="broken"):
            importlib.import_module("broken")
        assert (loading.LINE._text, gc.isenabled()) == ("afterwards", True)
        assert importlib.import_module("inner").SEEN[0] == "loading Inner …"


def test_a_package_that_is_not_installed_is_missing_as_it_is_without(monkeypatch):
    monkeypatch.setitem(loading.PACKAGES, "not_installed_anywhere", "Nothing")
    with watched_imports("afterwards"), pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        importlib.import_module("not_installed_anywhere")


@pytest.mark.usefixtures("packages")
def test_who_collects_no_garbage_is_left_alone():
    gc.disable()
    try:
        with watched_imports("afterwards"):
            importlib.import_module("inner")
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.usefixtures("packages")
def test_nothing_is_watched_afterwards():
    before = list(sys.meta_path)
    with watched_imports("afterwards"):
        pass
    assert sys.meta_path == before
    assert importlib.import_module("inner").SEEN == (STARTING, True)
