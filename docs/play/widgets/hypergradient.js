// Hypergradient: the slope of an outer curve, by three ways to differentiate an inner descent.

import { choice, number } from "../frame/fields.js";
import { show } from "../frame/dom.js";
import {
  exactSlope, hypergradient as differentiate, innerPath, LIMITS, outer, problem, PROBLEMS, reached, solution,
} from "../numerics/hypergradient.js";

const fields = {
  problem: choice({
    label: "Inner parameters",
    options: Object.entries(PROBLEMS).map(([key, { label }]) => [key, label]),
    value: "two",
  }),
  z: number({
    label: "Hyper-parameter z", unit: "ln of the penalty", value: -1, min: LIMITS.low, max: LIMITS.high, step: 0.01, lowest: -20, highest: 1.9,
  }),
  steps: number({
    label: "Inner descent T", unit: "steps", value: 5, min: 0, max: 150, step: 1, lowest: 0, highest: LIMITS.steps, integer: true,
  }),
  k: number({
    label: "Truncation to the last k", unit: "steps", value: 2, min: 1, max: 50, step: 1, lowest: 1, highest: LIMITS.steps, integer: true,
  }),
};

const WAYS = [
  ["unroll", "unrolling"],
  ["truncate", "truncation"],
  ["implicit", "optimality condition"],
];
const COUNTS = [1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160];
const GRID = Array.from({ length: 66 }, (_, i) => LIMITS.low + (i * (LIMITS.high - LIMITS.low)) / 65);
const HALF = 0.9; // of a tangent, in z

function compute({ problem: name, z, steps, k }) {
  const found = differentiate({ problem: name, logPenalty: z, steps, k });
  const p = problem(name);
  return {
    ...found,
    path: innerPath(name, z, steps),
    solution: solution(name, z),
    curve: GRID.map((at) => [at, reached(name, at, steps)]),
    limit: GRID.map((at) => [at, outer(p, solution(name, at))]),
    errors: WAYS.map(([way]) => COUNTS.map((count) => {
      const at = differentiate({ problem: name, logPenalty: z, steps: count, k });
      return [count, Math.abs(at[way] - exactSlope(name, z))];
    })),
  };
}

function draw(plots, result, state, { colours, revealed, look }) {
  const { z } = state;
  const shown = [...result.curve, ...result.limit].map(([, value]) => value);
  const [low, high] = [Math.min(...shown), Math.max(...shown)];
  const margin = 0.08 * (high - low || 1);
  const curve = plots.curve.begin({
    x: [LIMITS.low, LIMITS.high], y: [low - margin, high + margin], xLabel: "z, logarithm of the penalty",
    yLabel: "outer loss E", colours,
  });
  if (revealed) {
    curve.line(result.limit, { colour: colours.muted, dash: [2, 4], thick: 1.5 });
    curve.line(result.curve, { colour: colours.ink, thick: 2.5 });
    for (const [points, text] of [[result.curve, `after ${state.steps} steps`], [result.limit, "at the inner solution"]]) {
      curve.text(text, curve.box.left + 8, curve.py(points[0][1]) + 14, { colour: colours.muted });
    }
    WAYS.forEach(([way], i) => {
      const ends = [-HALF, HALF].map((d) => [z + d, result.value + d * result[way]]);
      curve.line(ends, { ...look(i), halo: true });
      curve.mark(ends[1], look(i), { size: 4.5 });
    });
  } else curve.veil("Guess first");
  curve.mark([z, result.value], { colour: colours.accent, marker: "o" }, { size: 8, hollow: true });

  drawInner(plots.inner, result, state, { colours, revealed });

  const errors = plots.errors.begin({
    x: [1, COUNTS.at(-1)], xLog: true, y: [1e-12, 1], yLog: true, xLabel: "inner steps T",
    yLabel: "error of the slope", colours,
  });
  if (!revealed) { errors.veil("Guess first"); return; }
  errors.line([[Math.max(state.steps, 1), 1e-12], [Math.max(state.steps, 1), 1]], { colour: colours.muted, thick: 1.2 });
  result.errors.forEach((points, i) => {
    const positive = points.map(([count, error]) => [count, Math.max(error, 1e-16)]);
    errors.line(positive, look(i));
    positive.filter((_, j) => j % 4 === i).forEach((point) => errors.mark(point, look(i)));
  });
}

function drawInner(plot, result, { problem: name, z, steps }, { colours, revealed }) {
  const p = problem(name);
  const path = { colour: colours.ink };
  if (p.start.length === 1) {
    const axes = plot.begin({
      x: [0, Math.max(steps, 1)], y: [-1.2, 2.2], xLabel: "inner step", yLabel: "y", colours,
    });
    if (!revealed) { axes.veil("Guess first"); return; }
    const [end] = result.solution;
    axes.line([[0, end], [Math.max(steps, 1), end]], { colour: colours.muted, dash: [2, 4], thick: 1.5 });
    axes.line(result.path.map(([y], i) => [i, y]), path);
    axes.mark([steps, result.y[0]], path, { size: 6 });
    return;
  }
  const axes = plot.begin({
    x: [-1, 2], y: [-1.3, 2.2], xLabel: "y₁, steep", yLabel: "y₂, shallow", colours,
  });
  if (!revealed) { axes.veil("Guess first"); return; }
  // the contours of a quadratic with an axis a coordinate are ellipses
  const radii = p.curvature.map((h) => 1 / Math.sqrt(h + Math.exp(z)));
  for (let level = 1; level <= 6; level += 1) {
    const ring = Array.from({ length: 73 }, (_, i) => {
      const angle = (2 * Math.PI * i) / 72;
      return [
        result.solution[0] + 0.35 * level * radii[0] * Math.cos(angle),
        result.solution[1] + 0.35 * level * radii[1] * Math.sin(angle),
      ];
    });
    axes.line(ring, { colour: colours.line, thick: 1.2 });
  }
  axes.line(result.path, { ...path, halo: true });
  const stride = Math.ceil(result.path.length / 40);
  result.path.filter((_, i) => i % stride === 0).forEach((point) => axes.mark(point, path, { size: 3 }));
  axes.mark(result.y, path, { size: 6 });
  axes.mark(result.solution, { colour: colours.ink, marker: "D" }, { size: 4, hollow: true });
  axes.mark(p.validation, { colour: colours.ink, marker: "^" }, { size: 4.5, hollow: true });
}

