"""The page to explore in a headless Chromium: how soon it answers, and how long a frame takes while alpha moves.

Run it from the root of the checkout: ``python benchmarks/explore.py runs/study/explore.html --rounds 10``. It needs the
extra browser-test and a Chromium with its driver. A frame is the page's own work with the layout that it causes, from
the event of the slider on; at 60 frames a second there are 16.7 ms for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from browser.chromium import Browser, start
from harness import hardware, options, report, spread, table

MOVE = """
const times = [];
const began = performance.now();
document.getElementById(given[0])?.scrollIntoView();
await new Promise((done) => setTimeout(done, 300));
const slider = document.getElementById("alpha");
for (let i = 0; i < 120; i++) {
  await new Promise(requestAnimationFrame);
  slider.value = Math.abs((i % 80) - 40) - 10;
  const start = performance.now();
  slider.dispatchEvent(new Event("input"));
  store.draw();
  document.body.getBoundingClientRect();
  times.push(performance.now() - start);
}
return times;
"""
PLACES = {"the first screen": "pad", "what is forgotten": "forgotten", "what the adapter adds": "adds"}


def main() -> None:
    """Print the figures."""
    parser = options(__doc__, rounds=10)
    parser.add_argument("page", type=Path, help="the HTML file")
    given = parser.parse_args()
    first: list[float] = []
    frames: dict[str, list[float]] = {place: [] for place in PLACES}
    driver = start()
    if isinstance(driver, str):
        sys.exit(driver)
    browser = Browser(driver)
    for _ in range(given.rounds):
        browser.open(given.page.resolve())
        first.append(browser.run("return performance.getEntriesByName('first-answer')[0].startTime"))
        for place, part in PLACES.items():
            frames[place] += browser.compute(MOVE, part)
    driver.quit()
    rows = [("open to first answer", str(len(first)), spread(first, 0, " ms"))]
    for place, times in frames.items():
        ordered = sorted(times)
        within = f"{median(times):.1f} ms (95 % within {ordered[int(0.95 * len(ordered))]:.1f} ms)"
        rows.append((f"a frame while alpha moves, {place} in sight", str(len(times)), within))
    report(given, table(("what", "n", "time"), rows), hardware())


if __name__ == "__main__":
    main()
