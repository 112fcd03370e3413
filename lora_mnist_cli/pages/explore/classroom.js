// For a class: the box of a lesson, hiding parts, and the link that holds it all.

// Moves the page as little as it takes to have elements in sight above the box of a lesson, the first of them at least.
function bringIntoSight(selectors) {
  const GAP = 12;
  const boxes = selectors
    .map((selector) => document.querySelector(selector))
    .filter((each) => each.offsetParent !== null)
    .map((each) => (each.closest("label, .control") ?? each).getBoundingClientRect());
  if (boxes.length === 0) return;
  const top = Math.min(...boxes.map((box) => box.top)) - GAP;
  const bottom = Math.max(...boxes.map((box) => box.bottom)) + GAP;
  const below = bottom - byId("lesson").getBoundingClientRect().top;
  if (top < 0 || below > 0) window.scrollBy(0, top < 0 ? top : Math.min(top, below));
}

function makeLessons(model, store) {
  const shown = { key: "", before: null };
  for (const name of lessonsOf(model)) {
    const lesson = LESSONS[name];
    byId("lessons").append(
      element(
        "button",
        { type: "button", class: "card", onclick: () => go(name, 0) },
        element("strong", {}, lesson.title(model)),
        element("span", {}, lesson.about),
      ),
    );
  }

  function go(name, place) {
    const { state } = store;
    if (state.lesson === "") shown.before = Object.fromEntries(SET_BY_LESSONS.map((key) => [key, state[key]]));
    store.update({ ...LESSONS[name].places[place].set(model), lesson: name, place });
    requestAnimationFrame(() => byId("lesson-next").focus({ preventScroll: true }));
  }

  byId("lesson-next").addEventListener("click", () => {
    const { lesson, place } = store.state;
    if (place + 1 < LESSONS[lesson].places.length) go(lesson, place + 1);
    else end();
  });
  byId("lesson-back").addEventListener("click", () => go(store.state.lesson, store.state.place - 1));
  byId("lesson-end").addEventListener("click", end);

  // The page is as it was before the lesson, and stays where it is.
  function end() {
    const before = shown.before ?? Object.fromEntries(SET_BY_LESSONS.map((key) => [key, store.start[key]]));
    store.update({ ...before, lesson: "", place: 0 });
    byId("alpha").focus({ preventScroll: true });
  }

  function arrive(look) {
    store.drawEvery(); // what is out of sight gets its height first
    bringIntoSight(look);
  }

  // The page keeps as much room at its end as the box takes, so that nothing is hidden by it.
  new ResizeObserver(() => {
    document.documentElement.style.setProperty("--lesson", `${byId("lesson").offsetHeight}px`);
  }).observe(byId("lesson"));

  function render(state, now) {
    const lesson = LESSONS[state.lesson];
    byId("lesson").hidden = lesson === undefined;
    const key = lesson ? `${state.lesson} ${state.place}` : "";
    if (lesson) {
      const { say, look } = lesson.places[state.place];
      write(byId("lesson-title"), lesson.title(model));
      write(byId("lesson-text"), say(model, now));
      write(byId("lesson-place"), `${state.place + 1} of ${lesson.places.length}`);
      byId("lesson-back").disabled = state.place === 0;
      write(byId("lesson-next"), state.place + 1 < lesson.places.length ? "Next" : "Done");
      if (shown.key !== key) setTimeout(() => arrive(look));
    }
    shown.key = key;
  }

  return { render };
}

// Hiding parts, the link, the print, and the start.
function makeClassroom(model, store) {
  const parts = Object.entries(PARTS).filter(([part]) => part !== "cure" || model.routing);
  const boxes = parts.map(([part, title]) => {
    const input = element("input", {
      type: "checkbox",
      onchange: () => {
        const hide = parts
          .map(([each]) => each)
          .filter((each) => (each === part ? input.checked : store.state.hide.includes(each)));
        store.update({ hide });
      },
    });
    byId("parts").append(element("label", {}, input, ` ${title}`));
    return [part, input];
  });

  byId("guess-first").addEventListener("change", (event) => store.update({ guess: event.target.checked }));
  byId("print").addEventListener("click", () => window.print());
  byId("reset").addEventListener("click", () => store.reset());
  byId("copy").addEventListener("click", async () => {
    store.keepHash();
    try {
      await navigator.clipboard.writeText(location.href);
      write(byId("copied"), "Copied.");
    } catch {
      write(byId("copied"), "The browser did not allow it: copy the address at the top.");
    }
  });

  function render(state) {
    for (const [part, input] of boxes) input.checked = state.hide.includes(part);
    for (const each of document.querySelectorAll("[data-part]")) {
      const { part } = each.dataset;
      each.hidden = state.hide.includes(part) || (part === "cure" && !model.routing);
    }
    byId("guess-first").checked = state.guess;
  }

  return { render };
}
