// For a class: three lessons, guessing first, hiding parts, and the link that holds it all.

const WHOLE = { components: 0, off: [], known: false, step: STEPS };

// A rate of an adapter's own count over all test images, at an alpha of the slider.
function rateOf(model, adapter, half, step, known = false) {
  const digits = half === "old" ? model.oldDigits : adapter.new;
  const hits = (known ? adapter.right_known : adapter.right)[half][model.record.shares.indexOf(step / STEPS)];
  return percent(hits / sumOf(digits.map((digit) => model.record.counts[digit])), 1);
}

function byRank(model) {
  return model.adapters.map((adapter, i) => [adapter.rank ?? 0, i]).sort((one, other) => one[0] - other[0]);
}

// Each lesson is a row of places: what to set there, and what to say.
const LESSONS = {
  ranks: {
    title: (model) => `Rank ${byRank(model)[0][0]} against ${byRank(model).at(-1)[0]}`,
    about: "How many numbers does an adapter need?",
    fits: (model) =>
      model.adapters.length > 1 && byRank(model)[0][0] > 0 && byRank(model)[0][0] < byRank(model).at(-1)[0],
    places: [
      [
        (model) => ({ ...WHOLE, adapter: byRank(model)[0][1] }),
        (model, adapter) =>
          `This is the smallest adapter: ${sumOf(Object.values(adapter.parameters)).toLocaleString("en")} numbers beside the base’s ${model.parameters.toLocaleString("en")}. It gets ${rateOf(model, adapter, "new", STEPS)} of the new digits right. Before you go on: what will the largest one get?`,
      ],
      [
        (model) => ({ ...WHOLE, adapter: byRank(model).at(-1)[1] }),
        (model, adapter) =>
          `The largest adapter has ${sumOf(Object.values(adapter.parameters)).toLocaleString("en")} numbers and gets ${rateOf(model, adapter, "new", STEPS)}. Of the old digits, it gets ${rateOf(model, adapter, "old", STEPS)}. Does a larger adapter forget less?`,
      ],
      [
        (model) => ({ ...WHOLE, adapter: byRank(model).at(-1)[1], components: 1 }),
        () =>
          "Now only the first component of each layer is left of the large adapter. Move the slider of components up: how many does it need? Compare with the singular values under “What the adapter adds”.",
      ],
    ],
  },
  forgetting: {
    title: () => "Where forgetting lives",
    about: "Is the knowledge gone, or only outvoted?",
    fits: (model) => model.adapters.some((adapter) => adapter.new.length > 0),
    places: [
      [
        () => WHOLE,
        (model, adapter) =>
          `The adapter learned only ${asRanges(adapter.learned)}. Of the old digits it now gets ${rateOf(model, adapter, "old", STEPS)} right. Look at the rows of the old digits: what does it take them for?`,
      ],
      [
        () => ({ ...WHOLE, known: true }),
        (model, adapter) =>
          `“Task known” is on: for an old image only the old digits may be answered. Now ${rateOf(model, adapter, "old", STEPS, true)} are right. What came back was never gone; the new logits had only outvoted it. What did not come back is forgotten.`,
      ],
      [
        (model) => ({ ...WHOLE, off: [model.layers.at(-1).name] }),
        (model) =>
          `Now the adapter no longer acts on ${model.layers.at(-1).name}, the last layer, which holds one row of weights per digit. How many old digits are back? And what happened to the new ones?`,
      ],
      [
        (model) => ({ ...WHOLE, off: model.layers.slice(0, -1).map((layer) => layer.name) }),
        (model) =>
          `And now it acts on ${model.layers.at(-1).name} alone. So where does the forgetting live, and where does the learning?`,
      ],
    ],
  },
  alpha: {
    title: () => "What alpha does",
    about: "A dial between two networks.",
    fits: () => true,
    places: [
      [
        () => ({ ...WHOLE, step: 0 }),
        () =>
          "At alpha 0 nothing is added: both answers are the base’s, bit for bit. The base was frozen, so it is still all there.",
      ],
      [
        () => ({ ...WHOLE, step: STEPS / 2 }),
        (model, adapter) =>
          `Half of the change is added. Old digits: ${rateOf(model, adapter, "old", STEPS / 2)}${adapter.new.length > 0 ? `; new ones: ${rateOf(model, adapter, "new", STEPS / 2)}` : ""}. Move the slider slowly: is there an alpha at which both are good?`,
      ],
      [() => WHOLE, () => "This is the alpha that the adapter was trained with. Draw an old digit, then a new one."],
      [
        () => ({ ...WHOLE, step: 1.5 * STEPS }),
        () =>
          "More than was trained, and below zero less than nothing. Which digits does the network name at −0.5, and why might that be?",
      ],
    ],
  },
};

