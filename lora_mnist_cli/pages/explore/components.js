// The product of a layer by its singular values: a bar each; the chosen one with its input picture and its weights.

function makeComponents(model, store) {
  const painted = { key: "", values: "" };

  function render(state, now) {
    if (!now.sees("adds")) return;
    const factors = now.adapter.factors[state.layer];
    const layer = model.layers[state.layer];
    const count = factors ? factors.rank : 0;
    const chosen = Math.min(state.component, Math.max(0, count - 1));
    const used = state.components || now.adapter.most;
    const key = [state.adapter, state.layer].join();
    if (painted.values !== key) renderValues(factors, layer, key);
    [...byId("values").children].forEach((bar, i) => {
      mark(bar, "aria-pressed", String(i === chosen));
      bar.classList.toggle("left-out", i >= used);
      bar.tabIndex = i === chosen ? 0 : -1;
    });
    if (painted.key !== [key, chosen].join()) renderComponent(factors, layer, chosen, [key, chosen].join());
  }

  function renderValues(factors, layer, key) {
    painted.values = key;
    const most = factors ? Math.max(...factors.values, 1e-12) : 1;
    const bars = factors
      ? Array.from(factors.values, (value, i) => {
          const bar = element("button", {
            type: "button",
            "aria-label": `component ${i + 1}: singular value ${value.toFixed(2)}`,
            onclick: () => store.update({ component: i }),
          });
          const fill = element("span");
          fill.style.height = `${Math.max(1, (100 * value) / most)}%`;
          bar.append(fill);
          return bar;
        })
      : [];
    byId("values").replaceChildren(...bars);
    const whole = factors ? factors.values.reduce((sum, value) => sum + value * value, 0) : 0;
    const share = factors && whole > 0 ? percent(factors.values[0] ** 2 / whole) : "";
    write(
      byId("values-text"),
      factors
        ? `B A of ${layer.name} is a sum of ${count(factors.rank, "component")}${factors.rank > 1 ? ", the strongest first" : ""}. The height of a bar, its singular value, is the strength of a component: the first has ${most.toFixed(2)} and holds ${share} of the change (of the sum of squares). Choose a bar to see its component.`
        : `This adapter does not change ${layer.name}.`,
    );
  }

  // Units as bars from a line of zero, up and down.
  function unitBars(values, label) {
    const most = largestOf(values.map(Math.abs)) || 1;
    const [width, height] = [320, 96];
    const step = width / values.length;
    const bars = Array.from(values, (value, i) => {
      const size = (Math.abs(value) / most) * (height / 2 - 2);
      return svg("rect", {
        x: i * step,
        width: Math.max(1, step * 0.8),
        y: value < 0 ? height / 2 : height / 2 - size,
        height: size,
        class: value < 0 ? "negative" : "positive",
      });
    });
    return svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, class: "units", role: "img", "aria-label": label },
      svg("line", { x1: 0, x2: width, y1: height / 2, y2: height / 2, class: "zero" }),
      ...bars,
    );
  }

  function renderComponent(factors, layer, chosen, key) {
    painted.key = key;
    write(byId("component-title"), factors ? `Component ${chosen + 1}` : "");
    const place = byId("component");
    place.replaceChildren();
    if (!factors) return;
    const input = factors.right.slice(chosen * layer.inputs, (chosen + 1) * layer.inputs);
    const output = Float64Array.from({ length: layer.outputs }, (_, row) => factors.left[row * factors.rank + chosen]);
    const strongest = bestOf(output.map(Math.abs));
    const figure = (picture, text) => element("figure", {}, picture, element("figcaption", {}, text));
    if (layer.inputs === SIDE * SIDE) {
      const canvas = element("canvas", {
        role: "img",
        class: "tiles",
        "aria-label": `what component ${chosen + 1} looks for, 28 × 28`,
      });
      paintMatrix(canvas, input, layer.inputs, largestOf(input.map(Math.abs)) || 1);
      place.append(figure(canvas, "the input it looks for"));
    } else {
      place.append(
        figure(
          unitBars(input, `weights of component ${chosen + 1} on its ${layer.inputs} inputs`),
          `its weight on each of the ${layer.inputs} inputs`,
        ),
      );
    }
    place.append(
      figure(
        unitBars(
          output,
          `weights of component ${chosen + 1} on the ${layer.outputs} outputs, the largest on unit ${strongest}`,
        ),
        `what it adds to each of the ${layer.outputs} outputs; most to unit ${strongest}`,
      ),
    );
  }

  byId("values").addEventListener("keydown", (event) =>
    moveFocus(event, byId("values"), 1, (i) => store.update({ component: i })),
  );

  return { render };
}

// Arrow keys among the children of a place, of which one can be reached by Tab; `columns` stand side by side.
function moveFocus(event, place, columns, arrived = () => {}) {
  const children = [...place.children];
  const at = children.indexOf(document.activeElement);
  const steps = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    Home: -at,
    End: children.length - 1 - at,
  };
  if (at < 0 || !(event.key in steps)) return;
  event.preventDefault();
  const to = Math.min(children.length - 1, Math.max(0, at + steps[event.key]));
  children[at].tabIndex = -1;
  children[to].tabIndex = 0;
  children[to].focus();
  arrived(to);
}
