// Trust: the page computes the answers to its test images and holds them against those that Python wrote.

const LARGEST_DIFFERENCE = 1e-3;

// The largest difference of any logit between this page and Python: of the base, and of each adapter at its own alpha.
async function largestDifference(model) {
  const zero = model.layers.map(() => null);
  const numbers = [await unpackFloats(model.record.base.logits)];
  for (const adapter of model.adapters) numbers.push(await unpackFloats(adapter.logits));
  let most = 0;
  for (let i = 0; i < numbers.length; i++) {
    const adapter = i === 0 ? null : model.adapters[i - 1];
    const changes = adapter ? changesOf(model, adapter, adapter.most, []) : zero;
    const alpha = adapter ? adapter.alpha : 0;
    const merged = mergedLayers(model.layers, changes, alpha);
    model.inputs.forEach((input, row) => {
      const logits = logitsOf(readyInput(model.layers, changes, input), merged, alpha);
      logits.forEach((value, digit) => {
        const away = Math.abs(value - numbers[i][10 * row + digit]);
        most = Math.max(most, away); // no number, if there is any such
      });
    });
    await new Promise((done) => setTimeout(done)); // between adapters the page can answer
  }
  return most;
}

async function checkTrust(model) {
  const most = await largestDifference(model);
  const good = most <= LARGEST_DIFFERENCE;
  const place = byId("trust-text");
  place.classList.toggle("problem", !good);
  const networks = model.adapters.length + 1;
  write(
    place,
    `${good ? "Yes." : "No: this browser computes something else."} When it opened, the page computed the logits of ${count(model.images.length, "test image")} by ${count(networks, "network")} and compared them with those that Python wrote. The largest difference is ${most.toPrecision(2)}.`,
  );
  place.dataset.difference = String(most);
}

function showOrigins(model) {
  const rows = [model.record.base, ...model.record.adapters].map((artifact) => {
    const learning = [
      artifact.epochs && count(artifact.epochs, "epoch"),
      artifact.lr && `learning rate ${artifact.lr}`,
    ];
    const recipe = [
      artifact.recipe,
      ...learning,
      artifact.protect?.length ? `protected by ${artifact.protect.join(", ")}` : "",
    ];
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, artifact.name),
      element("td", {}, element("code", {}, artifact.digest.slice(0, 19), "…")),
      element("td", {}, recipe.filter(Boolean).join(", ")),
      element("td", {}, String(artifact.seed ?? "–")),
      element(
        "td",
        {},
        Object.entries(artifact.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(", "),
      ),
      element("td", {}, artifact.note),
    );
  });
  byId("origins").tBodies[0].replaceChildren(...rows);
}
