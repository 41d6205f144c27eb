// Whole paths of an optimizer, and whether they can be believed.

import { requireKey, requireNumber, requireNumbers, requireOptions } from "./checks.js";
import { optimizers } from "./optimizers.js";
import { quadratic, surfaces } from "./surfaces.js";

export const SHIFT = 1e-12;
/** An end that moves by this many times the change of the start is called chaotic. */
export const CHAOS = 1e4;

const OPTIONS = ["surface", "optimizer", "rate", "decay", "b2", "eps", "curvatures", "start", "steps"];
const MOST_STEPS = 100_000; // a path keeps every point

/** Look a problem up and refuse what is none, in words. */
function problem(options, who = "path") {
  requireOptions(who, options, OPTIONS);
  const { surface = "ravine", optimizer = "sgd", curvatures = [1, 10] } = options;
  const { rate, decay = 0.9, b2 = 0.999, eps = 1e-8, steps = 100 } = options;
  requireKey(who, "surface", surface, surfaces);
  requireKey(who, "optimizer", optimizer, optimizers);
  requireNumbers(who, "curvatures", curvatures, 2);
  requireNumber(who, "rate", rate);
  requireNumber(who, "decay", decay, { low: 0, end: 1 });
  requireNumber(who, "b2", b2, { low: 0, end: 1 });
  requireNumber(who, "eps", eps, { low: 0 });
  requireNumber(who, "steps", steps, { low: 0, high: MOST_STEPS, whole: true });
  const f = surface === "quadratic" ? quadratic(curvatures) : surfaces[surface];
  const { start = f.start } = options;
  requireNumbers(who, "start", start, 2);
  const step = optimizers[optimizer].begin({ rate, decay, b2, eps });
  return { f, step, steps, start };
}

/** Follow an optimizer: `steps + 1` points and the loss at each, the start first. */
export function path(options) {
  const { f, step, steps, start } = problem(options);
  const points = [start];
  const values = [f.value(start)];
  let w = start;
  for (let i = 0; i < steps; i += 1) {
    const [ux, uy] = step(f.gradient(w), () => f.hessian(w));
    w = [w[0] + ux, w[1] + uy];
    points.push(w);
    values.push(f.value(w));
  }
  return { points, values };
}

/** The updates an optimizer makes when it is led along given points: single steps. */
export function updates({ points, ...options } = {}) {
  const { f, step } = problem(options, "updates");
  const each = Array.isArray(points) ? points : [points];
  each.forEach((point) => requireNumbers("updates", "each of points", point, 2));
  return points.map((w) => step(f.gradient(w), () => f.hessian(w)));
}

/** The last loss, without keeping the way. */
export function finalLoss(options) {
  const { f, step, steps, start } = problem(options);
  let [x, y] = start;
  for (let i = 0; i < steps; i += 1) {
    const here = [x, y];
    const [ux, uy] = step(f.gradient(here), () => f.hessian(here));
    x += ux;
    y += uy;
    if (!Number.isFinite(x) || !Number.isFinite(y)) return NaN;
  }
  return f.value([x, y]);
}

/**
 * How many times the change of the start the end has moved, relative to where it is.
 * A start moved by 1e-12 is far below anything drawn: where the end moves by much more, no two
 * programs agree on the path.
 */
export function amplification(options, { points } = path(options)) {
  const start = points[0];
  const moved = path({ ...options, start: start.map((x) => x + SHIFT * Math.max(1, Math.abs(x))) });
  const end = points.at(-1);
  const other = moved.points.at(-1);
  const size = Math.max(1, Math.abs(end[0]), Math.abs(end[1]));
  return Math.hypot(end[0] - other[0], end[1] - other[1]) / (SHIFT * size);
}

/** The number of the first point that is not finite, or -1. */
export function firstLost({ points, values }) {
  return points.findIndex((w, i) => ![...w, values[i]].every(Number.isFinite));
}
