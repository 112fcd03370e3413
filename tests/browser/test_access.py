"""Everyone can use it: by keyboard alone, on a narrow screen, in the dark, with a reader of the screen."""

from __future__ import annotations

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.browser


def _keys(browser, *keys):
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        browser.driver.switch_to.active_element.send_keys(getattr(Keys, key, key))


def test_all_of_it_works_by_keyboard_alone(opened):
    opened.run("document.body.focus()")
    reached = []
    for _ in range(60):
        _keys(opened, "TAB")
        reached.append(
            opened.run("const e = document.activeElement; return e.id || e.name || e.className || e.tagName")
        )
        if reached[-1] == "BODY":
            break
    for needed in ("pad", "undo", "clear", "save", "alpha", "rest-base", "rank", "fit", "known", "layer", "copy"):
        assert needed in reached, reached
    opened.run("document.getElementById('clear').click(); document.getElementById('pad').focus()")
    opened.settle()
    _keys(opened, "SPACE", *["ARROW_DOWN"] * 22, "SPACE")
    opened.settle()
    assert opened.text("#pad-note") == "pen up"
    strokes = opened.state()["strokes"]
    assert len(strokes) == 1
    assert strokes[0][-1] - strokes[0][1] == 22 * 7
    assert opened.text("#status").startswith("base: ")
    _keys(opened, "BACKSPACE")
    assert opened.state()["strokes"] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_needs_scrolling_aside(browser, page, width):
    browser.open(page, width=width, height=700)
    browser.settle()
    wide = browser.run("return [document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(wide) <= width
    # Targets are 24 pixels or more, or stand apart (WCAG 2.2, 2.5.8).
    small = browser.run(
        "return [...document.querySelectorAll('button, input, select')].filter((each) => each.offsetParent !== null)"
        ".map((each) => (each.closest('label') ?? each).getBoundingClientRect())"
        ".filter((box) => box.width < 24 || box.height < 24).length"
    )
    assert small == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_axe_finds_nothing_serious(browser, page, axe, scheme, width):
    browser.open(page, width=width, prefers_color_scheme=scheme)
    browser.settle()
    browser.run(axe)  # by the driver: the page's policy would not let it in
    found = browser.compute(
        "const found = (await axe.run(document)).violations;"
        "return found.map(({ id, impact, nodes }) => [id, impact, nodes.map((node) => node.html.slice(0, 200))])"
    )
    assert [each for each in found if each[1] in ("serious", "critical")] == []


@pytest.fixture(scope="session")
def axe(make_once):
    """axe-core's script, fetched from npm."""
    if shutil.which("npm") is None:
        pytest.skip("no npm to fetch axe-core with")

    def fetch(folder):
        command = ["npm", "pack", "axe-core@4", "--silent"]
        fetched = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        if fetched.returncode == 0:
            shutil.unpack_archive(folder / fetched.stdout.split()[-1], folder, "gztar")

    script = make_once("axe", fetch) / "package" / "axe.min.js"
    if not script.exists():
        pytest.skip("axe-core could not be fetched from npm")
    return script.read_text(encoding="utf-8")


def test_in_the_dark_and_in_forced_colours_it_has_other_colours(browser, page):
    colours = []
    for media in ({}, {"prefers_color_scheme": "dark"}, {"forced_colors": "active"}):
        browser.open(page, **media)
        colours.append(browser.run("return getComputedStyle(document.body).backgroundColor"))
    assert colours[0] != colours[1]
    assert browser.run("return matchMedia('(forced-colors: active)').matches")


def test_movement_is_left_out_where_it_is_not_wanted(browser, page):
    script = "return getComputedStyle(document.documentElement).scrollBehavior"
    browser.open(page)
    assert browser.run(script) == "auto"
    browser.open(page, prefers_reduced_motion="no-preference")
    assert browser.run(script) == "smooth"


def test_a_print_has_the_pictures_and_no_buttons(browser, page):
    browser.open(page)
    browser.cdp("Emulation.setEmulatedMedia", media="print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert not browser.element("#undo").is_displayed()
    assert browser.element("#base-answer table").is_displayed()
    assert browser.run("return document.querySelectorAll('.curve polyline').length") == 2
    # On a sheet of another width than the window: the curve as a whole, and the last column of the table.
    outside = browser.run(
        "document.getElementById('curve').style.width = '280px';"
        "const edge = document.querySelector('.curve').getBoundingClientRect();"
        "return [...document.querySelectorAll('.curve *')].map((each) => each.getBoundingClientRect())"
        ".filter((box) => box.right > edge.right + 1 || box.left < edge.left - 1).length"
    )
    assert outside == 0
    browser.cdp("Emulation.setDeviceMetricsOverride", width=718, height=1000, deviceScaleFactor=1, mobile=False)
    assert browser.run("return document.getElementById('origins').getBoundingClientRect().right") <= 718
    browser.cdp("Emulation.setEmulatedMedia", media="")
