// Making elements, numbers as text, and small pictures. Text is always text: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

function byId(id) {
  return document.getElementById(id);
}

// element("button", { type: "button", class: "quiet", onclick: act }, "Clear")
function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

// Writes a text where it differs: a reader of the screen hears what changes.
function write(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

function mark(place, attribute, value) {
  if (place.getAttribute(attribute) !== value) place.setAttribute(attribute, value);
}

function percent(share, digits = 0) {
  // 99.97 % is not 100 %. The sign stays with its number at the end of a line.
  const rounded = (100 * share).toFixed(digits);
  if (Number(rounded) === 100 && share < 1) return `>${(100 - 10 ** -digits).toFixed(digits)}\u00a0%`;
  return `${rounded}\u00a0%`;
}

// Probabilities of an answer have one decimal wherever they stand.
function probability(share) {
  return percent(share, 1);
}

// count(1, "row") is "1 row", and count(8, "row") "8 rows".
function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// A number with a true minus sign.
function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

// Digits as 0–4 or 5, 7–9, a range on one line.
function asRanges(digits) {
  const runs = [];
  for (const digit of digits) {
    const last = runs[runs.length - 1];
    if (last && last[1] === digit - 1) last[1] = digit;
    else runs.push([digit, digit]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}\u2060–\u2060${last}`)).join(", ");
}

// A pixel for each byte, light on dark, nowhere quite black.
function greyLevels() {
  return Uint32Array.from({ length: 256 }, (_, byte) => {
    const level = 16 + (239 * byte) / 255;
    return new Uint32Array(new Uint8ClampedArray([level, level, level, 255]).buffer)[0];
  });
}

// Draws bytes into a canvas of their size.
function paintGrey(canvas, bytes, width) {
  [canvas.width, canvas.height] = [width, bytes.length / width];
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const greys = greyLevels();
  new Uint32Array(image.data.buffer).set(Uint32Array.from(bytes, (byte) => greys[byte]));
  context.putImageData(image, 0, 0);
}

// A pixel of each share from -1 to 1: from blue over white to orange, which colour-blind readers can tell apart.
const LEVELS = 255;
const DIVERGING = Uint32Array.from({ length: 2 * LEVELS + 1 }, (_, i) => {
  const size = (Math.abs(i - LEVELS) / LEVELS) ** 0.75;
  const [red, green, blue] = (i < LEVELS ? [0, 84, 147] : [190, 75, 0]).map((part) => 255 + (part - 255) * size);
  return new Uint32Array(new Uint8ClampedArray([red, green, blue, 255]).buffer)[0];
});

// Draws a matrix, a cell per value, on a scale from -most to most; in tiles of 28 × 28 where its rows are images.
function paintMatrix(canvas, values, columns, most) {
  const rows = values.length / columns;
  const tiled = columns === SIDE * SIDE;
  const across = tiled ? Math.ceil(Math.sqrt(rows)) : 1;
  const tile = SIDE + 1;
  const width = tiled ? across * tile - 1 : columns;
  const height = tiled ? Math.ceil(rows / across) * tile - 1 : rows;
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const scale = LEVELS / most;
  for (let row = 0, from = 0; row < rows; row++) {
    const start = tiled ? Math.floor(row / across) * tile * width + (row % across) * tile : row * width;
    const wide = tiled ? SIDE : columns;
    for (let line = start; from < (row + 1) * columns; line += width) {
      for (let x = 0; x < wide; x++, from++) {
        const level = Math.round(values[from] * scale) + LEVELS;
        pixels[line + x] = DIVERGING[level < 0 ? 0 : Math.min(level, 2 * LEVELS)];
      }
    }
  }
  context.putImageData(image, 0, 0);
}

// Tells which parts of the page are in sight, so that only those are drawn while something moves. Each is drawn once when
// the page opens, and all before it is printed.
function watchSight(draw) {
  const seen = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) seen.add(target.id);
        else seen.delete(target.id);
      }
      draw();
    },
    { rootMargin: "100px" },
  );
  for (const part of document.querySelectorAll(".block")) observer.observe(part);
  let every = false;
  const sees = (id) => every || seen.has(id);
  const drawEvery = () => {
    every = true;
    draw();
    every = false;
  };
  window.addEventListener("beforeprint", drawEvery);
  setTimeout(drawEvery);
  return { sees, drawEvery };
}
