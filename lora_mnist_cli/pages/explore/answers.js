// Base and adapter side by side: ten rows each, with probability and logit. Old digits have squares and full bars, new
// ones circles and striped bars, so that nobody needs the colours.

// Both answers as a text, as the digits that may be answered have them.
function bothAnswers(model, now) {
  const spoken = (logits) => {
    const best = bestOf(logits, now.among);
    return `${model.nameOf(best)}, ${probability(softmax(logits, now.among)[best])}`;
  };
  return `base: ${spoken(now.base)}; adapter: ${spoken(now.adapted)}`;
}

function makeAnswers(model) {
  const kindOf = (digit, adapter) =>
    model.oldDigits.includes(digit) ? "old" : adapter.new.includes(digit) ? "new" : "other";

  function makeCard(id, speaker) {
    const card = byId(id);
    const says = element("p", { class: "says" });
    const rows = model.names.map((name, digit) => {
      const row = {
        line: element("tr"),
        probability: element("span", { class: "bar probability" }),
        logit: element("span", { class: "bar logit" }),
        share: element("td", { class: "share" }),
        value: element("td", { class: "value" }),
        shape: element("span", { class: "shape", "aria-hidden": "true" }),
        kind: element("span", { class: "unseen" }),
      };
      row.line.append(
        element("th", { scope: "row" }, row.shape, name, row.kind),
        element(
          "td",
          { class: "bars", "aria-hidden": "true" },
          row.probability,
          element("span", { class: "axis" }, row.logit),
        ),
        row.share,
        row.value,
      );
      row.digit = digit;
      return row;
    });
    const head = element(
      "tr",
      {},
      element("th", { scope: "col" }, element("span", { class: "unseen" }, model.drawing ? "digit" : "class")),
      element("td", {}),
      element("th", { scope: "col", class: "share" }, "prob. %"),
      element("th", { scope: "col", class: "value" }, "logit"),
    );
    const table = element(
      "table",
      { class: model.drawing ? "digits" : "digits named" },
      element("caption", { class: "unseen" }, `${speaker}: probability and logit of each`),
      element("thead", {}, head),
      element("tbody", {}, ...rows.map((row) => row.line)),
    );
    card.append(says, table);
    return { card, says, rows };
  }

  const cards = { base: makeCard("base-answer", "Base"), adapter: makeCard("adapter-answer", "Adapter") };

  function adapterTitle(number) {
    const { kind, texts } = model.choices;
    return kind === "rank" ? `Adapter, rank ${texts[number]}` : `Adapter: ${texts[number]}`;
  }

  // Without logits, or where they are kept back, the rows are empty.
  function renderCard({ says, rows, card }, logits, now, most, otherwise) {
    const shares = logits && softmax(logits, now.among);
    const best = logits && bestOf(logits, now.among);
    for (const row of rows) {
      const kind = kindOf(row.digit, now.adapter);
      const masked = logits && now.among !== null && !now.among.includes(row.digit);
      mark(row.line, "class", `${kind}${row.digit === best ? " best" : ""}${masked ? " masked" : ""}`);
      write(row.kind, { old: ", old", new: ", new", other: ", learned by neither" }[kind]);
      row.probability.style.width = logits ? `${100 * shares[row.digit]}%` : "0";
      const size = logits ? (50 * Math.abs(logits[row.digit])) / most : 0;
      row.logit.style.width = `${size}%`;
      row.logit.style.left = logits && logits[row.digit] < 0 ? `${50 - size}%` : "50%";
      write(row.share, logits && !masked ? probability(shares[row.digit]).replace("\u00a0%", "") : "–");
      write(row.value, logits ? signed(logits[row.digit], 1) : "–");
    }
    const right = now.label < 0 || !logits ? "" : best === now.label ? "right" : "wrong";
    mark(card, "data-verdict", right);
    says.replaceChildren(
      ...(logits
        ? [
            element("strong", {}, model.nameOf(best)),
            ` ${probability(shares[best])}`,
            ...(right
              ? [element("span", { class: `verdict ${right}` }, right === "right" ? "✓ right" : "✗ wrong")]
              : []),
          ]
        : [element("strong", {}, otherwise)]),
    );
  }

  function renderTask(state, now) {
    const text =
      now.among !== null
        ? `“Task known” is on: only ${asRanges(now.among)} may be answered.`
        : `“Task known” is on, but nobody says whose task this ${now.label < 0 ? "drawing" : "image"} is: all ten may be answered.`;
    byId("task").hidden = !state.known;
    write(byId("task"), text);
  }

  let [waiting, keysOf] = [0, null];

  function renderKeys(adapter) {
    keysOf = adapter;
    const texts = { old: `old ${model.what} (the base learned them)` };
    if (adapter.new.length > 0) texts.new = `new ${model.what} (the adapter learned them)`;
    byId("keys").replaceChildren(
      element(
        "span",
        {},
        "Thin bar: logit, the network’s raw score, from zero in the middle. Thick bar: probability, which the ten logits make together.",
      ),
      ...Object.entries(texts).map(([kind, text]) =>
        element("span", { class: `key ${kind}` }, element("span", { class: "shape", "aria-hidden": "true" }), text),
      ),
    );
  }

  function render(state, now) {
    const most = now.base ? Math.max(1, ...now.base.map(Math.abs), ...now.adapted.map(Math.abs)) : 1;
    const otherwise = now.secret ? "?" : "–";
    renderCard(cards.base, now.secret ? null : now.base, now, most, otherwise);
    renderCard(cards.adapter, now.secret ? null : now.adapted, now, most, otherwise);
    renderTask(state, now);
    write(byId("adapter-title"), adapterTitle(state.adapter));
    if (keysOf !== now.adapter) renderKeys(now.adapter);
    // Said once the hand rests: a reader of the screen would not follow each frame.
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const text = now.secret
        ? "answers are hidden until you guess"
        : now.base
          ? bothAnswers(model, now)
          : "the pad is empty";
      write(byId("status"), text);
      byId("status").classList.toggle("said", now.base === null);
    }, 250);
  }

  return { render };
}
