// Reads the record, keeps the state, and draws all parts again, once a frame, when something has changed.

function changesOf(model, adapter, components, off) {
  return model.layers.map((layer, i) => {
    const factors = adapter.factors[i];
    return factors === null || off.includes(layer.name) ? null : productOf(layer, factors, components);
  });
}

// The alpha of a step, as Python and a command line have it: in six digits.
function alphaOf(adapter, step) {
  return step === STEPS ? adapter.alpha : Number(((step / STEPS) * adapter.alpha).toPrecision(6));
}

async function readModel(record) {
  const layers = readLayers(record.base, await unpackFloats(record.base.weights));
  const adapters = await Promise.all(
    record.adapters.map(async (adapter) => {
      const factors = readFactors(adapter, layers, await unpackFloats(adapter.factors));
      return { ...adapter, factors, most: Math.max(1, ...factors.map((each) => (each ? each.rank : 1))) };
    }),
  );
  const bytes = await unpackBytes(record.images.pixels);
  const images = record.images.labels.map((_, i) => bytes.subarray(i * SIDE * SIDE, (i + 1) * SIDE * SIDE));
  const inputs = images.map((image) =>
    normalised(
      Float32Array.from(image, (value) => value / 255),
      record.pixel_stats,
    ),
  );
  const routing = record.routing && {
    ...record.routing,
    densities: await Promise.all(record.routing.densities.map(readDensity)),
  };
  const names = record.classes.length > 0 ? record.classes : Array.from({ length: 10 }, (_, digit) => String(digit));
  return {
    record,
    layers,
    adapters,
    images,
    inputs,
    routing,
    labels: record.images.labels,
    choices: adapterLabels(record.adapters),
    drawing: record.classes.length === 0,
    what: record.classes.length === 0 ? "digits" : "classes",
    names,
    nameOf: (digit) => names[digit] ?? String(digit), // a network has ten outputs, whatever classes there are
    oldDigits: record.base.digits,
    parameters: sumOf(layers.map((layer) => layer.inputs * layer.outputs + layer.outputs)),
  };
}

// What follows from the state, computed again only where it has changed.
function makeComputer(model) {
  const zero = model.layers.map(() => null);
  const kept = { changes: "", gallery: "", input: "", ready: "" };
  const plain = model.inputs.map((input) => readyInput(model.layers, zero, input));
  const ofBase = plain.map((ready) => logitsOf(ready, model.layers.slice(1), 0));

  // The half of the digits that may be answered where the task is known, and otherwise null, for all.
  function amongOf(state, adapter, label) {
    if (!state.known) return null;
    return [model.oldDigits, adapter.new].find((half) => half.includes(label)) ?? null;
  }

  function answersOf(state, now) {
    const merged = now.merged;
    return model.labels.map((label, i) => {
      const among = amongOf(state, now.adapter, label);
      const logits = logitsOf({ plain: plain[i].plain, change: kept.moved[i] }, merged, now.alpha);
      return { base: bestOf(ofBase[i], among), adapted: bestOf(logits, among) };
    });
  }

  function shareRight(answers, digits) {
    const rows = answers.filter((_, i) => digits.includes(model.labels[i]));
    const hits = answers.filter(({ adapted }, i) => digits.includes(model.labels[i]) && adapted === model.labels[i]);
    return rows.length > 0 ? hits.length / rows.length : 0;
  }

  function inputOf(state, ink, touches) {
    const same =
      kept.input === touches && kept.test === state.test && kept.strokes === state.strokes && kept.fit === state.fit;
    if (!same) {
      Object.assign(kept, { input: touches, test: state.test, strokes: state.strokes, fit: state.fit });
      kept.number = (kept.number ?? 0) + 1;
      kept.pixels = state.fit ? fitted(ink, PAD) : unfitted(ink, PAD);
      kept.values = kept.pixels && normalised(kept.pixels, model.record.pixel_stats);
    }
    return { pixels: kept.pixels, input: kept.values, inputKey: kept.number };
  }

  return (state, ink, touches) => {
    const adapter = model.adapters[state.adapter];
    const components = state.components || adapter.most;
    const alpha = alphaOf(adapter, state.step);
    const changesKey = [state.adapter, state.components, ...state.off].join();
    if (kept.changes !== changesKey) {
      kept.changes = changesKey;
      kept.made = changesOf(model, adapter, components, state.off);
      const [first, change] = [model.layers[0], kept.made[0]];
      kept.moved = model.inputs.map((input) => (change ? times(first, change.weight, input, change.bias) : null));
    }
    const now = {
      adapter,
      alpha,
      components: Math.min(components, adapter.most),
      changesKey,
      changes: kept.made,
      merged: mergedLayers(model.layers, kept.made, alpha),
    };
    const galleryKey = [changesKey, alpha, state.known].join();
    if (kept.gallery !== galleryKey) {
      kept.gallery = galleryKey;
      kept.answers = answersOf(state, now);
    }
    Object.assign(now, inputOf(state, ink, touches));
    now.answers = kept.answers;
    now.shown = { old: shareRight(kept.answers, model.oldDigits), new: shareRight(kept.answers, adapter.new) };
    now.label = state.test >= 0 ? model.labels[state.test] : -1;
    now.among = amongOf(state, adapter, now.label);
    now.key = [now.inputKey, changesKey, alpha, now.among].join();
    [now.base, now.adapted, now.trained] = [null, null, null];
    if (now.input) {
      const readyKey = [now.inputKey, changesKey].join();
      if (kept.ready !== readyKey) {
        kept.ready = readyKey;
        kept.own = readyInput(model.layers, kept.made, now.input);
        kept.base = logitsOf(kept.own, model.layers.slice(1), 0);
        kept.trained = logitsOf(kept.own, mergedLayers(model.layers, kept.made, adapter.alpha), adapter.alpha);
      }
      now.base = kept.base;
      now.trained = kept.trained;
      now.adapted = logitsOf(kept.own, now.merged, alpha);
    }
    return now;
  };
}

