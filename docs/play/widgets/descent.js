// Descent: up to four optimizers from one start on one surface.

import { drawField } from "../frame/field.js";
import { choice, list, number } from "../frame/fields.js";
import { show } from "../frame/dom.js";
import { optimizers } from "../numerics/optimizers.js";
import { amplification, CHAOS, finalLoss, firstLost, path } from "../numerics/paths.js";
import { quadratic, surfaces } from "../numerics/surfaces.js";

const RATES = Array.from({ length: 49 }, (_, i) => 10 ** (-4 + i / 8));
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

/** Rates worth starting from, about those of the library's experiments. */
const SUGGESTED = {
  ravine: { sgd: 10, momentum: 10, heavy_ball: 1, nesterov: 10, adam: 1, sign: 0.1, newton: 0.5 },
  steep_optima: { sgd: 0.5, momentum: 1, heavy_ball: 0.1, nesterov: 1, adam: 0.2, sign: 0.05, newton: 1 },
  rosenbrock: { sgd: 1e-3, momentum: 5e-3, heavy_ball: 5e-4, nesterov: 2e-3, adam: 0.1, sign: 0.02, newton: 1 },
  beale: { sgd: 0.01, momentum: 0.05, heavy_ball: 5e-3, nesterov: 0.03, adam: 0.1, sign: 0.05, newton: 1 },
  himmelblau: { sgd: 0.01, momentum: 0.05, heavy_ball: 5e-3, nesterov: 0.03, adam: 0.3, sign: 0.05, newton: 1 },
  quadratic: { sgd: 0.18, momentum: 0.5, heavy_ball: 0.05, nesterov: 0.5, adam: 0.1, sign: 0.05, newton: 1 },
};
const suggest = (surface, runs) => runs.map((r) => ({ ...r, rate: SUGGESTED[surface][r.optimizer] }));

/** Another surface brings its start and its rates; another optimizer, and a new path, its rate. */
function adapt(state, patch) {
  const { surface = state.surface, paths = state.paths } = patch;
  if (surface !== state.surface && !patch.paths) {
    const [x, y] = surfaces[surface].start;
    return { ...patch, x, y, paths: suggest(surface, paths) };
  }
  if (paths.length < state.paths.length || patch.surface) return patch;
  return { ...patch, paths: paths.map((r, i) => (
    r.optimizer === state.paths[i]?.optimizer ? r : suggest(surface, [r])[0])) };
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
  map.mark([state.x, state.y], { colour: colours.accent }, { size: 8, hollow: true, held: true });

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
    question: "On the ravine from (5, 5), 100 steps each: whose last 20 losses average below 0.1?",
    options: ["SGD alone", "Momentum and Adam, but not SGD", "All three"],
    answer({ runs }) {
      // as the library's experiment `ravine` judges: one loss of a path that jumps says little
      const means = runs.map(({ values }) => values.slice(-20).reduce((sum, v) => sum + v / 20, 0));
      const [sgd, momentum, adam] = means.map((mean) => mean < 0.1);
      const index = sgd && momentum && adam ? 2 : momentum && adam ? 1 : 0;
      const [a, b, c] = means.map((mean) => show(mean, 2));
      const [before, last] = runs[0].values.slice(-2);
      // chance, which another browser's last digits decide otherwise
      const isLuck = !sgd && last < 0.1;
      const luck = isLuck ? `: its last loss is ${show(last)}, but the one before it ${show(before)}. Where such a path stops is chance, so one loss does not count` : "";
      const jumps = sgd ? "" : ` SGD keeps jumping across the ravine${luck}.`;
      return { index, sentence: `The means of their last 20 losses are ${a} (SGD), ${b} (momentum) and ${c} (Adam).${jumps}` };
    },
  },
  plots: {
    map: {
      title: "Paths",
      note: "Darker is lower. Ring: the start. Hollow diamonds: minima. A ringed “?” ends a chaotic path.",
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
      note: "Large markers: the rates of the paths.",
      aspect: 0.62,
      alt: ({ runs }, { paths }) => `Final loss by rate: ${runs.map(({ sweep }, i) => {
        const [rate, loss] = sweep.reduce((a, b) => (b[1] < a[1] || Number.isNaN(a[1]) ? b : a));
        return `${nameOf(paths[i])} is lowest, ${show(loss)}, at ${show(rate, 2)}`;
      }).join("; ")}.`,
    },
  },
  layout: "one-and-two",
  adapt,
  compute,
  draw,
  say,
  legend: ({ runs }, { paths, guess }) => paths.map((p, i) => ({
    index: i, text: `${nameOf(p)}, rate ${show(p.rate)}${guess !== "none" && runs[i].chaotic ? " (chaotic)" : ""}`,
  })),
  table: ({ runs }, { paths }) => ({
    caption: "Where the paths end",
    head: ["Path", "Last loss", "w₁", "w₂", "Moved by 10⁻¹² at the start"],
    rows: runs.map((r, i) => [
      `${i + 1} ${nameOf(paths[i])}`,
      ...[r.values.at(-1), ...r.points.at(-1)].map((v) => show(v)),
      r.lost < 0 ? `${show(r.growth, 1)} times${r.chaotic ? ": chaotic" : ""}` : "–",
    ]),
  }),
  tries: [
    {
      text: "SGD in the ravine at rates 10, 3 and 1: does one arrive?",
      set: { paths: [runOf("sgd", 10), runOf("sgd", 3), runOf("sgd", 1)], guess: "skip" },
    },
    {
      text: "Steep optima: who stays in one?",
      set: {
        surface: "steep_optima", x: 0, y: 0, guess: "skip",
        paths: [runOf("sgd", 0.5), runOf("momentum", 1), runOf("adam", 0.2)],
      },
    },
    {
      text: "Rosenbrock’s valley: Newton against Adam",
      set: {
        surface: "rosenbrock", x: -1.2, y: 1, guess: "skip",
        paths: [runOf("newton", 1), runOf("adam", 0.1), runOf("heavy_ball", 5e-4)],
      },
    },
    {
      text: "Himmelblau: from the hilltop into one of four minima",
      set: {
        surface: "himmelblau", x: -0.27, y: -0.92, guess: "skip",
        paths: [runOf("sgd", 0.01), runOf("adam", 0.3), runOf("newton", 1)],
      },
    },
    {
      text: "Average and heavy ball are one method: rates 0.5 and 0.05",
      set: {
        surface: "quadratic", x: 1, y: 1, guess: "skip",
        paths: [runOf("momentum", 0.5), runOf("heavy_ball", 0.05)],
      },
    },
  ],
  notes: [
    "SGD: w ← w − η g. Average: m ← β m + (1 − β) g, w ← w − η m; the heavy ball takes m ← β m + g instead, and Nesterov steps along β m + (1 − β) g. Adam divides the corrected average m / (1 − βᵗ) by the root of that of the squares, plus 10⁻⁸. Sign descent moves every coordinate by η. Newton takes the absolute values of the Hessian’s eigenvalues and no line search: it descends, also from a saddle.",
    "Chaotic is a path whose end moves by more than 10⁴ times what its start is moved by. Rounding moves it, too: on such a path no two programs agree, and neither do this page and the library. SGD at rate 10 in the ravine is one: after 100 steps nothing is left of a start known to 12 digits. Tests compare some forty paths with the library’s: single steps agree to twelve digits, and paths of 100 steps that the library itself can repeat to nine.",
    "Markers stand at every eighth of a path, the large one at its end; hollow diamonds are minima. Steps that would leave the numbers a computer has are not drawn.",
  ],
};
