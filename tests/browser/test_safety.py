"""What the page asks for (nothing), whom it believes (nobody), and what it says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_mnist_cli.stages import Workspace, explore

pytestmark = pytest.mark.browser

HOSTILE = "</script><img src=x onerror=\"document.title='hacked'\"><!--<script>{{script}}"


def test_nothing_is_asked_for_and_nothing_goes_wrong(browser, page):
    browser.requests()
    browser.open(page)
    browser.settle()
    assert [url for url in browser.requests() if url.startswith(("http", "file", "ws"))] == [page.as_uri()]
    assert browser.logs() == []


def test_its_policy_forbids_every_request(opened):
    refused = opened.compute(
        "const refused = [];"
        "document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));"
        "await fetch('https://example.org/').catch(() => {});"
        "new Image().src = 'https://example.org/picture.png';"
        "document.body.append(element('script', { src: 'data:text/javascript,0' }));"
        "document.body.append(element('style', {}, 'body { color: red }'));"
        "await new Promise((done) => setTimeout(done, 300)); return refused.sort()"
    )
    assert {"connect-src", "img-src", "style-src-elem"} <= set(refused)
    assert any(each.startswith("script-src") for each in refused)
    opened.logs()


def test_it_says_how_far_it_is_from_python_and_where_its_artifacts_come_from(opened, trained):
    workspace = Workspace(trained)
    assert float(opened.run("return document.getElementById('trust-text').dataset.difference")) < 1e-4
    rows = opened.text("#origins")
    for name in opened.compute("return [model.record.base.name, ...model.adapters.map((adapter) => adapter.name)]"):
        assert name in rows
        assert workspace.registry.get(name).digest[:19] in rows


def test_a_page_whose_numbers_differ_from_python_s_says_so(browser, page, tmp_path):
    # Other weights than those that the logits were computed with.
    content = page.read_text(encoding="utf-8")
    start = content.index('"factors":"') + len('"factors":"')
    end = content.index('"', start)
    other = content.index('"factors":"', end) + len('"factors":"')
    swapped = content[:other] + content[start:end] + content[content.index('"', other) :]
    swapped = swapped.replace('"rank":2,"bias"', '"rank":1,"bias"')
    (tmp_path / "other.html").write_text(swapped, encoding="utf-8")
    browser.open(tmp_path / "other.html")
    assert browser.text("#trust-text").startswith("No")


def test_notes_and_names_are_text(browser, trained, tmp_path, forge):
    runs = Path(shutil.copytree(trained, tmp_path / "runs", ignore=shutil.ignore_patterns(".statistics")))
    name = json.loads((next(runs.glob("sweep*")) / "artifact.json").read_text())["details"]["results"][0]["artifact"]
    forge(runs / name, lambda manifest: manifest.update(note=HOSTILE))
    explore([name], output=tmp_path / "explore.html", workspace=Workspace(runs))
    browser.open(tmp_path / "explore.html")
    browser.settle()
    assert browser.logs() == []
    assert browser.run("return document.images.length") == 0
    assert browser.run("return document.title").startswith("base-0-4 and ")
    assert HOSTILE in browser.text("#origins")
