// Accuracy on old and new digits by alpha. The lines are counts over all test images, made by Python with the page; the
// marks stand on them where the whole adapter acts, and else show the images on the page.

function makeCurve(model, store) {
  const place = byId("curve");
  const HEIGHT = 300;
  const margin = { left: 56, right: 14, top: 12, bottom: 44 };

  function accuracies(adapter, known) {
    const right = known ? adapter.right_known : adapter.right;
    const imagesOf = (digits) => sumOf(digits.map((digit) => model.record.counts[digit]));
    const lines = { old: right.old.map((hits) => hits / imagesOf(model.oldDigits)) };
    if (right.new) lines.new = right.new.map((hits) => hits / imagesOf(adapter.new));
    return lines;
  }

  let frame = { key: "" };
  let width = 600;
  new ResizeObserver(([entry]) => {
    width = Math.max(260, Math.floor(entry.contentRect.width));
    store.update({});
  }).observe(place);

  // Axes and lines, which stay as they are while alpha moves.
  function makeFrame(now, lines, width, key) {
    const x = (share) => margin.left + ((share + 0.5) / 2) * (width - margin.left - margin.right);
    const y = (share) => margin.top + (1 - share) * (HEIGHT - margin.top - margin.bottom);
    const parts = [];
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(svg("line", { class: "grid", x1: x(-0.5), x2: x(1.5), y1: y(share), y2: y(share) }));
      parts.push(svg("text", { x: margin.left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
    }
    for (const share of [-0.5, 0, 0.5, 1, 1.5]) {
      const rest = share === 0 || share === 1;
      parts.push(svg("line", { class: rest ? "rest" : "grid", x1: x(share), x2: x(share), y1: y(0), y2: y(1) }));
      const text = String(Number((share * now.adapter.alpha).toPrecision(3))).replace("-", "−");
      parts.push(svg("text", { x: x(share), y: y(0) + 18, "text-anchor": "middle" }, text));
    }
    parts.push(svg("text", { x: x(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, "alpha"));
    const present = svg("line", { class: "present", y1: y(0), y2: y(1) });
    parts.push(present);
    const dots = {};
    for (const [half, values] of Object.entries(lines)) {
      const points = values.map((value, i) => `${x(model.record.shares[i]).toFixed(1)},${y(value).toFixed(1)}`);
      parts.push(svg("polyline", { class: `line ${half}`, points: points.join(" ") }));
      dots[half] = half === "old" ? svg("rect", { x: -7, y: -7, width: 14, height: 14 }) : svg("circle", { r: 8 });
    }
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${width} ${HEIGHT}`, class: "curve", role: "img" }, // it is as wide as its place, also in print
      ...parts,
      ...Object.values(dots),
    );
    place.replaceChildren(picture);
    const keys = Object.keys(lines).map((half) => {
      const digits = asRanges(half === "old" ? model.oldDigits : now.adapter.new);
      const shape = element("span", { class: "shape", "aria-hidden": "true" });
      return element(
        "span",
        { class: `key ${half}` },
        shape,
        `accuracy on ${half} ${digits}${half === "new" ? " (dashed)" : ""}`,
      );
    });
    byId("curve-keys").replaceChildren(...keys);
    return { key, x, y, present, dots, picture };
  }

  function render(state, now) {
    if (!now.sees("forgotten")) return;
    const lines = accuracies(now.adapter, state.known);
    const key = [state.adapter, state.known, width].join();
    if (frame.key !== key) frame = makeFrame(now, lines, width, key);
    const whole = state.components === 0 && state.off.length === 0;
    const at = model.record.shares.indexOf(state.step / STEPS);
    const left = frame.x(state.step / STEPS);
    frame.present.setAttribute("x1", left);
    frame.present.setAttribute("x2", left);
    const texts = Object.entries(lines).map(([half, values]) => {
      const value = whole ? values[at] : now.shown[half];
      frame.dots[half].setAttribute("transform", `translate(${left} ${frame.y(value)})`);
      frame.dots[half].setAttribute("class", `dot ${half}${whole ? "" : " hollow"}`);
      const digits = half === "old" ? model.oldDigits : now.adapter.new;
      return `${half} ${asRanges(digits)}: ${percent(value, whole ? 2 : 0)}`;
    });
    const images = whole
      ? `of all ${sumOf(model.record.counts).toLocaleString("en")} test images`
      : `of the ${count(model.images.length, "test image")} here, as not all of the adapter acts`;
    const text = `At alpha ${signed(now.alpha, 2)}: ${texts.join("; ")} (${images}).`;
    mark(frame.picture, "aria-label", `Accuracy by alpha. ${text}`);
    write(byId("curve-text"), text);
  }

  return { render };
}
