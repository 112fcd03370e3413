// Test images, a row per class: who gets each right as alpha moves. They can be chosen, too, so nobody has to draw; the
// answers to the chosen one stand beside them.

const VERDICTS = {
  kept: ["✓", "base and adapter right"],
  learned: ["+", "the adapter right, the base wrong"],
  forgotten: ["✗", "the base right, the adapter wrong"],
  neither: ["–", "both wrong"],
};

function verdictOf(label, base, adapted) {
  if (base === label) return adapted === label ? "kept" : "forgotten";
  return adapted === label ? "learned" : "neither";
}

function makeGallery(model, store) {
  const place = byId("gallery");
  const choose = (test) => store.update({ test, fit: false, seen: false });
  const buttons = model.images.map((image, i) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    paintGrey(canvas, image, SIDE);
    const sign = element("span", { class: "sign", "aria-hidden": "true" });
    const button = element(
      "button",
      { type: "button", tabindex: i === 0 ? 0 : -1, onclick: () => choose(i) },
      canvas,
      sign,
    );
    return { button, sign };
  });
  place.append(...buttons.map(({ button }) => button));
  const columns = Math.max(...model.names.map((_, digit) => model.labels.filter((label) => label === digit).length));
  place.style.setProperty("--columns", columns);
  place.addEventListener("keydown", (event) => moveFocus(event, place, columns));

  // One image of each class beside the pad.
  const samples = model.names.flatMap((name, digit) => {
    const first = model.labels.indexOf(digit);
    if (first < 0) return [];
    const canvas = element("canvas", { "aria-hidden": "true" });
    paintGrey(canvas, model.images[first], SIDE);
    return [
      element("button", { type: "button", "aria-label": `test image: ${name}`, onclick: () => choose(first) }, canvas),
    ];
  });
  byId("samples").append(...samples);

  const tally = Object.fromEntries(
    Object.entries(VERDICTS).map(([verdict, [sign, meaning]]) => {
      const count = element("strong");
      const shape = element("span", { class: `sign ${verdict}`, "aria-hidden": "true" }, sign);
      byId("tally").append(
        element("li", {}, shape, count, ` ${verdict}`, element("span", { class: "hint" }, ` ${meaning}`)),
      );
      return [verdict, count];
    }),
  );

  function renderChosen(state, now) {
    let text = "";
    if (state.test >= 0 && now.secret) {
      text = "The answers are hidden until you guess.";
    } else if (state.test >= 0) {
      const { base, adapted } = now.answers[state.test];
      const which = `${model.drawing ? "This" : "Chosen:"} ${model.nameOf(now.label)}`;
      text = `${which}: ${verdictOf(now.label, base, adapted)} (${bothAnswers(model, now)}).`;
    }
    write(byId("gallery-answer"), text);
  }

  function render(state, now) {
    if (!now.sees("forgotten")) return;
    renderChosen(state, now);
    const counts = { kept: 0, learned: 0, forgotten: 0, neither: 0 };
    now.answers.forEach(({ base, adapted }, i) => {
      const label = model.labels[i];
      const verdict = verdictOf(label, base, adapted);
      counts[verdict] += 1;
      const shown = buttons[i];
      const { button, sign } = shown;
      const key = [base, adapted, state.test === i].join();
      if (shown.key === key) return;
      shown.key = key;
      mark(button, "class", verdict);
      write(sign, VERDICTS[verdict][0]);
      mark(button, "aria-pressed", String(state.test === i));
      mark(
        button,
        "aria-label",
        `${model.nameOf(label)}: base ${model.nameOf(base)}, adapter ${model.nameOf(adapted)}, ${verdict}`,
      );
    });
    for (const [verdict, count] of Object.entries(counts)) write(tally[verdict], String(count));
  }

  return { render };
}
