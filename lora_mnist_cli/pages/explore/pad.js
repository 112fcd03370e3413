// The drawing pad: pointers of every kind, the keyboard, and both ways to see the input.

function makePad(model, store) {
  const canvas = byId("pad");
  const pen = { ink: emptyInk(), shown: null, down: false, x: PAD / 2, y: 60, cursor: false };

  // The ink of what the state holds: a test image, or strokes.
  function inkNow(state) {
    const shown = state.test >= 0 ? state.test : state.strokes;
    if (pen.shown !== shown) {
      pen.ink = state.test >= 0 ? inkOfImage(model.images[state.test]) : inkOfStrokes(state.strokes);
      pen.shown = shown;
    }
    return pen.ink;
  }

  // Begins a stroke: on an empty pad where a test image was shown.
  function begin(x, y) {
    const { state } = store;
    const strokes = [...(state.test >= 0 ? [] : state.strokes), [x, y]];
    store.update({ strokes, test: -1, seen: false, fit: state.test >= 0 ? true : state.fit });
    inkNow(store.state);
  }

  function extend(x, y) {
    const stroke = store.state.strokes[store.state.strokes.length - 1];
    const [lastX, lastY] = stroke.slice(-2);
    if (Math.hypot(x - lastX, y - lastY) < 3) return;
    stroke.push(x, y);
    inkLine(pen.ink, lastX, lastY, x, y);
    store.touched();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const within = (share) => Math.min(PAD - 1, Math.max(0, Math.round(share * PAD)));
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  function onPointer(event) {
    if (event.type === "pointerdown" && event.isPrimary && event.button === 0) {
      canvas.setPointerCapture(event.pointerId);
      [pen.down, pen.cursor] = [true, false];
      begin(...place(event));
      event.preventDefault();
    } else if (event.type === "pointermove" && pen.down && event.isPrimary) {
      const parts = event.getCoalescedEvents?.() ?? [];
      for (const part of parts.length > 0 ? parts : [event]) extend(...place(part));
    } else if (event.type === "pointerup" || event.type === "pointercancel") {
      if (event.isPrimary) pen.down = false;
    }
  }

  const STEP = 7;
  const ARROWS = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const within = (value) => Math.min(PAD - 12, Math.max(12, value));
    if (ARROWS[event.key]) {
      const [x, y] = ARROWS[event.key];
      [pen.x, pen.y] = [within(pen.x + x), within(pen.y + y)];
      if (pen.down) extend(pen.x, pen.y);
    } else if (event.key === " ") {
      pen.down = !pen.down;
      if (pen.down) begin(pen.x, pen.y);
    } else if (event.key === "Backspace" || event.key === "Delete") {
      undo();
    } else {
      return;
    }
    pen.cursor = true;
    event.preventDefault();
    write(byId("pad-note"), `pen ${pen.down ? "down" : "up"}`);
    store.update({});
  }

  function undo() {
    pen.down = false;
    store.update({ strokes: store.state.test >= 0 ? [] : store.state.strokes.slice(0, -1), test: -1, fit: true });
  }

  async function save() {
    const url = URL.createObjectURL(await toPng(inkNow(store.state), PAD));
    element("a", { href: url, download: "digit.png" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  if (model.drawing) {
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      canvas.addEventListener(type, onPointer);
    }
    canvas.addEventListener("keydown", onKey);
    canvas.addEventListener("blur", () => {
      [pen.cursor, pen.down] = [false, false];
      store.update({});
    });
    byId("undo").addEventListener("click", undo);
    byId("clear").addEventListener("click", () => store.update({ strokes: [], test: -1, fit: true }));
    byId("save").addEventListener("click", save);
  }
  for (const radio of document.getElementsByName("seen")) {
    radio.addEventListener("change", () => store.update({ seen: radio.value === "1" }));
  }
  byId("fit").addEventListener("change", (event) => store.update({ fit: event.target.checked }));

  const painted = { key: "" };
  const GREYS = greyLevels();

  // Draws the pad again where it has changed: alpha moves without it.
  function paint(state, now) {
    const seen = state.seen && now.pixels !== null;
    const key = [seen, now.inputKey, pen.cursor, pen.down, pen.x, pen.y].join();
    if (painted.key === key) return;
    painted.key = key;
    const side = seen ? SIDE : PAD;
    [canvas.width, canvas.height] = [side, side];
    const context = canvas.getContext("2d");
    const image = context.createImageData(side, side);
    const levels = new Uint32Array(image.data.buffer);
    const ink = inkNow(state);
    for (let i = 0; i < levels.length; i++) levels[i] = GREYS[seen ? Math.round(255 * now.pixels[i]) : ink[i]];
    context.putImageData(image, 0, 0);
    if (pen.cursor && !seen) paintCursor(context);
  }

  // The pen's place, for those who draw by keyboard.
  function paintCursor(context) {
    context.strokeStyle = pen.down ? "#ff9a5c" : "#7cc4ff";
    context.lineWidth = 3;
    context.beginPath();
    context.arc(pen.x, pen.y, RADIUS, 0, 2 * Math.PI);
    context.moveTo(pen.x - 20, pen.y);
    context.lineTo(pen.x + 20, pen.y);
    context.moveTo(pen.x, pen.y - 20);
    context.lineTo(pen.x, pen.y + 20);
    context.stroke();
  }

  function render(state, now) {
    paint(state, now);
    if (!pen.cursor) write(byId("pad-note"), now.pixels === null ? "The pad is empty: draw a digit." : "");
    for (const radio of document.getElementsByName("seen")) radio.checked = radio.value === (state.seen ? "1" : "0");
    byId("fit").checked = state.fit;
    renderCommand(state, now);
  }

  function renderCommand(state, now) {
    const whole = state.components === 0 && state.off.length === 0;
    const reason = !whole
      ? "Here the adapter acts in part. With all components and layers, a command line gives the same answer."
      : now.among !== null
        ? "predict may answer all ten digits. With “task known” off, a command line gives the same answer."
        : state.fit
          ? ""
          : "predict fits and centres every picture. Tick that here, and a command line gives the same answer.";
    byId("command-block").hidden = now.pixels === null;
    write(byId("command-note"), reason || "Save the PNG. This line gives the same answer to it:");
    byId("command").hidden = reason !== "";
    byId("fit-note").hidden = state.fit || state.test < 0;
    const alpha = state.step === STEPS ? "" : ` --alpha ${now.alpha}`;
    const words = `lora-mnist predict digit.png --artifact ${now.adapter.name}${alpha}`;
    if (byId("command").textContent === words) return;
    // A line may break between words only.
    const spans = words.split(" ").flatMap((word, i) => [...(i ? [" "] : []), element("span", {}, word)]);
    byId("command").replaceChildren(...spans);
  }

  return { render, inkNow };
}
