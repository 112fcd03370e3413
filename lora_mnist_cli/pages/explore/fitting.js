// From a drawing to the 28 × 28 pixels that the network sees, as data/pictures.py has it for `lora-mnist predict`: the
// digit is fitted into a box of 20 × 20 pixels, and put into 28 × 28 by its centre of mass, as MNIST's authors did.
// The numbers here are those there; a test holds the two against each other.

const SIDE = 28;
const BOX = 20;
const LEAST_CONTRAST = 0.1;
const EDGE = 0.3; // share of full ink above which a pixel belongs to the digit
const LINE = 2.2; // least width of a line, in pixels of the box
const FINE = 8; // pixels per pixel of the box while a line is blurred

// Halves go to the even neighbour, as in Python.
function roundHalfEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1;
  return rest < 0.5 ? below : below + 1;
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : Math.fround((sorted[half - 1] + sorted[half]) / 2);
}

function sumOf(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

function largestOf(values) {
  let most = Number.NEGATIVE_INFINITY;
  for (const value of values) if (value > most) most = value;
  return most;
}

// The pixels of a frame of a twentieth of the picture, its corners twice.
function borderOf({ data, width, height }) {
  const wide = Math.max(1, Math.floor(Math.min(width, height) / 20));
  const border = new Float32Array(2 * wide * (width + height));
  border.set(data.subarray(0, wide * width));
  border.set(data.subarray((height - wide) * width), wide * width);
  for (let y = 0, to = 2 * wide * width; y < height; y++, to += 2 * wide) {
    border.set(data.subarray(y * width, y * width + wide), to);
    border.set(data.subarray((y + 1) * width - wide, (y + 1) * width), to + wide);
  }
  return border;
}

// The ink of each pixel, 0 to 1, without the background and its noise; null where nothing is drawn.
function inkOf(bytes, side) {
  const data = Float32Array.from(bytes, (byte) => byte / 255);
  const grey = { data, width: side, height: side };
  let least = Number.POSITIVE_INFINITY;
  for (const value of data) if (value < least) least = value;
  if (median(borderOf(grey)) > (least + largestOf(data)) / 2) {
    for (let i = 0; i < data.length; i++) data[i] = 1 - data[i]; // dark on light
  }
  const border = borderOf(grey);
  const ground = median(border);
  const noise = Math.min(0.3, 3 * 1.4826 * median(border.map((value) => Math.abs(Math.fround(value - ground)))));
  const full = largestOf(data);
  if (full - ground - noise < LEAST_CONTRAST) return null;
  const range = full - ground - noise;
  const ink = data.map((value) =>
    Math.min(1, Math.max(0, Math.fround(Math.fround(Math.fround(value - ground) - noise) / range))),
  );
  return { data: ink, width: side, height: side };
}

function cutToInk({ data, width, height }) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] <= EDGE) continue;
      if (x < left) left = x;
      if (x > right) right = x;
      if (y < top) top = y;
      bottom = y;
    }
  }
  const cut = new Float32Array((right - left + 1) * (bottom - top + 1));
  for (let y = top; y <= bottom; y++) {
    cut.set(data.subarray(y * width + left, y * width + right + 1), (y - top) * (right - left + 1));
  }
  return { data: cut, width: right - left + 1, height: bottom - top + 1 };
}

function padded({ data, width, height }, by) {
  const wide = { data: new Float32Array((width + 2 * by) * (height + 2 * by)), width: width + 2 * by };
  for (let y = 0; y < height; y++) wide.data.set(data.subarray(y * width, (y + 1) * width), (y + by) * wide.width + by);
  return { ...wide, height: height + 2 * by };
}

// Mean width of the lines: twice their area over the length of their outline, which in grey is the total variation.
function lineWidth(picture) {
  const { data, width, height } = padded(picture, 2);
  let outline = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = y * width + x;
      const [down, across] = [data[at + width] - data[at - width], data[at + 1] - data[at - 1]];
      if (down !== 0 || across !== 0) outline += Math.sqrt(down * down + across * across) / 2;
    }
  }
  return (2 * sumOf(picture.data)) / outline;
}

