"""A hand at the page: drawing, sliders, test images, lessons, and the address that holds all of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from drawing.handwriting import STROKES

pytestmark = pytest.mark.browser

SPOKEN = re.compile(r"base: ([0-9]), >?([0-9]+\.[0-9]) %; adapter: ([0-9]), >?([0-9]+\.[0-9]) %")


def _draw(browser, digit, kind="mouse"):
    """Draws a digit on the pad with a pointer of a kind."""
    box = browser.run(
        "const box = document.getElementById('pad').getBoundingClientRect(); return [box.x, box.y, box.width]"
    )
    left, top, side = box

    def send(event, x, y):
        at = {"x": left + (0.25 + 0.5 * x) * side, "y": top + (0.15 + 0.7 * y) * side}
        if kind == "touch":
            names = {"Pressed": "touchStart", "Moved": "touchMove", "Released": "touchEnd"}
            browser.cdp("Input.dispatchTouchEvent", type=names[event], touchPoints=[] if event == "Released" else [at])
        else:
            held = {"button": "left", "buttons": 0 if event == "Released" else 1, "pointerType": kind, "clickCount": 1}
            browser.cdp("Input.dispatchMouseEvent", type=f"mouse{event}", **at, **held)

    for stroke in STROKES[digit]:
        send("Pressed", *stroke[0])
        for point in stroke[1:]:
            send("Moved", *point)
        send("Released", *stroke[-1])
    browser.settle()


def _press(browser, selector, *keys):
    from selenium.webdriver.common.keys import Keys

    element = browser.element(selector)
    for key in keys:
        element.send_keys(getattr(Keys, key, key))
    browser.settle()


def test_a_digit_is_drawn_and_answered_before_anybody_does_anything(opened):
    opened.settle()
    assert SPOKEN.fullmatch(opened.text("#status"))
    assert opened.text("#base-answer tr.best th") == "4, old"


@pytest.mark.parametrize("kind", ["mouse", "touch", "pen"])
def test_a_pointer_draws_a_7_and_both_answer(opened, kind):
    opened.element("#clear").click()
    opened.settle()
    assert opened.text("#status") == "the pad is empty"
    assert "empty" in opened.text("#pad-note")
    assert opened.run("return document.querySelectorAll('tr.best').length") == 0
    _draw(opened, 7, kind)
    base, _, adapted, _ = SPOKEN.fullmatch(opened.text("#status")).groups()
    assert int(base) < 5  # it has never seen a 7
    assert int(adapted) > 4  # after one epoch it may name another new digit
    assert len(opened.state()["strokes"]) == len(STROKES[7])
    assert opened.run("return getComputedStyle(document.getElementById('pad')).touchAction") == "none"
    assert opened.run("return scrollY") == 0


def test_strokes_are_taken_back_one_by_one(opened):
    count = len(opened.state()["strokes"])
    opened.element("#undo").click()
    assert len(opened.state()["strokes"]) == count - 1


def test_alpha_rests_at_the_base_bit_for_bit_and_at_the_trained_one(opened):
    opened.element("#rest-base").click()
    base, adapted = opened.compute(
        "const now = compute(store.state, inkOfStrokes(store.state.strokes), 1);"
        "return [[...now.base], [...now.adapted]]"
    )
    assert base == adapted
    assert "bit for bit" in opened.text("#alpha-value")
    opened.element("#rest-trained").click()
    assert opened.state()["step"] == 20
    _press(opened, "#alpha", "HOME")
    assert opened.text("#alpha-value") == "−0.50"
    _press(opened, "#alpha", "END", "ARROW_LEFT")
    assert opened.text("#alpha-value") == "1.45"
    assert "--alpha 1.45" in opened.text("#command")


def test_all_sliders_of_alpha_are_one(opened):
    _press(opened, ".under-curve", "ARROW_LEFT", "ARROW_LEFT")
    assert opened.state()["step"] == 18
    assert (
        opened.run("return [...document.querySelectorAll('#alpha, .alpha-copy')].map((each) => each.value)")
        == ["18"] * 3
    )


def test_ranks_and_components(opened):
    opened.click("#ranks input[value='1']")
    assert opened.text("#adapter-title") == "Adapter, rank 2"
    assert opened.text("#components-value") == "all 2"
    whole = opened.text("#adapter-answer tbody")
    _press(opened, "#components", "ARROW_LEFT")
    assert opened.text("#components-value") == "only the first of 2"
    assert opened.text("#adapter-answer tbody") != whole
    assert opened.run("return document.getElementById('command').hidden")  # the command line has no such model


def test_the_dots_follow_the_slider_with_python_s_counts(opened):
    counts = opened.compute("return [model.record.counts, model.adapters[0].right, model.adapters[0].right_known]")
    old = sum(counts[0][:5])
    for known, right in ((False, counts[1]), (True, counts[2])):
        if known:
            opened.click("#known")
        for step in (0, 20):
            opened.compute("store.update({ step: given[0] })", step)
            opened.click("#forgotten-title")
            expected = f"{100 * right['old'][step + 10] / old:.2f} %"
            assert f"old 0\u2060–\u20604: {expected}" in opened.text("#curve-text")


def test_a_test_image_is_chosen_and_marked_by_who_gets_it_right(opened):
    from selenium.webdriver.common.keys import Keys

    first = opened.element("#gallery button")
    first.send_keys(Keys.ARROW_DOWN)
    opened.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    opened.settle()
    assert opened.state()["test"] == 11
    assert opened.state()["fit"] is False
    label = opened.element("#gallery button[aria-pressed=true]").get_attribute("aria-label")
    assert re.fullmatch(r"1: base [0-9], adapter [0-9], (kept|learned|forgotten|neither)", label)
    same = opened.compute(
        "const pixels = unfitted(inkOfImage(model.images[11]), PAD);"
        "return pixels.every((value, i) => Math.abs(value - model.images[11][i] / 255) < 1e-6)"
    )
    assert same
    opened.element("#rest-base").click()
    opened.settle()
    tally = opened.text("#tally")
    assert "0 learned" in tally
    assert "0 forgotten" in tally


def test_the_input_is_shown_as_drawn_and_as_the_model_sees_it(opened):
    opened.element("input[name=seen][value='1']").click()
    assert opened.element("#pad").get_attribute("width") == "28"
    centred = opened.text("#adapter-answer tbody")
    opened.element("#fit").click()
    opened.settle()
    assert opened.text("#adapter-answer tbody") != centred
    assert "fits and centres every picture" in opened.text("#command-note")
    opened.element("input[name=seen][value='0']").click()
    assert opened.element("#pad").get_attribute("width") == "280"


def test_layers_and_components_are_shown(opened):
    opened.click("#layers input[value='2']")
    assert (
        opened.run("return [...document.querySelectorAll('#matrices canvas')].map((each) => [each.width, each.height])")
        == [[64, 10]] * 3
    )
    opened.click("#ranks input[value='1']")
    opened.click("#adds-title")
    opened.click("#values button:nth-child(2)")
    assert opened.text("#component-title") == "Component 2"
    opened.click("#active label:nth-child(3) input")
    assert opened.state()["off"] == ["fc3"]
    assert "of the 100 test images here" in opened.text("#curve-text")
    rows = opened.run("return [...document.querySelectorAll('#parameters tbody tr')].map((row) => row.textContent)")
    assert rows == [
        f"{row}\u00a0%" for row in ("fc150,2401,6963.4", "fc24,1602566.2", "fc365014822.8", "all55,0502,1003.8")
    ]


def test_answers_are_hidden_until_somebody_has_guessed(opened):
    opened.run("document.getElementById('guess-first').click()")
    opened.settle()
    assert set(opened.text("#answers tbody").replace(", old", "").replace(", new", "")) == set("0123456789–")
    assert "hidden" in opened.text("#status")
    opened.run("document.querySelectorAll('#guesses button')[9].click()")
    opened.settle()
    assert opened.text("#guess-result").startswith("You said 9, and it says ")
    assert "." in opened.text("#answers tbody")
    opened.element("#clear").click()
    _draw(opened, 3)
    assert "." not in opened.text("#answers tbody")


def test_the_address_holds_the_whole_state(browser, page):
    browser.open(page)
    start = browser.state()
    changed = {
        "adapter": 1, "step": -7, "components": 1, "off": ["fc2"], "strokes": [[1, 2, 279, 30], [100, 101]],
        "fit": False, "seen": True, "layer": 2, "component": 1, "known": True, "hide": ["adds", "trust"],
        "lesson": "alpha", "place": 2, "guess": True,
    }  # fmt: skip
    assert set(changed) | {"test"} == set(start)
    browser.compute("store.update(given[0])", changed)
    browser.settle()
    hash_ = browser.run("return location.hash.slice(1)")
    browser.open(page, hash_)
    assert browser.state() == start | changed
    browser.compute("store.update({ test: 17 })")
    browser.settle()
    browser.open(page, browser.run("return location.hash.slice(1)"))
    assert browser.state() == start | changed | {"test": 17, "strokes": start["strokes"]}
    browser.run("location.hash = 'alpha=0'")
    browser.settle()
    assert browser.state() == start | {"step": 0}


@pytest.mark.parametrize(
    "hash_",
    ["alpha=NaN&k=-3&test=1e9&layer=none&component=x&hide=all&lesson=toString&place=-1", "drawing=~~~&adapter=", "%"],
)
def test_a_strange_address_is_a_page_all_the_same(browser, page, hash_):
    browser.open(page, hash_)
    browser.settle()
    assert browser.logs() == []
    assert browser.run("return document.getElementById('problem').hidden")


def test_what_makes_no_sense_in_an_address_is_left_as_at_the_start(browser, page):
    browser.open(page)
    start = browser.state()
    browser.open(page, "alpha=NaN&k=x&test=&component=Infinity&layer=none&adapter=none")
    assert browser.state() == start | {"test": 0}  # nothing counts as zero
    browser.open(page, "drawing=" + "0000" * 10_000)
    assert len(browser.state()["strokes"][0]) == 4000


def test_parts_can_be_hidden(browser, page):
    browser.open(page, "hide=forgotten,adds,class,trust")
    for part in ("forgotten", "adds", "class", "trust"):
        assert not browser.element(f"#{part}").is_displayed()
    assert browser.element("#base-answer").is_displayed()


def test_pictures_of_clothes_are_chosen_and_not_drawn(browser, clothes):
    browser.open(clothes)
    browser.settle()
    assert browser.logs() == []
    assert browser.text("#base-answer tbody tr:first-child th") == "T-shirt/top, old"
    for hidden in ("#undo", "#fit", "#command"):
        assert not browser.element(hidden).is_displayed()
    assert browser.element("#pad").get_attribute("role") == "img"
    browser.click("#samples button:nth-child(10)")
    assert browser.text("#status").startswith("base: ")
    assert browser.compute("return model.labels[store.state.test]") == 9


def test_the_densities_say_whose_digit_it_is_as_the_router_does(browser, routed, trained):
    from lora_mnist_cli.stages.evaluating_routed import load_experts
    from lora_mnist_cli.stages.workspace import Workspace

    browser.open(routed)
    workspace = Workspace(trained)
    name = browser.compute("return model.adapters[0].name")
    experts = load_experts([name], by="mixture", workspace=workspace)
    shares = browser.compute(
        "const densities = model.routing.pairs[0].experts.map((number) => model.routing.densities[number]);"
        "const kernel = blurKernel();"
        "return model.inputs.map((input) => expertShares(densities, input, model.routing.temperature, kernel))"
    )
    test = workspace.test_images(experts.base, experts.pixel_stats)
    rows = [int(row) for label in range(10) for row in (test.labels == label).nonzero()[:10, 0]]
    expected = experts.model.log_posterior(test.images[rows]).exp()
    assert abs(np.array(shares) - expected.numpy()).max() < 1e-3
    browser.click("#samples button:nth-child(1)")
    browser.click("#cure-title")
    assert "ask the base" in browser.text("#cure-bars")
    assert "together: 0" in browser.text("#cure-bars")
