// From the text of the JSON block to numbers, as pages/packing.py wrote them; and bytes into a PNG.

const BASE_85 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%,()*+-;[=]?@^_`{|}~";

function fromBase85(text) {
  const values = new Uint8Array(128);
  for (let i = 0; i < 85; i++) values[BASE_85.charCodeAt(i)] = i;
  const missing = (5 - (text.length % 5)) % 5;
  const padded = text + "~".repeat(missing);
  const bytes = new Uint8Array((padded.length / 5) * 4);
  const view = new DataView(bytes.buffer);
  for (let from = 0, to = 0; from < padded.length; from += 5, to += 4) {
    let word = 0;
    for (let i = 0; i < 5; i++) word = word * 85 + values[padded.charCodeAt(from + i)];
    view.setUint32(to, word);
  }
  return bytes.subarray(0, bytes.length - missing);
}

async function through(stream, bytes) {
  const response = new Response(new Blob([bytes]).stream().pipeThrough(stream));
  return new Uint8Array(await response.arrayBuffer());
}

function unpackBytes(text) {
  return through(new DecompressionStream("deflate"), fromBase85(text));
}

// 32-bit floats, whose bytes lie in four planes, with the sign in the lowest bit.
async function unpackFloats(text) {
  const planes = await unpackBytes(text);
  const count = planes.length / 4;
  const bits = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    const turned =
      (planes[i] | (planes[count + i] << 8) | (planes[2 * count + i] << 16) | (planes[3 * count + i] << 24)) >>> 0;
    bits[i] = (turned >>> 1) | (turned << 31);
  }
  // All arithmetic is in double precision, and code that sees one kind of array only runs several times as fast.
  return Float64Array.from(new Float32Array(bits.buffer));
}

// Gives the next numbers of a row, as often as it is called with a count.
function reader(numbers) {
  let at = 0;
  return (count) => {
    at += count;
    return numbers.subarray(at - count, at);
  };
}

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

function pngChunk(name, content) {
  const chunk = new Uint8Array(content.length + 12);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  for (let i = 0; i < 4; i++) chunk[4 + i] = name.charCodeAt(i);
  chunk.set(content, 8);
  view.setUint32(content.length + 8, crc32(chunk.subarray(4, content.length + 8)));
  return chunk;
}

// A square picture in grey, a byte per pixel. A canvas would do, but some browsers add noise to what is read from one.
async function toPng(pixels, side) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, side);
  view.setUint32(4, side);
  header[8] = 8; // bits per pixel
  const rows = new Uint8Array(side * (side + 1)); // each begins with the number of its filter, 0
  for (let y = 0; y < side; y++) rows.set(pixels.subarray(y * side, (y + 1) * side), y * (side + 1) + 1);
  const packed = await through(new CompressionStream("deflate"), rows);
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks = [pngChunk("IHDR", header), pngChunk("IDAT", packed), pngChunk("IEND", new Uint8Array(0))];
  return new Blob([signature, ...chunks], { type: "image/png" });
}
