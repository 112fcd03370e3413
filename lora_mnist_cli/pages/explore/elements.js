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
  // 99.97 % is not 100 %.
  const rounded = (100 * share).toFixed(digits);
  if (Number(rounded) === 100 && share < 1) return `>${(100 - 10 ** -digits).toFixed(digits)} %`;
  return `${rounded} %`;
}

// A number with a true minus sign.
function signed(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

// Digits as 0-4 or 5,7-9.
function asRanges(digits) {
  const runs = [];
  for (const digit of digits) {
    const last = runs[runs.length - 1];
    if (last && last[1] === digit - 1) last[1] = digit;
    else runs.push([digit, digit]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

// Draws pixels of 0 to 1, light on dark, into a canvas of their size.
function paintGrey(canvas, pixels, width) {
  canvas.width = width;
  canvas.height = pixels.length / width;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  pixels.forEach((value, i) => {
    const level = 16 + 239 * value;
    image.data.set([level, level, level, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

const BELOW_ZERO = [0, 84, 147];
const ABOVE_ZERO = [190, 75, 0];

// Draws a matrix, a cell per value, from blue at -most over white to orange at most, which colour-blind readers can tell
// apart; in tiles of 28 × 28 where its rows are images.
function paintMatrix(canvas, values, columns, most) {
  const rows = values.length / columns;
  const tiled = columns === SIDE * SIDE;
  const across = tiled ? Math.ceil(Math.sqrt(rows)) : 1;
  const tile = SIDE + 1;
  canvas.width = tiled ? across * tile - 1 : columns;
  canvas.height = tiled ? Math.ceil(rows / across) * tile - 1 : rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  for (let row = 0; row < rows; row++) {
    const left = tiled ? (row % across) * tile : 0;
    const top = tiled ? Math.floor(row / across) * tile : row;
    for (let i = 0; i < columns; i++) {
      const x = left + (tiled ? i % SIDE : i);
      const y = top + (tiled ? Math.floor(i / SIDE) : 0);
      const at = 4 * (y * canvas.width + x);
      const value = values[row * columns + i] / most;
      const size = Math.min(1, Math.abs(value)) ** 0.75;
      const [red, green, blue] = value < 0 ? BELOW_ZERO : ABOVE_ZERO;
      image.data[at] = 255 + (red - 255) * size;
      image.data[at + 1] = 255 + (green - 255) * size;
      image.data[at + 2] = 255 + (blue - 255) * size;
      image.data[at + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
}
