"""The documentation as one site: every page has its place, and a link that leads nowhere is told."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts import script

ROOT = Path(__file__).resolve().parents[2]


SITE = script("site")


def _pages(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else _pages(value)


def test_the_menu_has_every_page_once():
    menu = list(_pages(tomllib.loads(SITE.CONFIG.read_text(encoding="utf-8"))["project"]["nav"]))
    written = {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert sorted(menu) == sorted({*SITE.FRONT, *written, "docs/reference/README.md"})


def test_pages_are_gathered_as_they_are_with_the_files_that_they_link_to(tmp_path):
    SITE.gather(tmp_path)
    assert (tmp_path / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    assert (tmp_path / "data" / "mnist" / "README.md").is_file()
    assert (tmp_path / "docs" / "images" / "ranks.png").is_file()
    assert list(tmp_path.rglob("site.py")) == []


GOOD = """
<script src="app.js"></script>
<h1 id="top">One</h1> <a name="old">here</a> <a href="#top">up</a> <a href="">this page</a>
<a href="sub/two.html#a%20b">two</a> <a href="https://example.org">elsewhere</a> <img src="app.js">
"""


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("", []),
        ('<a href="gone.html">', ["one.html: gone.html is no file"]),
        ('<a href="sub">', ["one.html: sub is no file"]),
        ('<img src="gone.png">', ["one.html: gone.png is no file"]),
        ('<a href="#gone">', ["one.html: #gone is no place on that page"]),
        ('<a href="sub/two.html#top">', ["one.html: sub/two.html#top is no place on that page"]),
        ('<script src="https://example.org/x.js">', ["one.html: asks another host for https://example.org/x.js"]),
        ('<link href="//example.org/x.css">', ["one.html: asks another host for //example.org/x.css"]),
    ],
)
def test_a_link_that_leads_nowhere_and_a_request_to_another_host_are_told(tmp_path, more, told):
    (tmp_path / "app.js").touch()
    (tmp_path / "one.html").write_text(GOOD + more, encoding="utf-8")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "two.html").write_text('<p id="a b">', encoding="utf-8")
    assert list(SITE.problems(tmp_path)) == told
