// What the adapter adds, as pictures of the weights: W, the product B A, and their sum at the present alpha.

function makeWeights(model, store) {
  const names = model.layers.map((layer) => layer.name);
  const showLayer = makeSegments(byId("layers"), "layer", names, (layer) => store.update({ layer, component: 0 }));
  const active = names.map((name) => {
    const input = element("input", {
      type: "checkbox",
      onchange: () => {
        const off = names.filter((other) => (other === name ? !input.checked : store.state.off.includes(other)));
        store.update({ off });
      },
    });
    byId("active").append(element("label", {}, input, ` ${name}`));
    return input;
  });
  const figures = ["W", "B A", "W + alpha · B A"].map((title) => {
    const canvas = element("canvas", { role: "img" });
    const caption = element("figcaption", {}, title);
    byId("matrices").append(element("figure", {}, canvas, caption));
    return { canvas, caption };
  });
  const sizes = model.layers.map(({ name, inputs, outputs }) => `${name} makes ${outputs} values of ${inputs}`);
  write(byId("layers-text"), `${sizes.join(", ")}: from the pixels to the logits.`);
  const painted = { key: "", most: 1 };

  // The largest weight, but for one in a thousand: a single one would make all others pale.
  function scaleOf(values) {
    const sizes = Float64Array.from(values, Math.abs).sort();
    return sizes[Math.floor(0.999 * (sizes.length - 1))] || 1;
  }

  function render(state, now) {
    showLayer(state.layer);
    active.forEach((input, i) => {
      input.checked = !state.off.includes(names[i]);
      input.disabled = now.adapter.factors[i] === null;
    });
    if (!now.sees("adds")) return;
    const layer = model.layers[state.layer];
    const change = now.changes[state.layer];
    const key = [state.layer, now.changesKey].join();
    if (painted.key !== key) {
      painted.key = key;
      painted.most = Math.max(scaleOf(layer.weight), change ? Math.abs(now.adapter.alpha) * scaleOf(change.weight) : 0);
      const none = new Float64Array(layer.weight.length);
      paintMatrix(figures[0].canvas, layer.weight, layer.inputs, painted.most);
      paintMatrix(figures[1].canvas, change ? change.weight : none, layer.inputs, painted.most);
      write(byId("scale-low"), signed(-painted.most, 2));
      write(byId("scale-high"), `+${painted.most.toFixed(2)}`);
      renderTexts(layer, now);
    }
    const sum = change ? Float64Array.from(layer.weight) : layer.weight;
    if (change) for (let i = 0; i < sum.length; i++) sum[i] += now.alpha * change.weight[i];
    paintMatrix(figures[2].canvas, sum, layer.inputs, painted.most);
    write(figures[2].caption, `W + ${signed(now.alpha, 2)} · B A`);
  }

  function renderTexts(layer, now) {
    const first = layer.inputs === SIDE * SIDE;
    const sizes = `${layer.outputs} × ${layer.inputs}`;
    const what = first
      ? `Each square shows the ${layer.inputs} weights of one of the ${layer.outputs} units as a picture of 28 × 28; a white one under B A is a unit that the adapter hardly changes.`
      : `Each row holds the weights of one of the ${layer.outputs} outputs, each column those of one input.`;
    write(byId("matrices-text"), `${what} Blue is negative, white zero, orange positive; one scale for all three.`);
    const kinds = ["W, the base’s weights", "B A, what the adapter adds", "the sum that answers"];
    figures.forEach(({ canvas }, i) => {
      mark(canvas, "aria-label", `${kinds[i]}, layer ${layer.name}, ${sizes}`);
      canvas.classList.toggle("tiles", first);
    });
    const { adapter } = now;
    const fewer = (adapter.parameters[layer.name] ?? 0) < layer.inputs * layer.outputs;
    write(
      byId("adds-text"),
      adapter.method === "lora"
        ? `A layer computes W x + alpha · B A x, and W is frozen. The adapter learned two thin matrices: A has ${count(adapter.rank, "row")} and B has ${count(adapter.rank, "column")}. Their product B A is as large as W, but made of ${fewer ? "fewer" : "more"} numbers.`
        : `A layer computes W x + alpha · ΔW x. W is frozen, and ΔW is what the adapter learned (method: ${adapter.title}); it is called B A below.`,
    );
    const rows = model.layers.map((each) => {
      const [own, trained] = [each.inputs * each.outputs + each.outputs, adapter.parameters[each.name] ?? 0];
      return [each.name, own, trained];
    });
    rows.push(["all", rows.reduce((sum, row) => sum + row[1], 0), rows.reduce((sum, row) => sum + row[2], 0)]);
    byId("parameters").tBodies[0].replaceChildren(
      ...rows.map(([name, own, trained]) =>
        element(
          "tr",
          {},
          element("th", { scope: "row" }, name),
          ...[own.toLocaleString("en"), trained.toLocaleString("en"), percent(trained / own, 1).replace(">", "")].map(
            (text) => element("td", {}, text),
          ),
        ),
      ),
    );
  }

  return { render };
}
