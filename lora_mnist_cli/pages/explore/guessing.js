// Guessing first: the answers to an input stay hidden until somebody has said what the adapter will answer.

function makeGuessing(model, store) {
  const made = { key: null, guess: -1, right: 0, all: 0 };
  write(byId("guess-question"), "Guess first: what will the network with the adapter answer?");
  model.names.forEach((name, digit) => {
    byId("guesses").append(element("button", { type: "button", onclick: () => guess(digit) }, name));
  });
  let present = null;

  function guess(digit) {
    if (present === null || present.adapted === null || made.key === present.key) return;
    Object.assign(made, { key: present.key, guess: digit, all: made.all + 1 });
    if (digit === bestOf(present.adapted, present.among)) made.right += 1;
    store.update({});
  }

  function render(state, now) {
    present = now;
    byId("guess").hidden = !state.guess;
    const done = made.key === now.key;
    for (const button of byId("guesses").children) button.disabled = done || now.adapted === null;
    const said = done ? model.nameOf(bestOf(now.adapted, now.among)) : "";
    const text = `You said ${model.nameOf(made.guess)}, and it says ${said}. Right so far: ${made.right} of ${made.all}.`;
    write(byId("guess-result"), done ? text : "");
  }

  return { render, isMade: (key) => made.key === key };
}
