import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lora_mnist_cli import pages
from lora_mnist_cli.pages.assembly import as_text, assemble

FOLDER = Path(pages.__file__).parent / "explore"
HOSTILE = '</script><img src=x onerror="alert(1)"><!--<script>{{script}} & \u2028'


class Elements(HTMLParser):
    """What a parser of HTML finds: start tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.texts.append("")
        self.inside = True

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.texts[-1] += data


@pytest.fixture
def made():
    return assemble("explore", {"note": HOSTILE}).decode("utf-8")


def test_a_record_is_read_back_and_makes_no_markup(made):
    found = Elements(made)
    assert not [tag for tag, _ in found.tags if tag == "img"]
    record = next(text for (_, attrs), text in zip(found.tags, found.texts, strict=True) if attrs.get("id") == "record")
    assert json.loads(record) == {"note": HOSTILE}
    assert not set("<>&") & set(as_text({"note": HOSTILE}))


def test_the_policy_allows_the_one_style_and_the_one_script_alone(made):
    found = Elements(made)
    policy = next(attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    rules = {name: rest.split() for name, _, rest in (rule.partition(" ") for rule in policy.split("; "))}
    assert rules["default-src"] == ["'none'"]
    assert set(rules) == {"default-src", "script-src", "style-src", "base-uri", "form-action"}
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        texts = [
            text
            for (name, attrs), text in zip(found.tags, found.texts, strict=True)
            if name == tag and "type" not in attrs
        ]
        assert len(texts) == 1
        digest = base64.b64encode(hashlib.sha256(texts[0].encode()).digest()).decode()
        assert rules[rule] == [f"'sha256-{digest}'"]


def test_every_file_of_the_folder_is_in_the_page_and_none_is_long(made):
    listed = (FOLDER / "files.txt").read_text().split()
    assert sorted([*listed, "files.txt", "page.html"]) == sorted(path.name for path in FOLDER.iterdir())
    for path in FOLDER.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 330, path.name
        if path.name in listed:
            assert "\n".join(lines) in made


@pytest.mark.parametrize(
    "word", ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "http://", "https://"]
)
def test_no_script_makes_markup_of_text_or_names_an_address(word):
    for path in FOLDER.glob("*.js"):
        assert word not in re.sub(r'"http://www.w3.org/2000/svg"', "", path.read_text(encoding="utf-8")), path.name