// The error function by its series, to nine digits.
function errorFunction(x) {
  if (x > 4) return 1;
  let sum = x;
  let term = x;
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}

// A Gaussian down the columns; the result is turned, so that a second one goes across.
function blurredAndTurned({ data, width, height }, sigma) {
  const reach = Math.min(height - 1, Math.ceil(7 * sigma));
  const weights = Float64Array.from(
    { length: reach + 1 },
    (_, away) => Math.exp(-0.5 * (away / sigma) ** 2) / (Math.sqrt(2 * Math.PI) * sigma),
  );
  const turned = new Float64Array(width * height);
  for (let x = 0; x < width; x++) {
    for (let y = 0; y < height; y++) {
      let sum = 0;
      const end = Math.min(height - 1, y + reach);
      for (let i = Math.max(0, y - reach); i <= end; i++) sum += weights[Math.abs(i - y)] * data[i * width + x];
      turned[x * height + y] = sum;
    }
  }
  return { data: turned, width: height, height: width };
}

// Lines of at least LINE pixels of the box: a Gaussian adds the missing width, and is divided by its value in the middle.
function thickened(cut) {
  const longest = Math.max(cut.width, cut.height);
  const width = (lineWidth(cut) * BOX) / longest;
  if (width >= LINE) return cut;
  const sigma = Math.sqrt(LINE ** 2 - width ** 2) / (2 * Math.sqrt(2 * Math.log(2)));
  const middle = errorFunction(width / (2 * Math.sqrt(2) * sigma));
  const [rows, columns] = [cut.height, cut.width].map((side) =>
    Math.max(1, roundHalfEven((side * BOX * FINE) / longest)),
  );
  const fine = padded(resample(cut, columns, rows, bilinear), Math.ceil(3 * sigma * FINE));
  const wide = blurredAndTurned(blurredAndTurned(fine, sigma * FINE), sigma * FINE);
  const data = Float32Array.from(wide.data, (value) => Math.min(1, Math.max(0, value / middle)));
  return cutToInk({ ...wide, data });
}

function placeByMass(small, across) {
  const side = across ? small.width : small.height;
  let [mass, moment] = [0, 0];
  small.data.forEach((value, i) => {
    mass += value;
    moment += value * (across ? i % small.width : Math.floor(i / small.width));
  });
  return Math.min(SIDE - side, Math.max(0, roundHalfEven(SIDE / 2 - moment / mass)));
}

// The 784 pixels, 0 to 1, of a square drawing in bytes; null where nothing is drawn.
function fitted(bytes, side) {
  const ink = inkOf(bytes, side);
  if (ink === null) return null;
  const cut = thickened(cutToInk(ink));
  const longest = Math.max(cut.width, cut.height);
  const [height, width] = [cut.height, cut.width].map((each) => Math.max(1, roundHalfEven((each * BOX) / longest)));
  const small = resample(cut, width, height, bicubic);
  small.data = small.data.map((value) => Math.max(0, value));
  const most = largestOf(small.data);
  small.data = small.data.map((value) => value / most);
  const [top, left] = [placeByMass(small, false), placeByMass(small, true)];
  const pixels = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < height; y++) {
    pixels.set(small.data.subarray(y * width, (y + 1) * width), (top + y) * SIDE + left);
  }
  return pixels;
}

// The 784 pixels of a drawing without any fitting: means of squares; null where nothing is drawn.
function unfitted(bytes, side) {
  const step = side / SIDE;
  const pixels = new Float32Array(SIDE * SIDE);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) pixels[Math.floor(y / step) * SIDE + Math.floor(x / step)] += bytes[y * side + x];
  }
  return largestOf(pixels) > 0 ? pixels.map((sum) => sum / (255 * step * step)) : null;
}
