// Step and momentum: which rate and decay are stable on a quadratic, and which are best.

import { show, showByOne } from "../frame/dom.js";
import { drawField } from "../frame/field.js";
import { choice, number } from "../frame/fields.js";
import {
  best, bestRate, distances, factor, manner, stabilityLimit, stepsADigit, worst,
} from "../numerics/momentum.js";

const curvature = { min: 0.1, max: 1000, log: true, lowest: 1e-6, highest: 1e9 };
const fields = {
  form: choice({
    label: "Form of momentum",
    options: [["ema", "Average: m ← β m + (1 − β) g"], ["heavy_ball", "Heavy ball: m ← β m + g"]],
    value: "ema",
  }),
  l1: number({ label: "Curvature λ₁", value: 1, ...curvature }),
  l2: number({ label: "Curvature λ₂", value: 100, ...curvature }),
  rate: number({ label: "Rate η", value: 0.0198, min: 1e-4, max: 100, log: true }),
  decay: number({ label: "Decay β", value: 0, min: 0, max: 0.99, step: 0.01, lowest: 0, highest: 0.999999 }),
  steps: number({ label: "Steps shown", value: 120, min: 10, max: 400, step: 1, lowest: 1, highest: 2000, integer: true }),
};
const DECAYS = [0, 0.99];
/** What is best at the curvatures that the page opens with. */
const bestOf = (form) => {
  const { rate, decay } = best({ form, low: fields.l1.value, high: fields.l2.value });
  return { form, rate, decay, guess: "skip" };
};

function compute({ form, l1, l2, rate, decay, steps }) {
  const [low, high] = [Math.min(l1, l2), Math.max(l1, l2)];
  const problem = { form, rate, decay, low, high };
  const directions = [low, high].map((c) => ({
    curvature: c,
    factor: factor({ ...problem, curvature: c }),
    manner: manner({ ...problem, curvature: c }),
    distances: distances({ ...problem, curvature: c, steps }),
  }));
  return {
    low,
    high,
    directions,
    worst: worst(problem),
    limit: stabilityLimit(problem),
    atDecay: bestRate(problem),
    best: best(problem),
  };
}

const range = (lo, hi, count) => Array.from({ length: count }, (_, i) => lo * (hi / lo) ** (i / (count - 1)));

function draw(plots, result, state, { colours, revealed, look }) {
  const { low, high } = result;
  const rates = [0.03 / high, 600 / high];
  const map = plots.map.begin({
    x: rates, xLog: true, y: DECAYS, xLabel: "rate η", yLabel: "decay β", colours, grid: !revealed,
  });
  if (revealed) {
    const { form } = state;
    drawField(map, ["momentum", form, low, high].join(), (rate, decay) => worst({ form, rate, decay, low, high }), {
      levels: [0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99],
      // darker is faster, by the decades of what is taken off a step; beyond stability lies bare paper
      share: (rho) => (rho >= 1 ? NaN : Math.min(1, -Math.log10(1 - rho + 1e-3) / 2.2)),
    });
    const decays = Array.from({ length: 100 }, (_, i) => i / 100);
    map.line(decays.map((decay) => [stabilityLimit({ form, decay, high }), decay]), { colour: colours.ink, thick: 2.5, halo: true });
    map.line(decays.map((decay) => [bestRate({ form, decay, low, high }).rate, decay]), { colour: colours.accent, thick: 2, dash: [5, 4] });
    if (result.best.decay <= DECAYS[1]) map.mark([result.best.rate, result.best.decay], { colour: colours.ink, marker: "D" }, { size: 6 });
    const [x, y] = [map.px(stabilityLimit({ form, decay: 0.12, high })), map.py(0.06)];
    map.text("diverges", Math.min(x + 14, map.box.right - 56), y, { colour: colours.muted });
  } else map.veil("Guess first");
  map.mark([state.rate, state.decay], { colour: colours.accent }, { size: 8, hollow: true, held: true });
  drawDistances(plots.distance, result, state, { colours, revealed, look });
  drawFactors(plots.factor, result, state, rates, { colours, revealed, look });
}

function drawDistances(plot, { directions, worst: rho }, { steps }, { colours, revealed, look }) {
  const axes = plot.begin({
    x: [0, steps], y: [1e-8, 100], yLog: true, xLabel: "step", yLabel: "distance", colours,
  });
  if (!revealed) return axes.veil("Guess first");
  axes.line([[0, 1], [steps, rho ** steps]], { colour: colours.muted, dash: [1, 4] });
  return directions.forEach((d, i) => {
    const curve = d.distances.map((w, k) => [k, Math.abs(w)]);
    axes.line(curve, look(i));
    curve.filter((_, k) => k % Math.ceil(steps / 8) === 0).forEach((at) => axes.mark(at, look(i)));
  });
}

