// Pillow's resampling of grey pictures (src/libImaging/Resample.c): the same weights, first across and then down.
// A picture is {data, width, height}, its data row by row.

function bilinear(x) {
  return Math.max(0, 1 - Math.abs(x));
}
bilinear.support = 1;

// Keys' cubic with a = -0.5.
function bicubic(x) {
  const away = Math.abs(x);
  if (away < 1) return (1.5 * away - 2.5) * away * away + 1;
  if (away < 2) return ((-0.5 * away + 2.5) * away - 4) * away + 2;
  return 0;
}
bicubic.support = 2;

// For each pixel of the result: the first pixel that counts, and the weights of it and those after it.
function resamplingWeights(from, to, filter) {
  const scale = from / to;
  const wide = Math.max(scale, 1);
  const support = filter.support * wide;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = new Float64Array(end - first);
    let sum = 0;
    for (let x = 0; x < weights.length; x++) {
      weights[x] = filter((x + first - centre + 0.5) / wide);
      sum += weights[x];
    }
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

function resample(picture, width, height, filter) {
  let { data } = picture;
  if (width !== picture.width) {
    const columns = resamplingWeights(picture.width, width, filter);
    const across = new Float32Array(width * picture.height);
    for (let y = 0; y < picture.height; y++) {
      columns.forEach(({ first, weights }, x) => {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += data[y * picture.width + first + i] * weights[i];
        across[y * width + x] = sum;
      });
    }
    data = across;
  }
  if (height !== picture.height) {
    const down = new Float32Array(width * height);
    resamplingWeights(picture.height, height, filter).forEach(({ first, weights }, y) => {
      for (let x = 0; x < width; x++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) sum += data[(first + i) * width + x] * weights[i];
        down[y * width + x] = sum;
      }
    });
    data = down;
  }
  return { data, width, height };
}
