// Initialization: a point on the plane of weight and bias variance, and what it does to a network.

import { drawField } from "../frame/field.js";
import { choice, number } from "../frame/fields.js";
import { show } from "../frame/dom.js";
import {
  ACTIVATIONS, chiAt, edgeOfChaos, LIMITS, sample, sampleWidth, THRESHOLDS, variances,
} from "../numerics/initialization.js";

const fields = {
  activation: choice({
    label: "Activation",
    options: Object.entries(ACTIVATIONS).map(([key, { label }]) => [key, label]),
    value: "tanh",
  }),
  weight: number({
    label: "Weight variance", unit: "times the fan-in", value: 1, min: 0, max: 5, step: 0.01, lowest: 0, highest: 1e6,
  }),
  bias: number({
    label: "Bias variance", value: 0, min: 0, max: 1, step: 0.01, lowest: 0, highest: 1e6,
  }),
  depth: number({
    label: "Depth", unit: "layers", value: 50, min: 1, max: 100, step: 1, lowest: 1, highest: LIMITS.depth, integer: true,
  }),
  width: number({
    label: "Width of the sample", unit: "units", value: 128, min: 1, max: LIMITS.width, step: 1, lowest: 1, highest: LIMITS.width, integer: true,
  }),
  seed: number({
    label: "Seed of the sample", value: 1, min: 1, max: 50, step: 1, lowest: 0, highest: LIMITS.seed, integer: true,
  }),
};

const MOST_BIAS = 1;
const SLICE = 30_000; // random numbers a picture, a few milliseconds
const edges = new Map();

/** How far the plane reaches: to the sigmoid's edge of chaos, which is far out. */
const reach = (activation) => (activation === "sigmoid" ? 150 : 5);

function edgeOf(activation) {
  if (!edges.has(activation)) {
    // denser towards zero, where it bends
    const rows = Array.from({ length: 41 }, (_, i) => MOST_BIAS * (i / 40) ** 2);
    const found = edgeOfChaos(activation, rows, reach(activation));
    edges.set(activation, rows.map((bias, i) => [found[i], bias]));
  }
  return edges.get(activation);
}

function compute({ activation, weight, bias, depth, width, seed }) {
  const options = { activation, weightVariance: weight, biasVariance: bias, depth };
  const result = variances(options);
  result.sample = sample({ ...options, width, seed }, SLICE);
  result.isPartial = !result.sample; // the next picture has more
  return result;
}

function draw(plots, result, state, { colours, revealed, look }) {
  const { activation, weight, bias } = state;
  const plane = plots.plane.begin({
    x: [0, reach(activation)], y: [0, MOST_BIAS], xLabel: "weight variance × fan-in",
    yLabel: "bias variance", colours, grid: false,
  });
  const chi = (w, b) => chiAt(activation, Math.max(w, 0), Math.max(b, 0));
  drawField(plane, activation, chi, { levels: [0.25, 0.5, 2, 4] });
  const { box } = plane;
  if (revealed) {
    plane.line(edgeOf(activation), { colour: colours.ink, thick: 2.5, halo: true });
    const isWide = box.right - box.left > 380;
    plane.text(isWide ? "χ < 1: gradients vanish" : "χ < 1", box.left + 8, box.top + 16);
    plane.text(isWide ? "χ > 1: they explode" : "χ > 1", box.right - 8, box.top + 16, { align: "right" });
    const { weightVariance, holds } = result.critical;
    const critical = { colour: colours.ink, marker: "D" };
    plane.mark([weightVariance, bias], critical, { size: 5, hollow: !holds });
  } else plane.veil("Guess first");
  plane.mark([weight, bias], { colour: colours.accent }, { size: 8, hollow: true, held: true });
  const layers = (values) => values.map((value, i) => [i + 1, value]);
  const bounds = {
    forward: [
      layers(result.forward.map((_, i) => THRESHOLDS.vanishing / (i + 1))),
      layers(result.forward.map(() => THRESHOLDS.exploding)),
    ],
    backward: [-1, 1].map((sign) => layers(result.backward.map(
      (_, i) => THRESHOLDS.backward ** (sign * Math.max(1, (state.depth - 1 - i) / 10)),
    ))),
  };
  for (const way of ["forward", "backward"]) {
    const axes = plots[way].begin({
      x: [1, Math.max(state.depth, 2)], ...rangeOf(result, way), yLog: true, xLabel: "layer",
      yLabel: way === "forward" ? "variance of z" : "variance of δz", colours,
    });
    if (!revealed) { axes.veil("Guess first"); continue; }
    for (const bound of bounds[way]) {
      axes.line(bound, { colour: colours.muted, dash: [2, 4], thick: 1.2 });
    }
    axes.line(layers(result[way]), look(0));
    const stride = Math.ceil(state.depth / 50);
    layers(result.sample?.[way] ?? [])
      .filter((_, i) => i % stride === 0)
      .forEach((point) => axes.mark(point, look(1), { size: 3.5 }));
    if (state.depth === 1) axes.mark([1, result[way][0]], look(0), { size: 6, hollow: true });
  }
}

