"""Builds the documentation as one site, and checks every link in it.

``python docs/site.py [FOLDER]`` writes pages that need no network and no server (default: build/site); it needs the
extra ``docs``. README.md, CONTRIBUTING.md and all else are pages as they are: Zensical reads a copy with the checkout's
folders, so a link means the same on the site and in the checkout. Ends with exit code 1 if a link inside the
documentation leads nowhere, or if a page asks another host for anything.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "docs" / "zensical.toml"
FRONT = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
_LINKED = re.compile(r"\]\(([^)#:\s]+)")


class Page(HTMLParser):
    """What a built page links to, what it loads, and the names of its places."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep the addresses and names of an element."""
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        else:
            self.loads += [given[name] for name in ("src", "href") if name in given]


def gather(folder: Path) -> None:
    """Copy all pages into a folder, and the files of the checkout that they link to."""
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("*.py", "*.toml", "__pycache__"))
    for name in FRONT:
        shutil.copy(ROOT / name, folder / name)
    for page in list(folder.rglob("*.md")):
        for target in _LINKED.findall(page.read_text(encoding="utf-8")):
            copy = (page.parent / target).resolve()
            source = ROOT / copy.relative_to(folder)
            if source.is_file() and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)


def problems(site: Path) -> Iterator[str]:
    """Tell each link of a built site that leads nowhere, and each request to another host."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for address in [*page.links, *page.loads]:
            parts, name = urlsplit(address), path.relative_to(site)
            if parts.scheme or parts.netloc:
                if address in page.loads:
                    yield f"{name}: asks another host for {address}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: {address} is no file"
            elif target in pages and unquote(parts.fragment) not in pages[target].places:
                yield f"{name}: {address} is no place on that page"


def build(out: Path) -> list[str]:
    """Build the site into a folder, which is replaced; returns its problems."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name).resolve()
        gather(work / "pages")
        shutil.copy(CONFIG, work)
        if subprocess.run([sys.executable, "-m", "zensical", "build", "--strict"], cwd=work, check=False).returncode:
            return ["the site was not built"]
        shutil.rmtree(out, ignore_errors=True)
        (work / "site" / "404.html").unlink()  # its addresses are those of a host's root
        shutil.copytree(work / "site", out)
    return list(problems(out.resolve()))


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "site"
    if found := build(folder):
        sys.exit("\n".join(found))