function firstState(model) {
  const state = startingState(model);
  const digit = model.drawing ? [4, 3, 2].find((each) => model.oldDigits.includes(each)) : undefined;
  if (digit !== undefined) return { ...state, strokes: READY_DRAWINGS[digit] };
  return { ...state, test: Math.max(0, model.labels.indexOf(model.oldDigits[0])), fit: false };
}

// Keeps the state, draws at most once a frame, and lets the hash follow once the hand rests.
function makeStore(model) {
  const start = firstState(model);
  const store = { state: fromHash(location.hash, start, model), start, touches: 0, frames: 0, draw: () => {} };
  let [planned, resting] = [false, 0];

  store.keepHash = () => {
    clearTimeout(resting);
    const hash = toHash(store.state, start, model);
    if (hash !== location.hash.replace(/^#/, ""))
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  };
  store.touched = () => {
    store.touches += 1;
    store.update({});
  };
  store.update = (patch) => {
    store.state = { ...store.state, ...patch };
    if (!planned) {
      planned = true;
      requestAnimationFrame(() => {
        planned = false;
        store.frames += 1;
        store.draw();
      });
    }
    clearTimeout(resting);
    resting = setTimeout(store.keepHash, 250);
  };
  store.reset = () => store.update({ ...start, hide: store.state.hide });
  window.addEventListener("hashchange", () => {
    store.state = fromHash(location.hash, start, model);
    store.update({});
  });
  return store;
}

function tellAbout(model) {
  const { base, adapters } = model.record;
  const others = model.names.map((_, digit) => digit).filter((digit) => !base.digits.includes(digit));
  const learned = new Set(adapters.map((adapter) => adapter.digits));
  write(
    byId("source"),
    `${base.name}, ${adapters.length === 1 ? adapters[0].name : count(adapters.length, "adapter")}`,
  );
  document.title = `${base.name} and ${adapters.length === 1 ? adapters[0].name : "its adapters"} · lora-mnist explore`;
  if (!model.drawing) {
    write(byId("headline"), "Choose a picture. Turn alpha. See what was forgotten.");
    write(byId("input-title"), "The picture");
    write(byId("pad-help"), "Choose a test image below, or one of those further down.");
    for (const each of document.querySelectorAll(".drawn")) each.hidden = true;
    const pad = byId("pad");
    for (const name of ["role", "tabindex", "aria-roledescription", "aria-describedby"]) pad.removeAttribute(name);
    pad.setAttribute("role", "img");
    pad.setAttribute("aria-label", "the picture that both networks see");
  }
  const then = learned.size === 1 ? `then learned ${asRanges(adapters[0].learned)}` : "then learned more";
  const never = others.length > 0 ? ` and never saw ${asRanges(others)}` : "";
  write(
    byId("lead"),
    `A small network, the base, learned the ${model.what} ${asRanges(base.digits)}${never}. An adapter beside its frozen weights ${then}. Alpha says how much of the adapter counts.`,
  );
}

async function start() {
  if (typeof DecompressionStream === "undefined") throw new Error("This page needs a browser of 2023 or later.");
  const model = await readModel(JSON.parse(byId("record").textContent));
  const store = makeStore(model);
  const compute = makeComputer(model);
  tellAbout(model);
  showOrigins(model);
  const pad = makePad(model, store);
  const guessing = makeGuessing(model, store);
  const parts = [
    makeControls,
    makeAnswers,
    makeCurve,
    makeGallery,
    makeWeights,
    makeComponents,
    makeCure,
    makeClassroom,
    makeLessons,
  ];
  const views = [pad, guessing, ...parts.map((make) => make(model, store))];
  const { sees, drawEvery } = watchSight(() => store.draw());
  store.drawEvery = drawEvery;
  store.draw = () => {
    const now = compute(store.state, pad.inkNow(store.state), store.touches);
    now.sees = sees;
    now.secret = store.state.guess && !guessing.isMade(now.key);
    for (const view of views) view.render(store.state, now);
  };
  store.draw();
  document.body.dataset.ready = "";
  performance.mark("first-answer");
  setTimeout(() => checkTrust(model), 50);
  return { model, store, compute, pad, views };
}

// What a test, or somebody at the console, can look at.
const explore = start();
explore.catch((error) => {
  byId("problem").hidden = false;
  write(byId("problem"), `This page can’t be shown: ${error.message}`);
  throw error;
});