/** Powers of ten around what is drawn; no more than thirty of them. */
function rangeOf(result, way) {
  const all = [...result[way], ...(result.sample?.[way] ?? [])].filter((x) => x > 0 && Number.isFinite(x));
  const logs = (all.length ? all : [1]).map(Math.log10);
  const low = Math.max(Math.min(...logs, -1), -20);
  const high = Math.min(Math.max(...logs, 0.5), 20);
  return { y: [10 ** Math.floor(low), 10 ** Math.ceil(high)] };
}

const lastOf = (values) => show(values.at(-1));

/** Say what the doctor finds, and where the edge is. */
function sentence({ verdict, lastFactor, critical: edge }, { activation, weight, depth }) {
  const { kind, where, layer, value } = verdict;
  const { label } = ACTIVATIONS[activation];
  const size = {
    forward: `the variance of the signal is ${show(value)} at layer ${layer} of ${depth}`,
    backward: `the variance of the gradient at layer ${layer} is ${show(value)} times that at layer ${depth}`,
    weights: `the weights of a layer multiply the mean square by ${show(weight)}`,
  }[where];
  const share = `${show(100 * value)} % of the slopes of ${label}`;
  const texts = {
    symmetric: "Symmetric: all weights are zero, so that no layer hears of the one before.",
    exploding: `Exploding: ${size}.`,
    vanishing: `Vanishing: ${size}.`,
    saturated: `Saturated: ${share} are below 0.05 at layer ${layer}.`,
    rank_collapse: `Collapsed: at layer ${layer} any two inputs have correlation 1 − ${show(value)}.`,
    fine: `Fine: nothing out of the ordinary in ${depth} layer${depth === 1 ? "" : "s"}.`,
  };
  const at = show(edge.weightVariance, 4);
  const isHeld = edge.holds ? "" : ", but signals do not stay there";
  const factor = `Layer ${depth} multiplies the gradient’s variance by ${show(lastFactor, 4)}.`;
  return `${texts[kind]} ${factor} At this bias variance χ = 1 at weight variance ${at}${isHeld}.`;
}

