"""A page as what it shows: commands in their order, files, code, and the output of some commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/tutorial.md")
"""The pages whose commands can all be run, in their order and in one folder."""
LEFT_OUT = "…"
"""In an output that a page shows: any text; on a line of its own, any number of lines."""
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block, with what its fence calls it and the paragraph before it."""

    language: str
    text: str
    before: str


@dataclass(frozen=True)
class Command:
    """One call of a program: its words, the files that it reads and writes, and its line.

    ``otherwise`` if it runs only where the one before it failed, as after ``||``; ``may_fail`` if one such follows.
    """

    words: tuple[str, ...]
    line: str
    stdin: str | None = None
    stdout: str | None = None
    otherwise: bool = False
    may_fail: bool = False


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(m[1], m[2], text[: m.start()].rstrip().rpartition("\n\n")[2]) for m in _FENCED.finditer(text)]


def commands(text: str) -> Iterator[Command]:
    """Give the commands of a shell block, a line each or several with ``&&`` or ``||`` between them."""
    for line in text.splitlines():
        shell = shlex.shlex(line, posix=True, punctuation_chars="&|<>")
        shell.whitespace_split = True
        groups: list[tuple[str, list[str]]] = [("&&", [])]
        for word in shell:
            if word in ("&&", "||"):
                groups.append((word, []))
            else:
                groups[-1][1].append(word)
        following = [operator for operator, _ in groups[1:]]
        for (operator, words), after in zip(groups, [*following, ""], strict=True):
            files = {sign: words[words.index(sign) + 1] for sign in "<>" if sign in words}
            plain = [w for i, w in enumerate(words) if w not in "<>" and (not i or words[i - 1] not in "<>")]
            yield Command(tuple(plain), line, files.get("<"), files.get(">"), operator == "||", after == "||")


def unlike(shown: str, printed: str) -> str:
    """Say where a printed output is not what a page shows; empty if it is.

    Blanks may be more or fewer, and a figure with a decimal point may differ as it does between processors: per cents
    by two points, losses by half or a sixth of them.
    """
    ours, theirs = _lines(shown), _lines(printed)
    while ours:
        line = ours.pop(0)
        if line == LEFT_OUT:
            while theirs and not (ours and _alike(ours[0], theirs[0])):
                theirs.pop(0)
            continue
        if not theirs or not _alike(line, theirs[0]):
            return f"{line!r} is shown, and {theirs[0] if theirs else 'nothing'!r} printed"
        theirs.pop(0)
    return f"{theirs[0]!r} is printed, and not shown" if theirs else ""


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and set(line.strip()) != {"─"}]


_FIGURE = re.compile(r"[-+−]?\d[\d,]*\.\d+")


def _alike(shown: str, printed: str) -> bool:
    texts = (re.escape(text).replace(re.escape(LEFT_OUT), ".*") for text in _FIGURE.split(shown))
    match = re.fullmatch(f"({_FIGURE.pattern})".join(texts), printed)
    pairs = zip(_FIGURE.findall(shown), match.groups(), strict=True) if match else ()
    return match is not None and all(_close(ours, theirs) for ours, theirs in pairs)


def _close(shown: str, printed: str) -> bool:
    ours, theirs = (float(figure.replace(",", "").replace("−", "-")) for figure in (shown, printed))
    is_per_cent = len(shown.partition(".")[2]) <= 2
    return abs(ours - theirs) <= (2 if is_per_cent else max(0.5, abs(ours) / 6))
