// Descent: up to four optimizers from one start on one surface.

import { drawField } from "../frame/field.js";
import { choice, list, number } from "../frame/fields.js";
import { show } from "../frame/dom.js";
import { optimizers } from "../numerics/optimizers.js";
import { amplification, CHAOS, finalLoss, firstLost, path } from "../numerics/paths.js";
import { quadratic, surfaces } from "../numerics/surfaces.js";

const RATES = Array.from({ length: 41 }, (_, i) => 10 ** (-3 + i / 8));
const named = (table) => Object.entries(table).map(([key, { name }]) => [key, name]);
const heeds = (key) => ({ optimizer }) => optimizers[optimizer].heeds.includes(key);
const unit = { lowest: 0, highest: 1 - 1e-9 };

const run = {
  optimizer: choice({ label: "Optimizer", options: named(optimizers), value: "sgd" }),
  rate: number({ label: "Rate η", value: 0.1, min: 1e-4, max: 100, log: true }),
  decay: number({
    label: "Decay β", value: 0.9, min: 0, max: 0.99, step: 0.01, shown: heeds("decay"), ...unit,
  }),
  b2: number({
    label: "Decay of squares β₂", value: 0.999, min: 0, max: 0.999, step: 0.001, shown: heeds("b2"), ...unit,
  }),
};
const runOf = (optimizer, rate, decay = 0.9, b2 = 0.999) => ({ optimizer, rate, decay, b2 });
const isQuadratic = ({ surface }) => surface === "quadratic";

const fields = {
  surface: choice({ label: "Surface", options: named(surfaces), value: "ravine" }),
  l1: number({ label: "Curvature λ₁", value: 1, min: 0.01, max: 100, log: true, lowest: 1e-6, highest: 1e9, shown: isQuadratic }),
  l2: number({ label: "Curvature λ₂", value: 10, min: 0.01, max: 100, log: true, lowest: 1e-6, highest: 1e9, shown: isQuadratic }),
  x: number({ label: "Start w₁", value: 5, min: -10, max: 10, step: 0.01 }),
  y: number({ label: "Start w₂", value: 5, min: -10, max: 10, step: 0.01 }),
  steps: number({ label: "Steps", value: 100, min: 1, max: 300, step: 1, lowest: 0, highest: 2000, integer: true }),
  paths: list({
    label: "Paths",
    noun: "path",
    item: run,
    most: 4,
    value: [runOf("sgd", 10), runOf("momentum", 10), runOf("adam", 1)],
    next: (items) => {
      const unused = Object.keys(optimizers).find((key) => !items.some((p) => p.optimizer === key));
      return { ...items.at(-1), optimizer: unused };
    },
  }),
};

function surfaceOf({ surface, l1, l2 }) {
  return surface === "quadratic" ? quadratic([l1, l2]) : surfaces[surface];
}

function compute(state) {
  const { surface, x, y, steps, l1, l2 } = state;
  const runs = state.paths.map((settings) => {
    const options = { ...settings, surface, curvatures: [l1, l2], start: [x, y], steps };
    const found = path(options);
    const lost = firstLost(found);
    const growth = lost < 0 ? amplification(options, found) : NaN;
    return {
      ...found,
      lost,
      growth,
      chaotic: growth > CHAOS,
      sweep: RATES.map((rate) => [rate, finalLoss({ ...options, rate })]),
    };
  });
  return { surface: surfaceOf(state), runs };
}

const nameOf = ({ optimizer }) => optimizers[optimizer].short ?? optimizers[optimizer].name;

function draw(plots, { surface, runs }, state, { colours, revealed, look }) {
  const [xs, ys] = surface.domain;
  const map = plots.map.begin({ x: xs, y: ys, xLabel: "w₁", yLabel: "w₂", colours, grid: false });
  drawField(map, [state.surface, state.l1, state.l2].join(), (a, b) => surface.value([a, b]));
  for (const minimum of surface.minima) {
    map.mark(minimum, { colour: colours.ink, marker: "D" }, { size: 3.5, hollow: true });
  }
  if (revealed) {
    runs.forEach(({ points, chaotic }, i) => {
      map.line(points, { ...look(i), halo: true });
      marked(points.length).forEach((k) => map.mark(points[k], look(i), { size: 3.5 }));
      const end = points.at(-1);
      map.mark(end, look(i), { size: 6 });
      if (chaotic) map.mark(end, { ...look(i), marker: "o" }, { size: 11, hollow: true });
      if (chaotic) map.text("?", ...[map.px(end[0]), map.py(end[1])], { align: "center" });
    });
  }
  map.mark([state.x, state.y], { colour: colours.accent, marker: "o" }, { size: 8, hollow: true });

  drawLosses(plots.loss, runs, state, { colours, revealed, look });
  drawSweep(plots.sweep, runs, state, { colours, revealed, look });
}

/** Which points get a marker: about eight of them. */
function marked(count) {
  const stride = Math.max(1, Math.round(count / 8));
  return Array.from({ length: Math.ceil(count / stride) }, (_, i) => i * stride);
}

