// The base, an adapter's change of it, and their answers. A layer is {name, inputs, outputs, weight, bias}, its weight
// row by row, a row per output.

function readLayers(record, numbers) {
  const next = reader(numbers);
  return record.layers.map((layer) => ({
    name: layer.name,
    inputs: layer.in,
    outputs: layer.out,
    weight: next(layer.in * layer.out),
    bias: next(layer.out),
  }));
}

// Each layer's change at alpha 1 as a sum of components: columns of `left` times rows of `right`.
function readFactors(adapter, layers, numbers) {
  const next = reader(numbers);
  return layers.map((layer) => {
    const has = adapter.layers[layer.name];
    if (has === undefined) return null;
    const left = next(layer.outputs * has.rank);
    const right = next(has.rank * layer.inputs);
    const values = new Float64Array(has.rank);
    left.forEach((value, i) => {
      values[i % has.rank] += value * value;
    });
    const bias = has.bias ? next(layer.outputs) : null;
    return { rank: has.rank, left, right, bias, values: values.map(Math.sqrt) };
  });
}

// The change of a layer by its first components, at alpha 1.
function productOf(layer, factors, components) {
  const rank = Math.min(components, factors.rank);
  const weight = new Float64Array(layer.outputs * layer.inputs);
  for (let row = 0; row < layer.outputs; row++) {
    const into = weight.subarray(row * layer.inputs, (row + 1) * layer.inputs);
    for (let i = 0; i < rank; i++) {
      const factor = factors.left[row * factors.rank + i];
      const from = i * layer.inputs;
      for (let x = 0; x < layer.inputs; x++) into[x] += factor * factors.right[from + x];
    }
  }
  return { weight, bias: factors.bias };
}

function times(layer, weight, input, bias) {
  const output = new Float64Array(layer.outputs);
  for (let row = 0; row < layer.outputs; row++) {
    let sum = bias === null ? 0 : bias[row];
    const from = row * layer.inputs;
    for (let x = 0; x < layer.inputs; x++) sum += weight[from + x] * input[x];
    output[row] = sum;
  }
  return output;
}

function normalised(pixels, [mean, std]) {
  return Float64Array.from(pixels, (value) => Math.fround(value - Math.fround(mean)) / Math.fround(std));
}

// What the first layer makes of an input, and its change at alpha 1. Neither depends on alpha, and they take most of
// the time: alpha can move without them being computed again.
function readyInput(layers, changes, input) {
  const [first, change] = [layers[0], changes[0]];
  return {
    plain: times(first, first.weight, input, first.bias),
    change: change === null ? null : times(first, change.weight, input, change.bias),
  };
}

// The layers after the first with their changes at an alpha.
function mergedLayers(layers, changes, alpha) {
  return layers.slice(1).map((layer, i) => {
    const change = changes[i + 1];
    if (change === null || alpha === 0) return layer;
    return {
      ...layer,
      weight: change.weight.map((value, at) => layer.weight[at] + alpha * value),
      bias: change.bias === null ? layer.bias : change.bias.map((value, at) => layer.bias[at] + alpha * value),
    };
  });
}

// The ten logits of an input that is ready, by layers that are merged at the same alpha.
function logitsOf(ready, merged, alpha) {
  let hidden = ready.plain.slice();
  if (ready.change !== null && alpha !== 0) hidden = hidden.map((value, i) => value + alpha * ready.change[i]);
  for (const layer of merged) {
    for (let i = 0; i < hidden.length; i++) if (hidden[i] < 0) hidden[i] = 0;
    hidden = times(layer, layer.weight, hidden, layer.bias);
  }
  return hidden;
}

// The probabilities of all digits, or of some, which leaves none to the others.
function softmax(logits, among = null) {
  const most = logits[bestOf(logits, among)];
  const shares = Array.from(logits, (value, i) => (among === null || among.includes(i) ? Math.exp(value - most) : 0));
  const sum = sumOf(shares);
  return shares.map((share) => share / sum);
}

// The largest logit, of all digits or among some.
function bestOf(logits, among = null) {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    if ((among === null || among.includes(i)) && (best < 0 || logits[i] > logits[best])) best = i;
  }
  return best;
}
