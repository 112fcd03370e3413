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

// What tells adapters apart: the rank alone where that is enough.
function adapterLabels(adapters) {
  const ranks = adapters.map((adapter) =>
    adapter.rank && adapter.method === "lora" ? String(adapter.rank) : adapter.title,
  );
  const unique = new Set(ranks).size === ranks.length;
  return unique ? ranks : adapters.map((adapter) => adapter.name);
}

function makeControls(model, store) {
  const labels = adapterLabels(model.adapters);
  const byRank = labels.every((label, i) => label === String(model.adapters[i].rank));
  write(byId("ranks-title"), byRank ? "rank" : "adapter");
  const showRank = makeSegments(byId("ranks"), "rank", labels, (adapter) => store.update({ adapter, component: 0 }));
  const alphas = [byId("alpha"), ...document.querySelectorAll(".alpha-copy")];
  for (const alpha of alphas) alpha.addEventListener("input", () => store.update({ step: Number(alpha.value) }));
  byId("rest-base").addEventListener("click", () => store.update({ step: 0 }));
  byId("rest-trained").addEventListener("click", () => store.update({ step: STEPS }));
  const components = byId("components");
  components.addEventListener("input", () => {
    const all = Number(components.value) === Number(components.max);
    store.update({ components: all ? 0 : Number(components.value) });
  });

  function render(state, now) {
    showRank(state.adapter);
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
    const count = state.components === 0 ? `all ${most}` : `the first ${Math.min(state.components, most)} of ${most}`;
    write(byId("components-value"), count);
    mark(components, "aria-valuetext", count);
  }

  return { render };
}
