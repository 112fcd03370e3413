// Alpha, rank and the number of components.

// Radio buttons that look like one bar; `labels` are texts, and `choose` gets the number of the chosen one.
function makeSegments(place, name, labels, choose) {
  const inputs = labels.map((label, i) => {
    const input = element("input", { type: "radio", name, value: i, onchange: () => choose(i) });
    place.append(element("label", {}, input, element("span", {}, label)));
    return input;
  });
  return (chosen) => {
    inputs.forEach((input, i) => {
      input.checked = i === chosen;
    });
  };
}

// What tells adapters apart, and the name of that: ranks where they are enough, or methods, or names.
function adapterLabels(adapters) {
  const labels = (kind) => ({
    kind,
    texts: adapters.map((adapter) => String(adapter[{ rank: "rank", method: "title", adapter: "name" }[kind]])),
  });
  const distinct = ({ texts }) => new Set(texts).size === texts.length;
  const lora = adapters.every((adapter) => adapter.method === "lora" && adapter.combined === null);
  if (lora && distinct(labels("rank"))) return labels("rank");
  return distinct(labels("method")) && adapters.length > 1 ? labels("method") : labels("adapter");
}

function makeControls(model, store) {
  const { kind, texts } = model.choices;
  write(byId("ranks-title"), kind);
  const showRank = makeSegments(byId("ranks"), "rank", texts, (adapter) => store.update({ adapter, component: 0 }));
  const alphas = [byId("alpha"), ...document.querySelectorAll(".alpha-copy")];
  for (const alpha of alphas) alpha.addEventListener("input", () => store.update({ step: Number(alpha.value) }));
  const known = byId("known");
  known.addEventListener("change", () => store.update({ known: known.checked }));
  byId("rest-base").addEventListener("click", () => store.update({ step: 0 }));
  byId("rest-trained").addEventListener("click", () => store.update({ step: STEPS }));
  const components = byId("components");
  components.addEventListener("input", () => {
    const all = Number(components.value) === Number(components.max);
    store.update({ components: all ? 0 : Number(components.value) });
  });

  function render(state, now) {
    showRank(state.adapter);
    known.checked = state.known;
    const text = signed(now.alpha, 2);
    const meaning = state.step === 0 ? "the base, bit for bit" : state.step === STEPS ? "as trained" : "";
    write(byId("alpha-value"), meaning ? `${text} · ${meaning}` : text);
    for (const alpha of alphas) {
      alpha.value = state.step;
      mark(alpha, "aria-valuetext", meaning ? `${text}, ${meaning}` : text);
    }
    write(byId("rest-trained"), `${Number(now.adapter.alpha.toPrecision(3))}: as trained`);
    mark(byId("rest-base"), "aria-pressed", String(state.step === 0));
    mark(byId("rest-trained"), "aria-pressed", String(state.step === STEPS));
    const most = now.adapter.most;
    components.max = most;
    components.disabled = most < 2;
    components.value = state.components || most;
    const all = most === 1 ? "the only one" : `all ${most}`;
    const kept =
      state.components === 0
        ? all
        : `${now.components === 1 ? "only the first" : `the first ${now.components}`} of ${most}`;
    write(byId("components-value"), kept);
    mark(components, "aria-valuetext", kept);
  }

  return { render };
}