function makeLessons(model, store) {
  const fitting = Object.entries(LESSONS).filter(([, lesson]) => lesson.fits(model));
  for (const [name, lesson] of fitting) {
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
    store.update({ ...LESSONS[name].places[place][0](model), lesson: name, place });
    byId("lesson").scrollIntoView({ block: "nearest" });
    byId("lesson-next").focus();
  }

  byId("lesson-next").addEventListener("click", () => {
    const { lesson, place } = store.state;
    if (place + 1 < LESSONS[lesson].places.length) go(lesson, place + 1);
    else end();
  });
  byId("lesson-back").addEventListener("click", () => go(store.state.lesson, store.state.place - 1));
  byId("lesson-end").addEventListener("click", end);

  function end() {
    store.update({ lesson: "", place: 0 });
    byId("alpha").focus();
  }

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
    const lesson = fitting.find(([name]) => name === state.lesson)?.[1];
    byId("lesson").hidden = lesson === undefined;
    if (lesson) {
      const place = Math.min(state.place, lesson.places.length - 1);
      write(byId("lesson-title"), lesson.title(model));
      write(byId("lesson-text"), lesson.places[place][1](model, model.adapters[state.adapter]));
      write(byId("lesson-place"), `${place + 1} of ${lesson.places.length}`);
      byId("lesson-back").disabled = place === 0;
      write(byId("lesson-next"), place + 1 < lesson.places.length ? "Next" : "Done");
    }
    for (const [part, input] of boxes) input.checked = state.hide.includes(part);
    for (const each of document.querySelectorAll("[data-part]")) {
      const { part } = each.dataset;
      each.hidden = state.hide.includes(part) || (part === "cure" && !model.routing);
    }
    byId("guess-first").checked = state.guess;
  }

  return { render };
}

// Guessing first: the answers to an input stay hidden until somebody has said what the adapter will answer.
function makeGuessing(model, store) {
  const made = { key: null, guess: -1, right: 0, all: 0 };
  write(byId("guess-question"), "Guess first: what will the network with the adapter answer?");
  model.names.forEach((name, digit) => {
    byId("guesses").append(element("button", { type: "button", onclick: () => guess(digit) }, name));
  });
  let present = null;

  function guess(digit) {
    if (present === null || present.adapted === null || made.key === present.key) return;
    Object.assign(made, { key: present.key, guess: digit, all: made.all + 1 });
    if (digit === bestOf(present.adapted)) made.right += 1;
    store.update({});
  }

  function render(state, now) {
    present = now;
    byId("guess").hidden = !state.guess;
    const done = made.key === now.key;
    for (const button of byId("guesses").children) button.disabled = done || now.adapted === null;
    const said = done ? bestOf(now.adapted) : -1;
    write(
      byId("guess-result"),
      done
        ? `You said ${model.names[made.guess]}, and it says ${model.names[said]}. ${made.right} of ${made.all} guesses were right.`
        : "",
    );
  }

  return { render, isMade: (key) => made.key === key };
}
