// Mean-field theory of wide random networks, and one random network beside it. No DOM, no library.
//
// A layer is z = W a + b with W ~ N(0, weightVariance / width) and b ~ N(0, biasVariance), and
// a = phi(z) between layers. Averages over a Gaussian are taken as the library takes them: by
// Gauss-Legendre panels with an edge at zero, where all kinks of these activations are. (A
// Gauss-Hermite rule of 64 nodes would miss the second moment of ELU's slope by 1e-3.)

import { requireKey, requireNumber, requireOptions } from "./checks.js";

const sech2 = (x) => 1 - Math.tanh(x) ** 2;
const logistic = (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const GELU_ROOT = Math.sqrt(2 / Math.PI);
const geluInner = (x) => GELU_ROOT * (x + 0.044715 * x * x * x);
const SELU_SCALE = 1.0507009873554805;
const SELU_ALPHA = 1.6732632423543772;

// Each activation with its slope; the names are those of jax.nn (leaky ReLU with slope 0.1: the
// doctor would call that of 0.01 saturated, as half of its slopes are below 0.05).
export const ACTIVATIONS = {
  tanh: { label: "tanh", value: Math.tanh, slope: sech2 },
  relu: { label: "ReLU", value: (x) => (x > 0 ? x : 0), slope: (x) => (x > 0 ? 1 : 0) },
  leaky_relu: {
    label: "leaky ReLU, slope 0.1",
    value: (x) => (x >= 0 ? x : 0.1 * x),
    slope: (x) => (x >= 0 ? 1 : 0.1),
  },
  gelu: {
    label: "GELU",
    value: (x) => 0.5 * x * (1 + Math.tanh(geluInner(x))),
    slope: (x) => {
      const t = Math.tanh(geluInner(x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * GELU_ROOT * (1 + 3 * 0.044715 * x * x);
    },
  },
  silu: {
    label: "SiLU",
    value: (x) => x * logistic(x),
    slope: (x) => {
      const s = logistic(x);
      return s + x * s * (1 - s);
    },
  },
  elu: {
    label: "ELU",
    value: (x) => (x > 0 ? x : Math.expm1(x)),
    slope: (x) => (x > 0 ? 1 : Math.exp(x)),
  },
  selu: {
    label: "SELU",
    value: (x) => SELU_SCALE * (x > 0 ? x : SELU_ALPHA * Math.expm1(x)),
    slope: (x) => SELU_SCALE * (x > 0 ? 1 : SELU_ALPHA * Math.exp(x)),
  },
  sigmoid: {
    label: "sigmoid",
    value: logistic,
    slope: (x) => logistic(x) * logistic(-x),
  },
  identity: { label: "identity", value: (x) => x, slope: () => 1 },
};

// Where the library's doctor begins to speak: jaxopt_tut.diagnostics' thresholds of these names.
export const THRESHOLDS = {
  vanishing: 0.002,
  exploding: 30,
  small_factor: 0.03,
  large_gain: 20,
  small_arrival: 0.05,
  backward: 1e4,
  saturated: 0.4,
  collapse: 5e-4,
};

export const LIMITS = { depth: 1000, width: 256, seed: 1e9 };

// ---- averages over a Gaussian

const NODES = [0.1834346424956498, 0.525532409916329, 0.7966664774136267, 0.9602898564975362];
const WEIGHTS = [0.362683783378362, 0.31370664587788744, 0.2223810344533745, 0.10122853629037626];
const SMALLEST = 2 ** -40;
const LARGEST = 2 ** 40;
const NEGLIGIBLE = 2 ** -60;
const ROUNDING = 1e-12;
const rules = new Map();

// Nodes z > 0 with weights w and root densities. `fine` halvings towards zero: at variance q an
// activation bends where z is about 1 / sqrt(q).
function halfRule(fine) {
  if (rules.has(fine)) return rules.get(fine);
  const edges = [0];
  for (let k = -2 - fine; k < -2; k += 1) edges.push(2 ** k, 1.5 * 2 ** k);
  for (let z = 0.25; z < 2; z += 0.25) edges.push(z);
  for (let z = 2; z <= 9; z += 0.5) edges.push(z);
  const z = [];
  const w = [];
  const density = [];
  for (let i = 0; i + 1 < edges.length; i += 1) {
    const middle = (edges[i] + edges[i + 1]) / 2;
    const half = (edges[i + 1] - edges[i]) / 2;
    for (let k = 0; k < 4; k += 1) {
      for (const sign of [-1, 1]) {
        const at = middle + sign * half * NODES[k];
        z.push(at);
        density.push(Math.exp((-at * at) / 4) / (2 * Math.PI) ** 0.25);
        w.push(half * WEIGHTS[k]);
      }
    }
  }
  const rule = {
    z: Float64Array.from(z),
    w: Float64Array.from(w),
    density: Float64Array.from(density),
    mass: Float64Array.from(w, (weight, i) => weight * density[i] ** 2),
  };
  rules.set(fine, rule);
  return rule;
}

function ruleAt(q) {
  const fine = Math.ceil(Math.log2(Math.sqrt(Math.max(q, 1)))) + 3;
  return halfRule(Math.min(fine, 24));
}

function average(f, q) {
  const { z, mass } = ruleAt(q);
  const root = Math.sqrt(Math.max(q, NEGLIGIBLE));
  let sum = 0;
  for (let i = 0; i < z.length; i += 1) sum += mass[i] * (f(root * z[i]) + f(-root * z[i]));
  return sum;
}

function meanSquare(f, q) {
  const { z, mass } = ruleAt(q);
  const root = Math.sqrt(Math.max(q, NEGLIGIBLE));
  let sum = 0;
  for (let i = 0; i < z.length; i += 1) {
    const right = f(root * z[i]);
    const left = f(-root * z[i]);
    sum += mass[i] * (right * right + left * left);
  }
  return sum;
}

// E[phi(sqrt(q) z)^2] and E[phi'(sqrt(q) z)^2].
export const secondMoment = (activation, q) => meanSquare(ACTIVATIONS[activation].value, q);
export const slopeMoment = (activation, q) => meanSquare(ACTIVATIONS[activation].slope, q);

export function gain(activation, mode = "forward") {
  const { value } = ACTIVATIONS[activation];
  if (mode === "backward") return slopeMoment(activation, 1) ** -0.5;
  if (mode === "forward") return secondMoment(activation, 1) ** -0.5;
  const mean = average(value, 1);
  return average((x) => (value(x) - mean) ** 2, 1) ** -0.5;
}

// ---- fixed points

function bisect(isBelow, low, high, steps) {
  for (let i = 0; i < steps; i += 1) {
    const middle = (low + high) / 2;
    if (isBelow(middle)) low = middle;
    else high = middle;
  }
  return high;
}

// The zero of f between two points of opposite sign: the secant, kept in the bracket (Illinois).
function zeroBetween(f, a, b) {
  let [fa, fb] = [f(a), f(b)];
  for (let i = 0; i < 100 && fb !== 0 && Math.abs(b - a) > 4e-16 * Math.abs(b); i += 1) {
    let c = b - (fb * (b - a)) / (fb - fa);
    if (!(c > Math.min(a, b) && c < Math.max(a, b))) c = (a + b) / 2;
    if (c === a || c === b) return c;
    const fc = f(c);
    if (fc * fb < 0) [a, fa] = [b, fb];
    else fa /= 2;
    if (Math.abs(c - b) <= 1e-15 * Math.abs(c)) return c;
    [b, fb] = [c, fc];
  }
  return b;
}

// The first q that `next` keeps, on the side that q = 1 moves to; the ends stand for 0 and inf.
function firstFixedPoint(next, start = 1) {
  const direction = (q) => {
    const growth = next(q) / q - 1;
    return growth > ROUNDING ? 1 : growth < -ROUNDING ? -1 : 0;
  };
  const up = direction(start);
  if (up === 0) return start;
  const factor = up > 0 ? 2 : 0.5;
  for (let q = start; q >= SMALLEST && q <= LARGEST; q *= factor) {
    if (q === start || direction(q) !== -up) continue;
    const [low, high] = up > 0 ? [q / 2, q] : [q, 2 * q];
    return zeroBetween((at) => next(at) - at, low, high);
  }
  return up > 0 ? LARGEST : SMALLEST;
}

const withLimits = (q) => (q <= SMALLEST ? 0 : q >= LARGEST ? Infinity : q);

// Where signals end, and the factor on the gradient's variance a layer there.
export function meanField(activation, weightVariance, biasVariance) {
  const next = (q) => weightVariance * secondMoment(activation, q) + biasVariance;
  const q = firstFixedPoint(next);
  const chi = weightVariance * slopeMoment(activation, q);
  const series = covarianceSeries(activation, q);
  const map = (d) => nextDistance(series, d, weightVariance, biasVariance);
  const slope = q <= SMALLEST ? chi : map(0).slope;
  const isChaotic = slope > 1 + ROUNDING;
  const distance = isChaotic ? bisect((d) => map(d).distance > d, 0, 1, 104) : 0;
  const decay = isChaotic ? map(distance).slope : slope;
  const depthScale = decay < 1 - ROUNDING ? -1 / Math.log(decay) : Infinity;
  return { qStar: withLimits(q), chi, cStar: 1 - distance, depthScale };
}

// The weight variance at which chi = 1; NaN where there is none.
export function critical(activation, biasVariance) {
  const next = (q) => secondMoment(activation, q) / slopeMoment(activation, q) + biasVariance;
  const q = firstFixedPoint(next);
  const slope = slopeMoment(activation, q);
  const inwards = Math.min(Math.max(q, 16 * SMALLEST), LARGEST / 16);
  const exists = slope > 0 && Math.abs(slope / slopeMoment(activation, inwards) - 1) < 0.1;
  const weightVariance = exists ? 1 / slope : NaN;
  return { weightVariance, qStar: withLimits(q) };
}

// Whether signals stay at the critical point: GELU's and SiLU's leave it at small bias variances.
function holds(activation, biasVariance, { weightVariance, qStar }) {
  const end = firstFixedPoint((q) => weightVariance * secondMoment(activation, q) + biasVariance);
  return withLimits(end) === qStar || Math.abs(end / qStar - 1) < 1e-3;
}

// ---- how like two inputs become

const NUM_POWERS = 256;

// Hermite's functions at the nodes of a rule, one after the other: each covariance needs the same.
function hermiteFunctions({ z, density }) {
  const size = z.length;
  const found = new Float64Array(NUM_POWERS * size);
  found.set(density);
  for (let k = 1; k < NUM_POWERS; k += 1) {
    const [root, scale, own] = [Math.sqrt(k - 1), 1 / Math.sqrt(k), k * size];
    for (let i = 0; i < size; i += 1) {
      const before = k > 1 ? found[own - 2 * size + i] : 0;
      found[own + i] = (z[i] * found[own - size + i] - root * before) * scale;
    }
  }
  return found;
}

// E[phi(u) phi(v)] as a power series in the correlation of u and v (Mehler's formula); one even and
// one odd power stand for all from 256 on.
function covarianceSeries(activation, variance) {
  const q = Math.max(variance, NEGLIGIBLE);
  const root = Math.sqrt(q);
  const rule = ruleAt(q);
  const { z, w, density } = rule;
  const functions = (rule.functions ??= hermiteFunctions(rule));
  const { value, slope } = ACTIVATIONS[activation];
  const size = z.length;
  const parts = [new Float64Array(size), new Float64Array(size)];
  const sums = { value: [0, 0], slope: [0, 0] };
  for (let i = 0; i < size; i += 1) {
    const right = value(root * z[i]) * density[i];
    const left = value(-root * z[i]) * density[i];
    parts[0][i] = w[i] * (right + left);
    parts[1][i] = w[i] * (right - left);
    sums.value[0] += (w[i] * (right + left) ** 2) / 2;
    sums.value[1] += (w[i] * (right - left) ** 2) / 2;
    const rise = slope(root * z[i]) * density[i];
    const fall = slope(-root * z[i]) * density[i];
    sums.slope[0] += (q * w[i] * (rise - fall) ** 2) / 2;
    sums.slope[1] += (q * w[i] * (rise + fall) ** 2) / 2;
  }
  const squares = new Float64Array(NUM_POWERS);
  for (let k = 0; k < NUM_POWERS; k += 1) {
    const part = parts[k % 2];
    const own = k * size;
    let coefficient = 0;
    for (let i = 0; i < size; i += 1) coefficient += part[i] * functions[own + i];
    squares[k] = coefficient * coefficient;
    sums.value[k % 2] -= squares[k];
    sums.slope[k % 2] -= k * squares[k];
  }
  const moment = sums.slope.map((sum) => Math.max(sum, 0));
  const rest = sums.value.map((sum, i) => Math.min(Math.max(sum, 0), moment[i] / NUM_POWERS));
  const power = rest.map((sum, i) => (sum > 0 ? moment[i] / sum : NUM_POWERS));
  return { squares, rest, power };
}

// 1 - C(1 - d) and its slope in d, for 0 <= d <= 1, precise for nearly equal inputs.
function nextDistance({ squares, rest, power }, distance, weightVariance, biasVariance) {
  const logSize = Math.log1p(-Math.min(distance, 1 - 2 ** -52));
  let lost = 0;
  let slope = 0;
  let total = squares[0];
  const add = (square, k) => {
    lost -= square * Math.expm1(k * logSize);
    slope += square * k * Math.exp((k - 1) * logSize);
    total += square;
  };
  for (let k = 1; k < NUM_POWERS; k += 1) if (squares[k] > 0) add(squares[k], k);
  rest.forEach((square, i) => add(square, power[i]));
  const scale = weightVariance / (weightVariance * total + biasVariance);
  return { distance: scale * lost, slope: scale * slope };
}

// ---- a network of finite depth

const OPTIONS = ["activation", "weightVariance", "biasVariance", "depth", "width", "seed"];

export function checked(options) {
  const who = "variances";
  requireOptions(who, options, OPTIONS);
  const {
    activation = "tanh", weightVariance = 1, biasVariance = 0, depth = 10, width, seed = 1,
  } = options;
  requireKey(who, "activation", activation, ACTIVATIONS);
  requireNumber(who, "weightVariance", weightVariance, { low: 0 });
  requireNumber(who, "biasVariance", biasVariance, { low: 0 });
  requireNumber(who, "depth", depth, { low: 1, high: LIMITS.depth, whole: true });
  if (width !== undefined) requireNumber(who, "width", width, { low: 1, high: LIMITS.width, whole: true });
  requireNumber(who, "seed", seed, { low: 0, high: LIMITS.seed, whole: true });
  return { activation, weightVariance, biasVariance, depth, width, seed };
}

// The same function with its last answer kept: deep down the variance stands still.
function settled(f) {
  let at = NaN;
  let value = NaN;
  return (q) => {
    if (!(Math.abs(q - at) <= 1e-15 * at)) [at, value] = [q, f(Number.isFinite(q) ? q : LARGEST)];
    return value;
  };
}

// Variance of the signal and of the gradient at each layer's pre-activations, by theory. The input
// has mean square 1; the gradient is measured against that of the last layer.
function layers(activation, weightVariance, biasVariance, depth) {
  const forward = [weightVariance + biasVariance];
  const next = settled((q) => weightVariance * secondMoment(activation, q) + biasVariance);
  for (let i = 1; i < depth; i += 1) {
    const q = forward[i - 1];
    forward.push(Number.isFinite(q) ? next(q) : q);
  }
  const backward = new Array(depth).fill(1);
  const factor = settled((q) => weightVariance * slopeMoment(activation, q));
  for (let i = depth - 2; i >= 0; i -= 1) backward[i] = backward[i + 1] * factor(forward[i]);
  return { forward, backward, lastFactor: factor(forward[depth - 1]) };
}

// How far apart in correlation two unlike inputs still are at each layer: 1 - c.
function distances(activation, weightVariance, biasVariance, forward) {
  const found = [forward[0] > 0 ? weightVariance / forward[0] : NaN];
  let series = null;
  let at = NaN;
  for (let i = 0; i + 1 < forward.length; i += 1) {
    if (!(Math.abs(forward[i] - at) <= 0.01 * at)) {
      at = forward[i];
      series = covarianceSeries(activation, at);
    }
    found.push(nextDistance(series, found[i], weightVariance, biasVariance).distance);
  }
  return found;
}

export function variances(options) {
  const given = checked(options);
  const { activation, weightVariance, biasVariance, depth } = given;
  const field = meanField(activation, weightVariance, biasVariance);
  const edge = critical(activation, biasVariance);
  edge.holds = holds(activation, biasVariance, edge);
  const found = layers(activation, weightVariance, biasVariance, depth);
  const result = {
    ...found, ...field, critical: edge, gain: gain(activation),
    // asked for once a drag has ended
    get verdict() { return judge(given, this); },
  };
  if (given.width !== undefined) result.sample = sample(given);
  return result;
}

// ---- the doctor

const saturation = (activation, q) => {
  const { value, slope } = ACTIVATIONS[activation];
  return average((x) => (Math.abs(slope(x)) < 0.05 && value(x) !== 0 ? 1 : 0), q);
};

function sizeVerdict(weightVariance, biasVariance, variance, layer, isLast) {
  const t = THRESHOLDS;
  const arrival = variance - biasVariance; // what the weights make of the layer before
  const read = arrival / weightVariance;
  if (!weightVariance || !read) return null; // a layer of zeros is meant
  const isStrong = weightVariance > t.large_gain && !(arrival < t.small_arrival);
  const isRaised = variance > t.exploding * read && variance > 1;
  if (!(variance <= t.exploding) || isRaised) return ["exploding", "forward"];
  if (isStrong) return ["exploding", "weights"];
  if (variance < t.vanishing / layer && !isLast) return ["vanishing", "forward"];
  return weightVariance < t.small_factor ? ["vanishing", "weights"] : null;
}

// The first verdict that the library's doctor would give, in its order, on what theory predicts.
function judge({ activation, weightVariance, biasVariance, depth }, { forward, backward, chi }) {
  const found = [];
  const say = (kind, where, layer, value) => found.push({ kind, where, layer, value });
  for (let i = 0; i < depth; i += 1) {
    const size = sizeVerdict(weightVariance, biasVariance, forward[i], i + 1, i === depth - 1);
    if (size) say(...size, i + 1, forward[i]);
    const bound = THRESHOLDS.backward ** Math.max(1, (depth - 1 - i) / 10);
    if (backward[i] > bound) say("exploding", "backward", i + 1, backward[i]);
    else if (backward[i] > 0 && backward[i] < 1 / bound) {
      say("vanishing", "backward", i + 1, backward[i]);
    }
  }
  // of one activation more is flat the larger its input
  const worst = saturation(activation, Math.max(...forward.slice(0, -1), 0));
  if (!found.length && worst > THRESHOLDS.saturated) {
    const share = settled((q) => saturation(activation, q));
    forward.slice(0, -1).forEach((q, i) => {
      if (share(q) > THRESHOLDS.saturated) say("saturated", "forward", i + 1, share(q));
    });
  }
  if (!found.length && chi < 1) {
    const apart = distances(activation, weightVariance, biasVariance, forward);
    apart.forEach((d, i) => {
      const predicted = (9 * Math.PI ** 2) / (2 * (i + 1) ** 2);
      const least = Math.min(THRESHOLDS.collapse, predicted / 10);
      if (d < least) say("rank_collapse", "forward", i + 1, d);
    });
  }
  if (weightVariance === 0) say("symmetric", "weights", 1, 0);
  const order = ["symmetric", "exploding", "vanishing", "saturated", "rank_collapse"];
  for (const kind of order) {
    const own = found.filter((one) => one.kind === kind);
    if (!own.length) continue;
    // Of several layers the first forwards, and backwards that nearest to the loss.
    return own.find((one) => one.where !== "backward") ?? own[own.length - 1];
  }
  return { kind: "fine", where: "", layer: 0, value: NaN };
}

// ---- one random network

// sfc32 (Chris Doty-Humphrey's small fast counter), seeded by a multiplicative hash.
export function generator(seed) {
  let a = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) | 0;
  let b = Math.imul(a ^ (a >>> 15), 0xc2b2ae35) | 0;
  let c = seed | 0;
  let counter = 1;
  const next = () => {
    const t = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (c << 21) | (c >>> 11);
    c = (c + t) | 0;
    return (t >>> 0) / 4294967296;
  };
  for (let i = 0; i < 12; i += 1) next();
  return next;
}

const MOST_WEIGHTS = 4e5; // what a frame has time for
const BATCH = 2;
let stream = { seed: NaN };

// The first standard normal numbers of a seed (Box and Muller), of which at most `most` are drawn
// now: the first network takes longer than a frame. They are kept, so that moving the point, or
// another depth, rescales the same numbers.
function normals(seed, count, most) {
  if (stream.seed !== seed) {
    // weights, as many biases as the deepest network has, inputs and ends
    const room = MOST_WEIGHTS + Math.sqrt(MOST_WEIGHTS * LIMITS.depth) + 2 * BATCH * LIMITS.width;
    stream = { seed, next: generator(seed), numbers: new Float32Array(2 * Math.ceil(room / 2)), size: 0 };
    if (most < Infinity) return null; // the first picture waits for none
  }
  const { next, numbers } = stream;
  const end = Math.min(count, stream.size + most);
  let i = stream.size;
  for (; i < end; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    numbers[i] = radius * Math.cos(angle);
    numbers[i + 1] = radius * Math.sin(angle);
  }
  stream.size = i;
  return i < count ? null : numbers;
}

// The width at which a network of this depth is still drawn at once.
export function sampleWidth(width, depth) {
  return Math.max(1, Math.min(width, Math.floor(Math.sqrt(MOST_WEIGHTS / depth))));
}

// Inputs, a gradient at the end, biases and weights; null as long as there are too few numbers.
function draws(width, depth, seed, most) {
  const sizes = [BATCH * width, BATCH * width, depth * width, depth * width * width];
  const numbers = normals(seed, sizes.reduce((sum, size) => sum + size), most);
  let at = 0;
  return numbers && sizes.map((size) => numbers.subarray(at, (at += size)));
}

function meanOfSquares(array, start = 0, end = array.length) {
  let sum = 0;
  for (let i = start; i < end; i += 1) sum += array[i] * array[i];
  return sum / (end - start);
}

// W a for both examples, which lie one after the other; W begins at `start`, z at `to`.
function forth(weights, start, n, a, z, to) {
  for (let i = 0; i < n; i += 1) {
    const row = start + i * n;
    let first = 0;
    let second = 0;
    for (let j = 0; j < n; j += 1) {
      first += weights[row + j] * a[j];
      second += weights[row + j] * a[n + j];
    }
    z[to + i] = first;
    z[to + n + i] = second;
  }
}

// The transpose of W times delta, two rows at once, which is twice as fast as one.
function back(weights, start, n, delta, before) {
  before.fill(0);
  for (let i = 0; i < n; i += 2) {
    const row = start + i * n;
    const isLast = i + 1 === n;
    const twin = isLast ? row : row + n;
    const first = delta[i];
    const second = delta[n + i];
    const third = isLast ? 0 : delta[i + 1];
    const fourth = isLast ? 0 : delta[n + i + 1];
    for (let j = 0; j < n; j += 1) {
      before[j] += weights[row + j] * first + weights[twin + j] * third;
      before[n + j] += weights[row + j] * second + weights[twin + j] * fourth;
    }
  }
}

// The same variances in one random network, over its units and two inputs of mean square 1; null
// if that needs more than `most` new random numbers, which are then drawn.
export function sample(options, most = Infinity) {
  const given = checked({ width: 64, ...options });
  const { activation, weightVariance, biasVariance, depth, seed } = given;
  const n = sampleWidth(given.width, depth);
  const { value, slope } = ACTIVATIONS[activation];
  const drawn = draws(n, depth, seed, most);
  if (!drawn) return null;
  const [inputs, ends, biases, weights] = drawn;
  const scale = Math.sqrt(weightVariance / n);
  const shift = Math.sqrt(biasVariance);
  const own = BATCH * n; // numbers a layer
  const size = Math.sqrt(meanOfSquares(inputs));
  const a = Float64Array.from(inputs, (x) => x / size);
  const z = new Float64Array(depth * own);
  const forward = [];
  for (let layer = 0; layer < depth; layer += 1) {
    const to = layer * own;
    forth(weights, layer * n * n, n, a, z, to);
    for (let k = 0; k < own; k += 1) {
      z[to + k] = scale * z[to + k] + shift * biases[layer * n + (k % n)];
      a[k] = value(z[to + k]);
    }
    forward.push(meanOfSquares(z, to, to + own));
  }
  let delta = Float64Array.from(ends);
  let before = new Float64Array(own);
  const backward = new Array(depth).fill(1);
  for (let layer = depth - 1; layer > 0; layer -= 1) {
    back(weights, layer * n * n, n, delta, before);
    for (let k = 0; k < own; k += 1) before[k] *= scale * slope(z[(layer - 1) * own + k]);
    [delta, before] = [before, delta];
    backward[layer - 1] = meanOfSquares(delta) / meanOfSquares(ends);
  }
  const overflown = (x) => (Number.isNaN(x) ? Infinity : x);
  return { forward: forward.map(overflown), backward: backward.map(overflown), width: n };
}

// ---- the map of the plane

const STEPS = 4; // an octave
const MIDDLE = 40 * STEPS; // where the variance is 1
const tables = new Map();

// The moments at variances of 2^-40 up to 2^40, of which [first, last] have been asked for.
function table(activation) {
  if (!tables.has(activation)) {
    const inverse = Float64Array.from({ length: 2 * MIDDLE + 1 }, (_, k) => 2 ** ((MIDDLE - k) / STEPS));
    const [moment, slope] = [new Float64Array(inverse.length), new Float64Array(inverse.length)];
    const found = { inverse, moment, slope, first: MIDDLE, last: MIDDLE };
    tables.set(activation, found);
    fill(activation, found, MIDDLE);
  }
  return tables.get(activation);
}

function fill(activation, found, k) {
  found.first = Math.min(found.first, k);
  found.last = Math.max(found.last, k);
  found.moment[k] = secondMoment(activation, 1 / found.inverse[k]) * found.inverse[k];
  found.slope[k] = slopeMoment(activation, 1 / found.inverse[k]);
}

// chi where signals end, from a table of moments, to some 1e-3: to draw, not to read.
export function chiAt(activation, weightVariance, biasVariance) {
  const found = table(activation);
  const { inverse, moment, slope } = found;
  let k = MIDDLE;
  let before = weightVariance * moment[k] + biasVariance - 1;
  const step = before > ROUNDING ? 1 : before < -ROUNDING ? -1 : 0;
  while (step && k + step >= 0 && k + step < inverse.length) {
    k += step;
    if (k < found.first || k > found.last) fill(activation, found, k);
    const now = weightVariance * moment[k] + biasVariance * inverse[k] - 1;
    if (now * step < 0) {
      const share = now / (now - before); // of the last step, to be taken back
      return weightVariance * (slope[k] + share * (slope[k - step] - slope[k]));
    }
    before = now;
  }
  return weightVariance * slope[k];
}

// The smallest weight variance with chi > 1 at each bias variance; NaN where it is beyond `most`.
export function edgeOfChaos(activation, biasVariances, most) {
  return biasVariances.map((biasVariance) => {
    const isBelow = (weightVariance) => chiAt(activation, weightVariance, biasVariance) <= 1;
    return isBelow(most) ? NaN : bisect(isBelow, 0, most, 30);
  });
}