export const initialization = {
  id: "initialization",
  title: "Initialization",
  intro: "A wide network with random weights and biases. Theory says what each layer does to the variance of the signal, and of the gradient on its way back. Drag the point, or focus it and use the arrow keys.",
  fields,
  guess: {
    question: "50 tanh layers, weight variance 1 / fan-in, no biases: the variance of the pre-activations starts at 1. What is it at layer 50?",
    options: [
      "About 0.25, where it has settled",
      "About 0.01, and still shrinking like 1 / (2 × layer)",
      "Nothing: below 10⁻⁶",
    ],
    about: { activation: "tanh", weight: 1, bias: 0, depth: 50 },
    answer({ forward }) {
      const end = forward.at(-1);
      const apart = [0.25, 0.01, 1e-7].map((value) => Math.abs(Math.log(end / value)));
      const middle = forward[Math.ceil(forward.length / 2) - 1];
      return {
        index: apart.indexOf(Math.min(...apart)),
        sentence: `Theory gives ${show(middle)} at layer ${Math.ceil(forward.length / 2)} and ${show(end)} at layer ${forward.length}. The tutorial says that it settles near 0.25.`,
      };
    },
  },
  plots: {
    plane: {
      title: "Order and chaos",
      aspect: 0.7,
      drag: {
        label: "Weight and bias variance",
        get: ({ weight, bias }) => [weight, bias],
        set: ([weight, bias]) => ({ weight: Math.max(weight, 0), bias: Math.max(bias, 0) }),
        say: ([weight, bias]) => `weight variance ${show(weight)}, bias variance ${show(bias)}`,
      },
      alt: ({ chi, critical }, { weight, bias }) =>
        `Plane of weight and bias variance. At (${show(weight)}, ${show(bias)}) chi is ${show(chi)}; at this bias variance it is 1 at weight variance ${show(critical.weightVariance)}.`,
    },
    forward: {
      title: "Signal, going forward",
      aspect: 0.72,
      alt: ({ forward, sample: drawn }) =>
        `Variance of the pre-activations: theory from ${show(forward[0])} at the first layer to ${lastOf(forward)} at the last${drawn ? `; one network ends at ${lastOf(drawn.forward)}` : ""}.`,
    },
    backward: {
      title: "Gradient, going back, last layer 1",
      aspect: 0.72,
      alt: ({ backward, sample: drawn }) =>
        `Variance of the gradient against that of the last layer: theory ${show(backward[0])} at the first layer${drawn ? `; one network ${show(drawn.backward[0])}` : ""}.`,
    },
  },
  layout: "one-and-two",
  compute,
  draw,
  say: sentence,
  legend: (_, { width, depth, activation }) => [
    { index: 0, text: "theory for infinite width" },
    {
      index: 1,
      text: `one network of width ${sampleWidth(width, depth)}${
        sampleWidth(width, depth) < width ? `: all that a frame has time for at depth ${depth}` : ""
      }, ${ACTIVATIONS[activation].label}`,
    },
  ],
  table: (result) => ({
    caption: "Where a very deep network ends whose signal starts at variance 1",
    head: ["symbol", "here", "what it is"],
    rows: [
      ["q*", show(result.qStar), "variance of the pre-activations"],
      ["χ", show(result.chi), "factor on the variance of the gradient, a layer"],
      ["c*", show(result.cStar), "correlation of any two inputs"],
      ["ξ", show(result.depthScale), "layers in which the distance to c* falls by e"],
      ["critical", show(result.critical.weightVariance), "weight variance with χ = 1 at this bias variance"],
      ["gain", show(result.gain), "standard deviation that makes up for the activation at variance 1"],
    ],
  }),
  tries: [
    { text: "Put tanh on its edge: 50 layers, bias variance 0.05", set: { activation: "tanh", weight: 1.761, bias: 0.05, depth: 50, guess: "skip" } },
    { text: "Kaiming’s ReLU, then weight variance 1.5", set: { activation: "relu", weight: 2, bias: 0, depth: 50, guess: "skip" } },
    { text: "Xavier’s scale under a sigmoid: look at the gradient", set: { activation: "sigmoid", weight: 1, bias: 0, depth: 20, guess: "skip" } },
    { text: "GELU jumps: move the weight variance from 2.1 to 2.2", set: { activation: "gelu", weight: 2.1, bias: 0.02, depth: 50, guess: "skip" } },
  ],
  notes: [
    "A layer is z = W a + b with the weights W of variance σ² / fan-in, of which σ² is set here, and normal biases b; the input has mean square 1. Theory averages over a Gaussian by quadrature, layer by layer, as initializers.mean_field does. It holds for infinite width; one network scatters around it, by more the narrower and the deeper it is.",
    "The dotted lines are where the library’s doctor speaks: signals below 0.002 / layer or above 30, gradients beyond a factor 10⁴ for every ten layers. Table and plane follow a signal that starts at variance 1, as initializers.mean_field does. The diamond is initializers.critical; it is hollow where signals do not stay at its fixed point.",
  ],
};
