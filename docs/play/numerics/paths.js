// Whole paths of an optimizer, and whether they can be believed.

import { optimizers } from "./optimizers.js";
import { quadratic, surfaces } from "./surfaces.js";

export const SHIFT = 1e-12;
/** An end that moves by this many times the change of the start is called chaotic. */
export const CHAOS = 1e4;

/** Look a problem up and refuse what is none, in words. */
function problem({ surface = "ravine", optimizer = "sgd", curvatures, start, ...settings }) {
  if (!Object.hasOwn(surfaces, surface)) throw new RangeError(`There is no surface ${surface}.`);
  if (!Object.hasOwn(optimizers, optimizer)) {
    throw new RangeError(`There is no optimizer ${optimizer}.`);
  }
  const f = surface === "quadratic" && curvatures ? quadratic(curvatures) : surfaces[surface];
  const { rate, decay = 0.9, b2 = 0.999, eps = 1e-8, steps = 100 } = settings;
  if (!Number.isFinite(rate)) throw new RangeError(`The rate must be finite, got ${rate}.`);
  for (const [name, value] of Object.entries({ decay, b2 })) {
    if (!(value >= 0 && value < 1)) throw new RangeError(`${name} must be in [0, 1), got ${value}.`);
  }
  if (!Number.isInteger(steps) || steps < 0) throw new RangeError(`steps must be whole, got ${steps}.`);
  const step = optimizers[optimizer].begin({ rate, decay, b2, eps });
  return { f, step, steps, start: start ?? f.start };
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
export function updates({ points, ...options }) {
  const { f, step } = problem(options);
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
