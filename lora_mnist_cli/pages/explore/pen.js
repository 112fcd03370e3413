// The pen: strokes become bytes here and not in a canvas, so that a link gives the same pixels in every browser, and a
// browser that adds noise to what is read from a canvas does no harm.

const PAD = 280; // pixels of a side, ten per pixel of the network
const RADIUS = 11.5; // a line of 2.3 pixels of 28 × 28, as MNIST's pens had

function emptyInk() {
  return new Uint8Array(PAD * PAD);
}

// Draws a line between two points; at its edge a pixel has as much ink as it is covered.
function inkLine(ink, fromX, fromY, toX, toY) {
  const [alongX, alongY] = [toX - fromX, toY - fromY];
  const length = alongX * alongX + alongY * alongY;
  const reach = RADIUS + 1;
  const bounds = (a, b) => [
    Math.max(0, Math.floor(Math.min(a, b) - reach)),
    Math.min(PAD - 1, Math.ceil(Math.max(a, b) + reach)),
  ];
  const [left, end] = bounds(fromX, toX);
  const [top, bottom] = bounds(fromY, toY);
  for (let y = top; y <= bottom; y++) {
    for (let x = left; x <= end; x++) {
      const share = length === 0 ? 0 : ((x - fromX) * alongX + (y - fromY) * alongY) / length;
      const near = Math.min(1, Math.max(0, share));
      const [right, below] = [x - fromX - near * alongX, y - fromY - near * alongY];
      const away = Math.sqrt(right * right + below * below);
      const covered = Math.round(255 * Math.min(1, Math.max(0, RADIUS + 0.5 - away)));
      if (covered > ink[y * PAD + x]) ink[y * PAD + x] = covered;
    }
  }
}

function inkStroke(ink, stroke) {
  inkLine(ink, stroke[0], stroke[1], stroke[0], stroke[1]);
  for (let i = 2; i < stroke.length; i += 2) inkLine(ink, stroke[i - 2], stroke[i - 1], stroke[i], stroke[i + 1]);
}

function inkOfStrokes(strokes) {
  const ink = emptyInk();
  for (const stroke of strokes) inkStroke(ink, stroke);
  return ink;
}

// A test image, enlarged ten times; its means over ten by ten pixels are the image again.
function inkOfImage(bytes) {
  const ink = emptyInk();
  const step = PAD / SIDE;
  for (let y = 0; y < PAD; y++) {
    for (let x = 0; x < PAD; x++) ink[y * PAD + x] = bytes[Math.floor(y / step) * SIDE + Math.floor(x / step)];
  }
  return ink;
}

// Ready drawings for a page that opens: digits as a hand would write them.
const READY_DRAWINGS = {
  2: [
    [
      88, 98, 98, 74, 122, 58, 150, 58, 174, 72, 182, 98, 172, 126, 148, 154, 116, 186, 88, 216, 128, 214, 164, 214,
      196, 212,
    ],
  ],
  3: [
    [
      92, 80, 114, 62, 144, 58, 170, 70, 178, 94, 164, 120, 136, 132, 168, 140, 186, 164, 180, 194, 154, 216, 120, 218,
      92, 202,
    ],
  ],
  4: [
    [108, 60, 100, 96, 90, 134, 88, 150, 120, 150, 156, 146, 190, 142],
    [168, 64, 164, 110, 160, 160, 156, 220],
  ],
};