/** Which way gives the slope of the curve that this many steps make, by a finite difference. */
function tangentWay(result, { problem: name, z, steps }) {
  const h = 1e-5;
  const slope = (reached(name, z + h, steps) - reached(name, z - h, steps)) / (2 * h);
  const apart = WAYS.map(([way]) => Math.abs(result[way] - slope));
  return { index: apart.indexOf(Math.min(...apart)), slope };
}

const about = { problem: "two", z: -1, steps: 5, k: 2 };

function say(result, { steps, k }) {
  const slopes = WAYS.map(([way, text]) => `${text} ${show(result[way])}`).join(", ");
  const state = result.residual < 1e-6
    ? "has converged"
    : `has not converged: the inner gradient is still ${show(result.residual)}`;
  const cut = k >= steps ? "Truncation cuts nothing here." : `Truncation keeps the last ${k} of ${steps} steps.`;
  return `After ${steps} inner step${steps === 1 ? "" : "s"} the descent ${state}. Slopes of the outer loss: ${slopes}; at the inner solution it is ${show(result.exact)}. ${cut}`;
}

export const hypergradient = {
  id: "hypergradient",
  title: "Hypergradient",
  intro: "A descent fits parameters under a penalty; an outer loss judges where it ends. How does the outer loss change with the penalty? Three ways to say so. Drag the point along z, or focus it and use the arrow keys.",
  fields,
  guess: {
    question: "5 inner steps, far from converged: whose tangent touches the curve that 5 steps give?",
    options: ["That of unrolling all 5 steps", "That of truncation, the last 2 steps", "That of the optimality condition"],
    about,
    answer(result) {
      const { index, slope } = tangentWay(result, about);
      const slopes = WAYS.map(([way, text]) => `${text} ${show(result[way])}`).join(", ");
      return { index, sentence: `A finite difference of the curve gives ${show(slope)}; ${slopes}.` };
    },
  },
  plots: {
    curve: {
      title: "Outer loss by z, and its tangents",
      aspect: 0.66,
      drag: {
        label: "z",
        get: ({ problem: name, z, steps }) => [z, reached(name, z, steps)],
        set: ([z]) => ({ z: Math.min(Math.max(z, LIMITS.low), LIMITS.high) }),
        say: ([z]) => `z = ${show(z)}, penalty ${show(Math.exp(z))}`,
      },
      alt: (result, state) => `Outer loss against z with three tangents at z = ${show(state.z)}. ${say(result, state)}`,
    },
    inner: {
      title: "Inner descent",
      aspect: 0.8,
      alt: ({ y, solution: end }) => `The descent ends at ${y.map((x) => show(x)).join(", ")}; the inner solution is ${end.map((x) => show(x)).join(", ")}.`,
    },
    errors: {
      title: "Error of each slope, by inner steps",
      aspect: 0.8,
      alt: ({ errors }) => `Distance from the slope at the inner solution: ${WAYS.map(
        ([, text], i) => `${text} from ${show(errors[i][0][1])} after one step to ${show(errors[i].at(-1)[1])} after ${COUNTS.at(-1)}`,
      ).join("; ")}.`,
    },
  },
  layout: "one-and-two",
  compute,
  draw,
  say,
  legend: (result, { guess }) => WAYS.map(([way, text], index) => ({
    index, text: guess === "none" ? text : `${text}, slope ${show(result[way])}`,
  })),
  tries: [
    { text: "Let it converge: 150 steps", set: { ...about, steps: 150, guess: "skip" } },
    { text: "Truncate less: the last 30 of 150 steps", set: { ...about, steps: 150, k: 30, guess: "skip" } },
    { text: "Only one step: what does the optimality condition say?", set: { ...about, steps: 1, guess: "skip" } },
    { text: "One parameter, 20 steps: where do two tangents agree?", set: { ...about, problem: "one", steps: 20, guess: "skip" } },
  ],
  notes: [
    "Inner: f(y, z) = ½ Σ h (y − t)² + ½ eᶻ Σ y², by T gradient steps at rate 0.2 from the start. Outer: E(y) = ½ Σ w (y − v)². The solid curve is E after T steps, the dotted one E at the inner solution. In the inner plane the diamond is the inner solution, the triangle what the outer loss wants.",
    "Unrolling is the derivative of the steps taken: right for the solid curve at any T. Truncation lets the last k steps begin at a constant: it loses (1 − rate × curvature)ᵏ of the derivative. The optimality condition is solved where the descent stopped: it means something only once that is the solution.",
  ],
};
