"""What the page says: one answer the same everywhere, one and many told apart, and one message for an empty pad."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

SAYS_THE_SAME = """
document.getElementById("gallery").scrollIntoView();
await new Promise((done) => setTimeout(done, 300));
const wrong = [];
for (let test = 0; test < model.images.length; test++) {
  store.state = { ...store.state, test, fit: false };
  store.draw();
  const text = document.getElementById("gallery-answer").textContent;
  const verdicts = ["base", "adapter"].map((id) => {
    const card = document.getElementById(`${id}-answer`);
    const [name, share] = ["th", ".share"].map((part) => card.querySelector(`.best ${part}`).lastElementChild
      ? card.querySelector(`.best ${part}`).childNodes[1].textContent
      : card.querySelector(`.best ${part}`).textContent);
    const says = `${name} ${share}\u00a0%`;
    if (!card.querySelector(".says").textContent.startsWith(says)) wrong.push([test, says]);
    if (!text.includes(`${id}: ${name}, ${share}\u00a0%`)) wrong.push([test, says, text]);
    return card.dataset.verdict === "right";
  });
  const [base, adapter] = verdicts;
  const expected = base ? (adapter ? "kept" : "forgotten") : adapter ? "learned" : "neither";
  const marked = document.querySelector("#gallery [aria-pressed=true]").className;
  if (marked !== expected || !text.includes(expected)) wrong.push([test, expected, marked, text]);
}
return wrong;
"""
NOUNS = "row|column|component|epoch|network|adapter|image|unit|guesse"


@pytest.mark.parametrize("known", [0, 1])
def test_an_answer_is_the_same_in_its_card_its_row_beside_the_images_and_in_its_mark(browser, page, known):
    browser.open(page, f"known={known}")
    assert browser.compute(SAYS_THE_SAME) == []


def test_one_is_one_and_many_are_many(browser, page):
    browser.open(page, "guess=1")
    browser.run("document.querySelector('#guesses button').click()")
    browser.settle()
    text = browser.run("return document.body.innerText")
    assert re.findall(rf"\b1 (?:{NOUNS})s\b", text) == []
    assert "A has 1 row and B has 1 column." in text
    assert "1 epoch," in text
    browser.click("#ranks input[value='1']")
    browser.click("#adds-title")
    assert "A has 2 rows and B has 2 columns." in browser.text("#adds-text")
    assert "a sum of 2 components" in browser.text("#values-text")


def test_an_empty_pad_says_so_once(browser, page):
    browser.open(page, "drawing=")
    browser.settle()
    assert browser.text("#status") == "the pad is empty"
    assert browser.run("return getComputedStyle(document.getElementById('status')).opacity") == "0"
    assert browser.run("return document.querySelector('main').innerText.match(/empty/g).length") == 2
    assert not browser.element("#command-note").is_displayed()


def test_a_test_image_says_why_it_is_not_fitted(opened):
    assert not opened.element("#fit-note").is_displayed()
    opened.click("#samples button")
    assert opened.element("#fit-note").is_displayed()