function drawLosses(plot, runs, { steps }, { colours, revealed, look }) {
  const axes = plot.begin({
    x: [0, Math.max(steps, 1)], ...rangeOf(runs.map(({ values }) => values)), xLabel: "step", yLabel: "loss", colours,
  });
  if (!revealed) return axes.veil("Guess first");
  return runs.forEach(({ values }, i) => {
    const curve = values.map((value, k) => [k, value]);
    axes.line(curve, look(i));
    marked(values.length).forEach((k) => axes.mark(curve[k], look(i)));
  });
}

function drawSweep(plot, runs, { paths, steps }, { colours, revealed, look }) {
  const axes = plot.begin({
    x: [RATES[0], RATES.at(-1)], xLog: true, xLabel: "rate η", yLabel: `loss after ${steps} steps`, colours,
    ...rangeOf(runs.map(({ sweep, values }) => [values[0], ...sweep.map(([, v]) => v)])),
  });
  if (!revealed) return axes.veil("Guess first");
  return runs.forEach(({ sweep, values }, i) => {
    axes.line(sweep, look(i));
    axes.mark([paths[i].rate, values.at(-1)], look(i), { size: 6 });
  });
}

/** The losses worth showing: from the least up to the start's, logarithmic if all are positive. */
function rangeOf(curves) {
  const all = curves.flat().filter(Number.isFinite);
  const top = Math.max(...curves.map((values) => values[0]).filter(Number.isFinite));
  const low = Math.min(...all);
  if (!Number.isFinite(top) || !Number.isFinite(low)) return { y: [0, 1] };
  if (low >= 0 && top > 0) {
    const floor = Math.max(low, top * 1e-16);
    return { y: [10 ** Math.floor(Math.log10(floor) - 0.05), 10 ** Math.ceil(Math.log10(top) + 0.05)], yLog: true };
  }
  const margin = 0.06 * (top - low || 1);
  const high = Math.min(Math.max(...all), top + 0.25 * (top - low || 1));
  return { y: [low - margin, high + margin] };
}

function fate({ lost, values, chaotic, growth }) {
  if (lost >= 0) return `leaves the finite numbers at step ${lost}`;
  const end = `ends at loss ${show(values.at(-1))}`;
  if (!chaotic) return end;
  return `${end}, but chaotically: a start moved by 10⁻¹² moves its end ${show(growth, 1)} times as much`;
}

function say({ runs, surface }, state) {
  const said = runs.map((r, i) => `${nameOf(state.paths[i])} at rate ${show(state.paths[i].rate)} ${fate(r)}`);
  const [xs, ys] = surface.domain;
  const inside = state.x >= xs[0] && state.x <= xs[1] && state.y >= ys[0] && state.y <= ys[1];
  const start = `From (${show(state.x)}, ${show(state.y)})${inside ? "" : ", outside of the picture,"}`;
  return `${start} after ${state.steps} steps: ${said.join("; ")}.`;
}

export const descent = {
  id: "descent",
  title: "Descent",
  intro: "Optimizers start at the same point and see nothing but gradients. Drag the start, or focus it and use the arrow keys.",
  fields,
  guess: {
    question: "On the ravine from (5, 5), 100 steps each: who reaches the low end?",
    options: ["SGD at rate 10", "Momentum and Adam, but not SGD", "All three"],
    answer({ runs }) {
      const arrived = runs.map(({ values }) => values.at(-1) < 0.1);
      const index = arrived.every(Boolean) ? 2 : arrived[1] && arrived[2] ? 1 : 0;
      const losses = runs.map(({ values }) => show(values.at(-1)));
      return {
        index,
        sentence: `Their last losses are ${losses[0]} (SGD), ${losses[1]} (momentum) and ${losses[2]} (Adam).`,
      };
    },
  },
  plots: {
    map: {
      title: "Paths",
      aspect: 0.86,
      drag: {
        label: "Start",
        get: ({ x, y }) => [x, y],
        set: ([x, y]) => ({ x, y }),
        say: ([x, y]) => `w1 = ${show(x)}, w2 = ${show(y)}`,
      },
      alt: (result, state) => `Map of the surface with ${state.paths.length} paths. ${say(result, state)}`,
    },
    loss: {
      title: "Loss along the way",
      aspect: 0.62,
      alt: ({ runs }, { paths }) => `Loss by step: ${runs.map(
        ({ values }, i) => `${nameOf(paths[i])} from ${show(values[0])} to ${show(values.at(-1))}`,
      ).join("; ")}.`,
    },
    sweep: {
      title: "Final loss by rate",
      aspect: 0.62,
      alt: ({ runs }, { paths }) => `Final loss by rate: ${runs.map(({ sweep }, i) => {
        const [rate, loss] = sweep.reduce((a, b) => (b[1] < a[1] || Number.isNaN(a[1]) ? b : a));
        return `${nameOf(paths[i])} is lowest, ${show(loss)}, at ${show(rate, 2)}`;
      }).join("; ")}.`,
    },
  },
  layout: "one-and-two",
  compute,
  draw,
  say,
  legend: ({ runs }, { paths }) => paths.map((p, i) => ({
    index: i, text: `${nameOf(p)}, rate ${show(p.rate)}${runs[i].chaotic ? " (chaotic)" : ""}`,
  })),
  tries: [
    { text: "The ravine, SGD at a tenth of its rate", set: { paths: [runOf("sgd", 1), runOf("sgd", 10)], guess: "skip" } },
  ],
};
