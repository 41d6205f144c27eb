// A bi-level problem with a closed form: the penalty of a ridge, judged by another target. No DOM,
// no library.
//
//   inner   f(y, z) = 1/2 sum_i h_i (y_i - t_i)^2 + 1/2 exp(z) sum_i y_i^2,  T gradient steps
//   outer   E(y) = 1/2 sum_i w_i (y_i - v_i)^2
//
// z is the natural logarithm of the penalty. Tangents are pushed along the steps.

import { requireKey, requireNumber, requireNumbers, requireOptions } from "./checks.js";

export const PROBLEMS = {
  one: {
    label: "one",
    curvature: [1],
    target: [2],
    weight: [1],
    validation: [1.2],
    start: [-1],
    rate: 0.2,
  },
  two: {
    label: "two: a steep and a shallow one",
    curvature: [3, 0.25],
    target: [1.5, 2],
    weight: [1, 1],
    validation: [1, 0.4],
    start: [-0.5, -1],
    rate: 0.2,
  },
};

const LISTS = ["curvature", "target", "weight", "validation", "start"];

export const LIMITS = { steps: 1000, low: -5, high: 1.5 };

const WHO = "hypergradient";

// The problem named, or one of the caller's own of the same form.
export function problem(given) {
  if (typeof given !== "object") {
    requireKey(WHO, "problem", given, PROBLEMS);
    return PROBLEMS[given];
  }
  requireOptions(WHO, given, ["rate", ...LISTS, "label"]);
  requireNumber(WHO, "rate", given.rate);
  LISTS.forEach((name) => requireNumbers(WHO, name, given[name], given.start?.length || 1));
  return given;
}

const requireSteps = (name, value, low) => (
  requireNumber(WHO, name, value, { low, high: LIMITS.steps, whole: true }));

const sum = (values) => values.reduce((total, x) => total + x, 0);

export const outer = ({ weight, validation }, y) =>
  0.5 * sum(y.map((x, i) => weight[i] * (x - validation[i]) ** 2));

const outerSlope = ({ weight, validation }, y) => y.map((x, i) => weight[i] * (x - validation[i]));

// One gradient step, and what it makes of a tangent dy/dz.
function step({ curvature, target, rate }, penalty, y, tangent) {
  return [
    y.map((x, i) => x - rate * (curvature[i] * (x - target[i]) + penalty * x)),
    tangent.map((s, i) => s - rate * ((curvature[i] + penalty) * s + penalty * y[i])),
  ];
}

// The inner points, start first.
export function innerPath(given, z, steps) {
  const p = problem(given);
  requireSteps("steps", steps, 0);
  const none = p.start.map(() => 0);
  const points = [p.start];
  for (let i = 0; i < steps; i += 1) points.push(step(p, Math.exp(z), points[i], none)[0]);
  return points;
}

// The outer value that `steps` inner steps end at.
export function reached(given, z, steps) {
  const p = problem(given);
  const penalty = Math.exp(z);
  const none = p.start.map(() => 0);
  let y = p.start;
  for (let i = 0; i < steps; i += 1) [y] = step(p, penalty, y, none);
  return outer(p, y);
}

// The inner solution itself.
export function solution(given, z) {
  const { curvature, target } = problem(given);
  return curvature.map((h, i) => (h * target[i]) / (h + Math.exp(z)));
}

// The exact derivative of the outer value at the inner solution.
export function exactSlope(given, z) {
  return implicit(problem(given), Math.exp(z), solution(given, z));
}

// The optimality condition, differentiated at y: K u = dE/dy, dE/dz = -R u.
function implicit(p, penalty, y) {
  return sum(outerSlope(p, y).map((e, i) => (-penalty * y[i] * e) / (p.curvature[i] + penalty)));
}

// dE/dz after `steps` inner steps by three ways, with the outer value and how far y has come.
export function hypergradient(options) {
  requireOptions(WHO, options, ["problem", "logPenalty", "steps", "k"]);
  const { problem: given = "two", logPenalty: z, steps, k = 2 } = options;
  const p = problem(given);
  requireNumber(WHO, "logPenalty", z);
  requireSteps("steps", steps, 0);
  requireSteps("k", k, 1);
  const penalty = Math.exp(z);
  let y = p.start;
  let whole = y.map(() => 0);
  let tail = y.map(() => 0);
  for (let i = 0; i < steps; i += 1) {
    const [next, pushed] = step(p, penalty, y, whole);
    // The last k steps begin at a constant.
    tail = i >= steps - k ? step(p, penalty, y, tail)[1] : tail;
    [y, whole] = [next, pushed];
  }
  const slope = outerSlope(p, y);
  const along = (tangent) => sum(tangent.map((s, i) => s * slope[i]));
  const residual = Math.max(
    ...y.map((x, i) => Math.abs(p.curvature[i] * (x - p.target[i]) + penalty * x)),
  );
  return {
    y,
    value: outer(p, y),
    residual,
    unroll: along(whole),
    truncate: along(tail),
    implicit: implicit(p, penalty, y),
    exact: exactSlope(p, z),
  };
}