function drawFactors(plot, { low, high, atDecay }, { form, rate, decay }, rates, { colours, revealed, look }) {
  const axes = plot.begin({
    x: rates, xLog: true, y: [0, 1.3], xLabel: "rate η", yLabel: "factor a step", colours,
  });
  if (!revealed) return axes.veil("Guess first");
  axes.line([[rates[0], 1], [rates[1], 1]], { colour: colours.ink, thick: 1 });
  [low, high].forEach((curvature, i) => {
    const of = (r) => factor({ form, rate: r, decay, curvature });
    axes.line(range(...rates, 200).map((r) => [r, of(r)]), look(i));
    axes.mark([rate, of(rate)], look(i), { size: 5 });
  });
  return axes.mark([atDecay.rate, atDecay.factor], { colour: colours.ink, marker: "D" }, { size: 4, hollow: true });
}

const digits = (rho) => (rho === 0 ? "one step in all" : `${show(stepsADigit(rho))} steps a digit`);

function say({ low, high, directions, worst: rho, limit, atDecay, best: top }, { rate, decay }) {
  const [flat, steep] = directions.map((d) => `${d.manner} (factor ${showByOne(d.factor, 4)})`);
  const ways = low === high ? `every direction ${flat}` : `the flat direction ${flat}, the steep one ${steep}`;
  const fate = rho < 1 ? `it takes ${digits(rho)}` : "it does not converge";
  return `At rate ${show(rate)} and decay ${showByOne(decay)} ${ways}: ${fate}. `
    + `At this decay rates from 0 to ${show(limit)} are stable and ${show(atDecay.rate)} is best (${digits(atDecay.factor)}); `
    + `best of all are rate ${show(top.rate)} and decay ${showByOne(top.decay)} (${digits(top.factor)}).`;
}

export const momentum = {
  id: "momentum",
  title: "Step and momentum",
  intro: "On a quadratic all is known in closed form. Drag the point over the plane of rate and decay, or focus it and use the arrow keys.",
  fields,
  guess: {
    question: "Curvatures 1 and 100. The best rate without momentum takes 115 steps for each digit. How many take the best rate and decay together?",
    options: ["About 60: half", "About 12: a tenth", "About 115: momentum only smooths"],
    answer({ best: top }) {
      const needed = stepsADigit(top.factor);
      const index = needed < 30 ? 1 : needed < 90 ? 0 : 2;
      return {
        index,
        sentence: `${show(needed)} steps a digit, at decay ${showByOne(top.decay)}: momentum replaces the condition number, 100, by its root.`,
      };
    },
  },
  layout: "one-and-two",
  plots: {
    map: {
      title: "Convergence on the plane of rate and decay",
      note: "Darker is faster. Solid line: the edge of stability. Dashed: the best rate of each decay, close to that edge where curvatures are far apart. Diamond: the best of all.",
      aspect: 0.7,
      drag: {
        label: "Rate and decay",
        get: ({ rate, decay }) => [rate, decay],
        set: ([rate, decay]) => ({ rate, decay: Math.min(Math.max(decay, 0), 0.99) }),
        say: ([rate, decay]) => `rate ${show(rate)}, decay ${showByOne(decay)}`,
      },
      alt: (result, state) => `Map of the convergence factor, darker is faster. Right of the solid line it diverges, the dashed line is the best rate of each decay, the diamond the best of all. ${say(result, state)}`,
    },
    distance: {
      title: "Distance to the minimum",
      note: "Dotted: the factor of the slower direction alone.",
      aspect: 0.62,
      alt: ({ directions }, { steps }) => `Distance after ${steps} steps: ${directions.map(
        (d) => `${show(Math.abs(d.distances.at(-1)))} along curvature ${show(d.curvature)}`,
      ).join(", ")}.`,
    },
    factor: {
      title: "Factor a step, by rate",
      note: "Below 1 a direction shrinks. Diamond: the best rate at this decay.",
      aspect: 0.62,
      alt: ({ atDecay, limit }) => `Factor by rate: both directions meet at ${showByOne(atDecay.factor, 4)} at rate ${show(atDecay.rate)}; beyond ${show(limit)} the steep one grows.`,
    },
  },
  compute,
  draw,
  say,
  legend: ({ low, high }) => [["flat", low], ["steep", high]].map(
    ([name, c], index) => ({ index, text: `${name} direction, curvature ${show(c)}` }),
  ),
  tries: [
    { text: "The best of all: both directions at once", set: bestOf("ema") },
    { text: "Decay 0.9 at the gradient’s best rate", set: { rate: 0.0198, decay: 0.9, guess: "skip" } },
    { text: "The same steps as a heavy ball, at 1 − β times the rate", set: bestOf("heavy_ball") },
    { text: "A round bowl needs no momentum", set: { l2: 1, rate: 1, decay: 0, guess: "skip" } },
  ],
  notes: [
    "Along an eigenvector of curvature λ the iterates obey w₊ = (1 + β − cηλ) w − β w₋, with c = 1 for the heavy ball and c = 1 − β for the average. The roots of z² − (1 + β − cηλ) z + β are the factors: complex ones have modulus √β, whatever the rate.",
    "Stable: η < 2 (1 + β) / (c λ₂). Best rate at a decay: η = 2 (1 + β) / (c (λ₁ + λ₂)). Best of all: √β = (√λ₂ − √λ₁) / (√λ₂ + √λ₁) and η = 4 / (c (√λ₁ + √λ₂)²) (Polyak, 1964). The average is the library’s momentum, the heavy ball that of optax.sgd and of PyTorch.",
  ],
};
