"""The lessons: what each sets, that what it speaks of is in sight, and that the page is afterwards as it was before."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

PLACES = "return LESSONS[given[0]].places.length"
OUT_OF_SIGHT = """
const { lesson, place } = store.state;
const end = document.getElementById("lesson").getBoundingClientRect().top;
return LESSONS[lesson].places[place].look.filter((selector) => {
  const box = document.querySelector(selector).getBoundingClientRect();
  return box.height === 0 || box.top < 0 || box.bottom > end;
});
"""
"""What a place of a lesson speaks of, where it is not wholly in the window above the lesson's box."""
CARD = "document.querySelectorAll('#lessons button')[arguments[0]]"
NEXT = "document.getElementById('lesson-next').click()"


def test_lessons_set_the_page_and_say_what_to_look_at(opened):
    cards = opened.run(
        "return [...document.querySelectorAll('#lessons button strong')].map((each) => each.textContent)"
    )
    assert cards == ["Rank 1 against 2", "Where forgetting lives", "What alpha does"]
    for number, count in enumerate((4, 4, 5)):
        opened.run("document.querySelectorAll('#lessons button')[arguments[0]].click()", number)
        texts = []
        for place in range(count):
            opened.settle()
            assert opened.text("#lesson-place") == f"{place + 1} of {count}"
            texts.append(opened.text("#lesson-text"))
            opened.run("document.getElementById('lesson-next').click()")
        assert len(set(texts)) == count
        opened.settle()
        assert opened.run("return document.getElementById('lesson').hidden")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_what_a_lesson_speaks_of_is_in_sight(browser, page, width, height):
    browser.open(page, width=width, height=height)
    for number, name in enumerate(("ranks", "forgetting", "alpha")):
        browser.run(f"{CARD}.scrollIntoView()", number)
        browser.run(f"{CARD}.click()", number)
        for place in range(browser.compute(PLACES, name)):
            browser.settle()
            assert browser.state()["place"] == place
            assert browser.compute(OUT_OF_SIGHT) == []
            assert browser.run("return document.activeElement.id") == "lesson-next"
            browser.run(NEXT)
        browser.settle()
    browser.open(page, "lesson=ranks", width=width, height=height)
    browser.settle()
    assert browser.compute(OUT_OF_SIGHT) == []


def test_a_link_to_a_lesson_that_the_adapters_cannot_show_opens_no_lesson(browser, knowing):
    for lesson in ("forgetting", "toString"):
        browser.open(knowing, f"lesson={lesson}&place=2")
        browser.settle()
        assert (browser.logs(), browser.state()["lesson"]) == ([], "")


def test_the_page_stays_where_it_is_while_all_that_is_spoken_of_is_in_sight(browser, page):
    browser.open(page, "lesson=forgetting&place=3", height=1000)
    browser.settle()
    places = [browser.run("return scrollY")]
    assert places[0] > 0
    for _ in range(2):  # on, and out of the lesson
        browser.run(NEXT)
        browser.settle()
        places.append(browser.run("return scrollY"))
    assert len(set(places)) == 1
    assert browser.state()["lesson"] == ""


def test_after_a_lesson_all_is_set_as_it_was_before(opened):
    before = {"adapter": 1, "step": 7, "components": 1, "off": ["fc2"], "known": True}
    opened.compute("store.update(given[0])", before)
    start = opened.state()
    for number in (1, 2):  # the second begins within the first
        opened.run(f"{CARD}.click()", number)
        opened.settle()
    assert opened.state()["step"] == 0
    opened.run("document.getElementById('lesson-end').click()")
    opened.settle()
    assert opened.state() == start


def test_what_is_said_of_a_negative_alpha_is_said_where_alpha_is_negative(browser, page):
    browser.open(page, "lesson=alpha&place=5")
    assert "Below zero" in browser.text("#lesson-text")
    assert browser.text("#alpha-value") == "−0.50"


def test_a_lesson_s_address_alone_sets_what_the_lesson_sets(browser, page):
    browser.open(page, "lesson=alpha")
    assert browser.text("#lesson-title") == "What alpha does"
    assert browser.state()["step"] == 0
    browser.click("#lesson-next")
    assert browser.run("return location.hash") == "#lesson=alpha&place=2"
    browser.open(page, "lesson=alpha&place=2")
    assert browser.state()["step"] == 10
