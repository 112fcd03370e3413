// The cure: the densities of the digits that base and adapter were trained on say who should answer.

function makeCure(model) {
  if (!model.routing) return { render: () => {} };
  const place = byId("cure-bars");
  byId("cure").hidden = false;
  const kernel = blurKernel();
  const known = { key: null, shares: null };

  function sharesOf(now, pair) {
    const key = [now.inputKey, pair.adapter].join();
    if (known.key !== key) {
      known.key = key;
      const densities = pair.experts.map((number) => model.routing.densities[number]);
      known.shares = expertShares(densities, now.input, model.routing.temperature, kernel);
    }
    return known.shares;
  }

  function row(label, share, kind) {
    const fill = element("span", { class: `bar ${kind}` });
    fill.style.width = `${100 * share}%`;
    return element(
      "div",
      { class: "cure-row" },
      element("span", {}, label),
      element("span", { class: "bars", "aria-hidden": "true" }, fill),
      element("strong", {}, probability(share)),
    );
  }

  function render(state, now) {
    if (!now.sees("cure")) return;
    const pair = model.routing.pairs[state.adapter];
    const rate = (digits) =>
      percent(
        sumOf(digits.map((digit) => pair.right[digit])) / sumOf(digits.map((digit) => model.record.counts[digit])),
        2,
      );
    const digits = [model.oldDigits, ...(now.adapter.new.length > 0 ? [now.adapter.new] : [])];
    write(
      byId("cure-text"),
      "Base and adapter each keep statistics of the images that they learned. They say whose kind of image this is, and that one " +
        `answers. No label is needed. Of all test images, base and adapter together get ${digits.map((some) => `${rate(some)} of ${asRanges(some)}`).join(" and ")} right.` +
        (now.adapter.protect.length > 0
          ? ` This adapter was protected while it learned (${now.adapter.protect.join(", ")}), so it forgets less by itself.`
          : ""),
    );
    if (now.base === null || now.secret) {
      const why = now.secret ? "Hidden until you guess." : "The pad is empty.";
      place.replaceChildren(element("p", { class: "hint" }, why));
      return;
    }
    const shares = sharesOf(now, pair);
    const trained = now.trained;
    const [base, adapted] = [softmax(now.base), softmax(trained)];
    const mixture = base.map((value, i) => shares[0] * value + shares[1] * adapted[i]);
    const best = bestOf(mixture);
    place.replaceChildren(
      row(`like ${asRanges(model.oldDigits)}: ask the base`, shares[0], "old"),
      row(`like ${asRanges(now.adapter.learned)}: ask the adapter`, shares[1], "new"),
      element(
        "p",
        { class: "says" },
        "together: ",
        element("strong", {}, model.nameOf(best)),
        ` ${probability(mixture[best])}`,
      ),
    );
  }

  return { render };
}
