// What a user has set, all of it, and the address's hash, which holds it: a link opens the page as it was.

const PARTS = {
  cure: "the cure",
  forgotten: "what is forgotten",
  adds: "what the adapter adds",
  class: "for a class",
  trust: "trust",
};
const STEPS = 20; // of the slider, from alpha 0 to the trained one

function startingState(model) {
  return {
    adapter: Math.floor((model.adapters.length - 1) / 2),
    step: STEPS,
    components: 0, // all
    off: [], // layers without their adapter
    test: -1, // number of a test image, or a drawing
    strokes: [],
    fit: true,
    seen: false,
    layer: 0,
    component: 0,
    known: false,
    hide: [],
    lesson: "",
    place: 0,
    guess: false,
  };
}

// Strokes are lists of points, whole numbers from 0 to 279, in two digits of base 36 each. Two thousand points at the
// pen's least distance cover the pad; a stranger's link with more would hold the page up.
const LONGEST = 8000;
function strokesToText(strokes) {
  const two = (value) => value.toString(36).padStart(2, "0");
  return strokes.map((stroke) => stroke.map(two).join("")).join("-");
}

function strokesFromText(text) {
  if (!/^[0-9a-z-]*$/.test(text)) return [];
  const strokes = text
    .slice(0, LONGEST)
    .split("-")
    .map((part) => {
      const values = (part.match(/../g) ?? []).map((two) => Math.min(PAD - 1, Number.parseInt(two, 36)));
      return values.slice(0, values.length - (values.length % 2));
    });
  return strokes.filter((stroke) => stroke.length > 0);
}

// What a page shows at a place of a lesson before anything else is set, or when it opens.
function startOf(lesson, place, start, model) {
  return { ...start, ...(lesson && LESSONS[lesson].places[place].set(model)) };
}

function toHash(state, start, model) {
  const usual = startOf(state.lesson, state.place, start, model);
  const fields = new URLSearchParams();
  const put = (name, key, value) => {
    if (JSON.stringify(state[key]) !== JSON.stringify(usual[key])) fields.set(name, value);
  };
  put("adapter", "adapter", model.adapters[state.adapter].name);
  put("alpha", "step", state.step / STEPS);
  put("k", "components", state.components);
  put("off", "off", state.off.join(","));
  put("test", "test", state.test);
  if (state.test < 0) put("drawing", "strokes", strokesToText(state.strokes));
  put("fit", "fit", state.fit ? 1 : 0);
  put("seen", "seen", state.seen ? 1 : 0);
  put("layer", "layer", model.layers[state.layer].name);
  put("component", "component", state.component + 1);
  put("known", "known", state.known ? 1 : 0);
  put("hide", "hide", state.hide.join(","));
  put("lesson", "lesson", state.lesson);
  put("place", "place", state.place + 1);
  put("guess", "guess", state.guess ? 1 : 0);
  return fields.toString();
}

// The state of a hash; what a stranger's link says and is not on the page is left as it is at the start.
function fromHash(hash, start, model) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const within = (text, least, most, otherwise) => {
    const number = Number(text ?? Number.NaN);
    return Number.isFinite(number) ? Math.min(most, Math.max(least, Math.round(number))) : otherwise;
  };
  const lesson = lessonsOf(model).includes(fields.get("lesson")) ? fields.get("lesson") : "";
  const place = lesson ? within(fields.get("place"), 1, LESSONS[lesson].places.length, 1) - 1 : 0;
  const state = { ...startOf(lesson, place, start, model), lesson, place };
  const take = (name, use) => {
    if (fields.has(name)) use(fields.get(name));
  };
  const indexOf = (names, name, otherwise) => (names.includes(name) ? names.indexOf(name) : otherwise);
  const listed = (text, known) => text.split(",").filter((name) => known.includes(name));
  const layers = model.layers.map((layer) => layer.name);
  take("adapter", (name) => {
    state.adapter = indexOf(
      model.adapters.map((adapter) => adapter.name),
      name,
      start.adapter,
    );
  });
  take("alpha", (text) => {
    state.step = within(Number(text) * STEPS, -STEPS / 2, 1.5 * STEPS, state.step);
  });
  take("k", (text) => {
    state.components = within(text, 0, 10_000, state.components);
  });
  take("off", (text) => {
    state.off = listed(text, layers);
  });
  take("test", (text) => {
    state.test = within(text, -1, model.images.length - 1, state.test);
  });
  take("drawing", (text) => {
    state.strokes = strokesFromText(text);
  });
  take("layer", (name) => {
    state.layer = indexOf(layers, name, start.layer);
  });
  take("component", (text) => {
    state.component = within(text, 1, 10_000, state.component + 1) - 1;
  });
  take("hide", (text) => {
    state.hide = listed(text, Object.keys(PARTS));
  });
  for (const key of ["fit", "seen", "known", "guess"]) {
    take(key, (text) => {
      state[key] = text === "1";
    });
  }
  return state;
}
