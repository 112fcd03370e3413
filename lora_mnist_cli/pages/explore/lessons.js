// The three lessons: what each place sets on the page, where it looks, and what it says.

// What a lesson sets; where it ends, that is set back to what it was before.
const WHOLE = { components: 0, off: [], known: false, step: STEPS };
const SET_BY_LESSONS = ["adapter", ...Object.keys(WHOLE)];

const AT_THE_ANSWERS = ["#alpha", "#answers"];
const AT_THE_CURVE = ["#curve-keys", "#curve-text"];

// A rate of an adapter's own count over all test images, at an alpha of the slider.
function rateOf(model, adapter, half, step, known = false) {
  const digits = half === "old" ? model.oldDigits : adapter.new;
  const hits = (known ? adapter.right_known : adapter.right)[half][model.record.shares.indexOf(step / STEPS)];
  return percent(hits / sumOf(digits.map((digit) => model.record.counts[digit])), 2);
}

function sizeOf(adapter) {
  return sumOf(Object.values(adapter.parameters)).toLocaleString("en");
}

// The numbers of the adapters that learned new digits only: those forget.
function forgetful(model) {
  const learnedNewOnly = ({ learned }) => !learned.some((digit) => model.oldDigits.includes(digit));
  return model.adapters.flatMap((adapter, i) => (learnedNewOnly(adapter) ? [i] : []));
}

// The numbers of the adapters to compare by rank, the smallest first; they learned the same kind of digits.
function byRank(model) {
  const forgets = forgetful(model);
  const numbers = forgets.length > 0 ? forgets : model.adapters.map((_, i) => i);
  return numbers.sort((one, other) => rankOf(model, one) - rankOf(model, other));
}

function rankOf(model, number) {
  return model.adapters[number].rank ?? 0;
}

const smallest = (model) => byRank(model)[0];
const largest = (model) => byRank(model).at(-1);
const someForgetful = (model) => forgetful(model)[Math.floor((forgetful(model).length - 1) / 2)];
const lastLayer = (model) => model.layers.at(-1).name;

const LESSONS = {
  ranks: {
    title: (model) => `Rank ${rankOf(model, smallest(model))} against ${rankOf(model, largest(model))}`,
    about: "How many numbers does an adapter need?",
    fits: (model) =>
      byRank(model).every((number) => model.adapters[number].new.length > 0) &&
      rankOf(model, smallest(model)) > 0 &&
      rankOf(model, smallest(model)) < rankOf(model, largest(model)),
    places: [
      {
        set: (model) => ({ ...WHOLE, adapter: smallest(model) }),
        look: AT_THE_CURVE,
        say: (model, { adapter }) =>
          `This is the smallest adapter: ${sizeOf(adapter)} numbers beside the base’s ${model.parameters.toLocaleString("en")}. It gets ${rateOf(model, adapter, "new", STEPS)} of the new ${model.what} right. Before you go on: what will the largest one get?`,
      },
      {
        set: (model) => ({ ...WHOLE, adapter: largest(model) }),
        look: AT_THE_CURVE,
        say: (model, { adapter }) =>
          `The largest adapter has ${sizeOf(adapter)} numbers and gets ${rateOf(model, adapter, "new", STEPS)} of the new ${model.what} right, and ${rateOf(model, adapter, "old", STEPS)} of the old ones. Does a larger adapter forget less?`,
      },
      {
        set: (model) => ({ ...WHOLE, adapter: largest(model), components: 1 }),
        look: ["#components", "#answers"],
        say: (model, { components, shown }) =>
          `Of the large adapter, each layer now keeps ${components === 1 ? "only the first component" : `${components} components`}: of the new ${model.what} among the ${count(model.images.length, "test image")} here, ${percent(shown.new)} are right. Move the slider of components: how many does it need?`,
      },
      {
        set: (model) => ({ ...WHOLE, adapter: largest(model), layer: 0, component: 0 }),
        look: ["#values-title", "#values-text"],
        say: (model) =>
          `Each bar is a component of what the adapter adds to ${model.layers[0].name}, and its height says how strong that component is. Which of them could be left out?`,
      },
    ],
  },
  forgetting: {
    title: () => "Where forgetting lives",
    about: "Is the knowledge gone, or only outvoted?",
    fits: (model) => forgetful(model).length > 0,
    places: [
      {
        set: (model) => ({ ...WHOLE, adapter: someForgetful(model) }),
        look: ["#gallery-answer", "#gallery"],
        say: (model, { adapter }) =>
          `The adapter learned only ${asRanges(adapter.learned)}. Of the old ${model.what} it now gets ${rateOf(model, adapter, "old", STEPS)} right. Choose some images in the upper half: what does it take them for?`,
      },
      {
        set: (model) => ({ ...WHOLE, adapter: someForgetful(model), known: true }),
        look: ["#known", "#curve-text"],
        say: (model, { adapter }) =>
          `“Task known” is on: for an old image only the old ${model.what} may be answered. Now ${rateOf(model, adapter, "old", STEPS, true)} are right. What came back was never gone; the new logits had only outvoted it. What did not come back is forgotten.`,
      },
      {
        set: (model) => ({ ...WHOLE, adapter: someForgetful(model), off: [lastLayer(model)] }),
        look: [...AT_THE_CURVE, "#tally"],
        say: (model) =>
          `Now the adapter no longer acts on ${lastLayer(model)}, the last layer, which holds one row of weights per ${model.drawing ? "digit" : "class"}. How many old ${model.what} are back? And what happened to the new ones?`,
      },
      {
        set: (model) => ({
          ...WHOLE,
          adapter: someForgetful(model),
          off: model.layers.slice(0, -1).map((layer) => layer.name),
        }),
        look: [...AT_THE_CURVE, "#tally"],
        say: (model) =>
          `And now it acts on ${lastLayer(model)} alone. So where does the forgetting live, and where does the learning?`,
      },
    ],
  },
  alpha: {
    title: () => "What alpha does",
    about: "A dial between two networks.",
    fits: () => true,
    places: [
      {
        set: () => ({ ...WHOLE, step: 0 }),
        look: AT_THE_ANSWERS,
        say: () =>
          "At alpha 0 nothing is added: both answers are the base’s, bit for bit. The base was frozen, so it is still all there.",
      },
      {
        set: () => ({ ...WHOLE, step: STEPS / 2 }),
        look: AT_THE_CURVE,
        say: (model, { adapter }) =>
          `Half of the change is added. Old ${model.what}: ${rateOf(model, adapter, "old", STEPS / 2)}${adapter.new.length > 0 ? `; new ones: ${rateOf(model, adapter, "new", STEPS / 2)}` : ""}. Move the slider slowly: is there an alpha at which both are good?`,
      },
      {
        set: () => WHOLE,
        look: ["#pad", "#adapter-answer .says"],
        say: (model) =>
          `This is the alpha that the adapter was trained with. ${model.drawing ? "Draw an old digit, then a new one." : "Take an old picture, then a new one."}`,
      },
      {
        set: () => ({ ...WHOLE, step: 1.5 * STEPS }),
        look: AT_THE_ANSWERS,
        say: () => "Half as much again as was trained. Does the adapter know more now, or is it only louder?",
      },
      {
        set: () => ({ ...WHOLE, step: -0.5 * STEPS }),
        look: AT_THE_ANSWERS,
        say: (model) =>
          `Below zero the change is taken away from the base. Which ${model.what} does the network name now, and why might that be?`,
      },
    ],
  },
};

// The names of the lessons that a model's adapters can show.
function lessonsOf(model) {
  return Object.keys(LESSONS).filter((name) => LESSONS[name].fits(model));
}
