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

// The median of values that occur so many times each.
function medianOf(values, counts) {
  const order = Array.from(values.keys()).sort((one, other) => values[one] - values[other]);
  const at = (place) => {
    let passed = 0;
    for (const i of order) {
      passed += counts[i];
      if (passed > place) return values[i];
    }
    return 0;
  };
  const count = sumOf(counts);
  return Math.fround((at(Math.floor((count - 1) / 2)) + at(Math.floor(count / 2))) / 2);
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

// How often each byte occurs in a frame of a twentieth of a square picture, whose corners count twice.
function borderCounts(bytes, side) {
  const wide = Math.max(1, Math.floor(side / 20));
  const counts = new Float64Array(256);
  for (let along = 0; along < side; along++) {
    for (let deep = 0; deep < wide; deep++) {
      const far = side - 1 - deep;
      counts[bytes[deep * side + along]] += 1;
      counts[bytes[far * side + along]] += 1;
      counts[bytes[along * side + deep]] += 1;
      counts[bytes[along * side + far]] += 1;
    }
  }
  return counts;
}

// The ink of each pixel, 0 to 1, without the background and its noise; null where nothing is drawn. A byte has 256
// values, so the ink of each is computed once.
function inkOf(bytes, side) {
  const counts = borderCounts(bytes, side);
  let [least, most] = [255, 0];
  for (const byte of bytes) {
    if (byte < least) least = byte;
    if (byte > most) most = byte;
  }
  let light = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);
  if (medianOf(light, counts) > (light[least] + light[most]) / 2) {
    light = light.map((value) => 1 - value); // dark on light
    [least, most] = [most, least];
  }
  const ground = medianOf(light, counts);
  const away = light.map((value) => Math.abs(value - ground));
  const noise = Math.min(0.3, 3 * 1.4826 * medianOf(away, counts));
  const range = light[most] - ground - noise;
  if (range < LEAST_CONTRAST) return null;
  const ink = light.map((value) =>
    Math.min(1, Math.max(0, Math.fround(Math.fround(value - ground) - Math.fround(noise)) / Math.fround(range))),
  );
  const data = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) data[i] = ink[bytes[i]];
  return { data, width: side, height: side };
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
