// Accuracy on old and new digits by alpha. The lines are counts over all test images, made by Python with the page; the
// marks stand on them where the whole adapter acts, and else show the images on the page.

function makeCurve(model) {
  const place = byId("curve");
  const HEIGHT = 300;
  const margin = { left: 46, right: 14, top: 12, bottom: 44 };

  function accuracies(adapter, known) {
    const right = known ? adapter.right_known : adapter.right;
    const count = (digits) => sumOf(digits.map((digit) => model.record.counts[digit]));
    const lines = { old: right.old.map((hits) => hits / count(model.oldDigits)) };
    if (right.new) lines.new = right.new.map((hits) => hits / count(adapter.new));
    return lines;
  }

  function render(state, now) {
    if (state.hide.includes("forgotten")) return;
    const width = Math.max(260, place.clientWidth);
    const x = (share) => margin.left + ((share + 0.5) / 2) * (width - margin.left - margin.right);
    const y = (share) => margin.top + (1 - share) * (HEIGHT - margin.top - margin.bottom);
    const lines = accuracies(now.adapter, state.known);
    const whole = state.components === 0 && state.off.length === 0;
    const at = model.record.shares.indexOf(state.step / STEPS);
    const parts = [];
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      parts.push(svg("line", { class: "grid", x1: x(-0.5), x2: x(1.5), y1: y(share), y2: y(share) }));
      parts.push(svg("text", { x: margin.left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
    }
    for (const share of [-0.5, 0, 0.5, 1, 1.5]) {
      const rest = share === 0 || share === 1;
      parts.push(svg("line", { class: rest ? "rest" : "grid", x1: x(share), x2: x(share), y1: y(0), y2: y(1) }));
      const text = signed(share * now.adapter.alpha, share % 1 ? 1 : 0);
      parts.push(svg("text", { x: x(share), y: y(0) + 18, "text-anchor": "middle" }, text));
    }
    parts.push(svg("text", { x: x(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, "alpha"));
    parts.push(svg("line", { class: "present", x1: x(state.step / STEPS), x2: x(state.step / STEPS), y1: y(0), y2: y(1) }));
    const texts = [];
    for (const [half, values] of Object.entries(lines)) {
      const points = values.map((value, i) => `${x(model.record.shares[i]).toFixed(1)},${y(value).toFixed(1)}`);
      parts.push(svg("polyline", { class: `line ${half}`, points: points.join(" ") }));
      const value = whole ? values[at] : now.shown[half];
      const [cx, cy] = [x(state.step / STEPS), y(value)];
      const dot = half === "old" ? svg("rect", { x: cx - 7, y: cy - 7, width: 14, height: 14 }) : svg("circle", { cx, cy, r: 8 });
      dot.setAttribute("class", `dot ${half}${whole ? "" : " hollow"}`);
      parts.push(dot);
      texts.push(`${half} ${half === "old" ? asRanges(model.oldDigits) : asRanges(now.adapter.new)}: ${percent(value, whole ? 2 : 0)}`);
    }
    const images = whole
      ? `of all ${sumOf(model.record.counts).toLocaleString("en")} test images`
      : `of the ${model.images.length} test images here, as not all of the adapter acts`;
    const text = `At alpha ${signed(now.alpha, 2)}: ${texts.join("; ")} (${images}).`;
    place.replaceChildren(
      svg("svg", { width, height: HEIGHT, class: "curve", role: "img", "aria-label": `Accuracy by alpha. ${text}` }, ...parts),
    );
    write(byId("curve-text"), text);
  }

  return { render };
}
