// The experts' densities of images, as models/densities.py and models/router.py have them: which expert knows such an
// image? Factors that all experts share are left out, because only the ratio of densities counts.

function blurKernel() {
  const row = (y) => Float64Array.from({ length: SIDE }, (_, x) => Math.exp(-((x - y) ** 2) / 2));
  const sum = sumOf(row(SIDE / 2));
  return Array.from({ length: SIDE }, (_, y) => row(y).map((value) => value / sum));
}

function blurred(image, kernel) {
  let picture = image;
  for (let pass = 0; pass < 2; pass++) {
    const turned = new Float64Array(SIDE * SIDE);
    for (let y = 0; y < SIDE; y++) {
      for (let x = 0; x < SIDE; x++) {
        let sum = 0;
        for (let i = 0; i < SIDE; i++) sum += picture[y * SIDE + i] * kernel[x][i];
        turned[x * SIDE + y] = sum;
      }
    }
    picture = turned;
  }
  return picture;
}

// The lower triangle L of L Lᵀ = matrix, in place.
function cholesky(matrix, size) {
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * size + j];
      for (let k = 0; k < j; k++) sum -= matrix[i * size + k] * matrix[j * size + k];
      matrix[i * size + j] = i === j ? Math.sqrt(sum) : sum / matrix[j * size + j];
    }
  }
  return matrix;
}

// A component's directions, whitened: rows of `whitening` take the squared products with them off a distance.
function readyComponent(directions, noise, weight, size, q) {
  const inner = new Float64Array(q * q);
  for (let i = 0; i < q; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? noise : 0;
      for (let k = 0; k < size; k++) sum += directions[k * q + i] * directions[k * q + j];
      inner[i * q + j] = sum;
    }
  }
  const factor = cholesky(inner, q);
  const whitening = new Float64Array(q * size);
  let logDeterminant = (SIDE * SIDE - q) * Math.log(noise);
  for (let i = 0; i < q; i++) {
    logDeterminant += 2 * Math.log(factor[i * q + i]);
    for (let k = 0; k < size; k++) {
      let sum = directions[k * q + i] / Math.sqrt(noise);
      for (let j = 0; j < i; j++) sum -= factor[i * q + j] * whitening[j * size + k];
      whitening[i * size + k] = sum / factor[i * q + i];
    }
  }
  return { whitening, constant: Math.log(weight) - 0.5 * logDeterminant };
}

async function readDensity(record) {
  const next = reader(await unpackFloats(record.numbers));
  const part = {};
  for (const [name, shape] of Object.entries(record.shapes)) part[name] = next(shape.reduce((a, b) => a * b, 1));
  const [count, size, q] = record.shapes.directions;
  const digits = record.components.flatMap((components, i) => Array(components).fill(i));
  const ready = Array.from({ length: count }, (_, c) => ({
    ...readyComponent(
      part.directions.subarray(c * size * q, (c + 1) * size * q),
      part.noise[c],
      part.weights[c],
      size,
      q,
    ),
    centre: part.centres.subarray(c * size, (c + 1) * size),
    noise: part.noise[c],
    logCount: Math.log(record.counts[digits[c]]),
  }));
  return { digits: record.digits, mean: part.mean, basis: part.basis, size, components: ready };
}

function logSumExp(values) {
  const most = largestOf(values);
  return most + Math.log(sumOf(values.map((value) => Math.exp(value - most))));
}

// log Σ count · p(image | component), of an image after the blur.
function logMarginal(density, image) {
  const { size, basis } = density;
  const points = new Float64Array(size);
  let whole = 0;
  for (let i = 0; i < image.length; i++) {
    const centred = image[i] - density.mean[i];
    whole += centred * centred;
    for (let k = 0; k < size; k++) points[k] += centred * basis[i * size + k];
  }
  const beyond = Math.max(0, whole - sumOf(points.map((value) => value * value)));
  return logSumExp(
    density.components.map(({ whitening, constant, centre, noise, logCount }) => {
      const away = points.map((value, k) => value - centre[k]);
      let [distance, inside] = [beyond, 0];
      for (let k = 0; k < size; k++) distance += away[k] * away[k];
      for (let row = 0; row < whitening.length; row += size) {
        let along = 0;
        for (let k = 0; k < size; k++) along += away[k] * whitening[row + k];
        inside += along * along;
      }
      return constant - 0.5 * (distance / noise - inside) + logCount;
    }),
  );
}

// The probability of each expert, given a normalised image.
function expertShares(densities, image, temperature, kernel) {
  const smooth = blurred(image, kernel);
  const shares = densities.map((density) => {
    const parts = density.digits.map((digit) => 1 / densities.filter((other) => other.digits.includes(digit)).length);
    return Math.log(sumOf(parts) / parts.length);
  });
  return softmax(densities.map((density, i) => logMarginal(density, smooth) / temperature + shares[i]));
}
