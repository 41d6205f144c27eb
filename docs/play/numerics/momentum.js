// Gradient descent with momentum on a quadratic: how fast each direction shrinks, in closed form.
// Along an eigenvector of curvature λ the iterates obey w₊ = (1 + β − cηλ) w − β w₋, with c = 1 for
// the heavy ball and c = 1 − β for the moving average, so the roots of
// z² − (1 + β − cηλ) z + β say everything.

const weight = (form, decay) => (form === "ema" ? 1 - decay : 1);

/** The sum of the roots, and the square of half their difference: complex roots make it negative. */
function roots({ form, rate, decay, curvature }) {
  const pull = weight(form, decay) * rate * curvature;
  // trace² − 4β, without what cancels where the pull is small
  return { pull, trace: 1 + decay - pull, rest: (1 - decay) ** 2 + pull * (pull - 2 * (1 + decay)) };
}

/** The factor by which a direction shrinks each step in the long run; above 1 it grows. */
export function factor(direction) {
  const { pull, trace, rest } = roots(direction);
  if (pull === 0) return 1;
  if (rest < 0) return Math.sqrt(direction.decay);
  return (Math.abs(trace) + Math.sqrt(rest)) / 2;
}

/** How a direction goes on: swings are complex roots, zig-zags negative ones. */
export function manner(direction) {
  const { trace, rest } = roots(direction);
  const rho = factor(direction);
  if (rest < 0) return "swings";
  if (rho === 0) return "arrives in one step";
  if (trace < 0) return rho < 1 ? "zig-zags" : rho > 1 ? "zig-zags away" : "zig-zags for ever";
  return rho < 1 ? "creeps" : rho > 1 ? "runs away uphill" : "stands still";
}

/** The factor of the slower of two directions. */
export function worst({ form, rate, decay, low, high }) {
  return Math.max(
    factor({ form, rate, decay, curvature: low }), factor({ form, rate, decay, curvature: high }),
  );
}

/** The rate at which the direction of largest curvature stops shrinking. */
export function stabilityLimit({ form, decay, high }) {
  return (2 * (1 + decay)) / (weight(form, decay) * high);
}

/** The best rate at a given decay: it makes the traces of both directions equally large. */
export function bestRate({ form, decay, low, high }) {
  const rate = (2 * (1 + decay)) / (weight(form, decay) * (low + high));
  return { rate, factor: worst({ form, rate, decay, low, high }) };
}

/** The best rate and decay together (Polyak, 1964): both directions have a double root. */
export function best({ form, low, high }) {
  const [a, b] = [Math.sqrt(low), Math.sqrt(high)];
  const root = (b - a) / (b + a);
  const decay = root * root;
  return { decay, rate: 4 / (weight(form, decay) * (a + b) ** 2), factor: root };
}

/** Steps that a factor takes for one decimal digit; none if it does not shrink. */
export function stepsADigit(rho) {
  return rho < 1 ? -Math.LN10 / Math.log(rho) : Infinity;
}

/** The distance along one direction at each step, from 1. */
export function distances({ form, rate, decay, curvature, steps }) {
  const c = weight(form, decay);
  const found = [1];
  let [w, m] = [1, 0];
  for (let i = 0; i < steps; i += 1) {
    m = c * curvature * w + decay * m;
    w -= rate * m;
    found.push(w);
  }
  return found;
}
