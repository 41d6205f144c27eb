// The optimizers of jaxopt_tut.optimizers on points [w1, w2], in double precision.
// Each is begin(settings) -> step(gradient, hessian) -> update, to be added to the point.

/** Make an optimizer of points of one that sees a single coordinate, as all but Newton do. */
function coordinatewise(begin) {
  return (settings) => {
    const [first, second] = [begin(settings), begin(settings)];
    return (g) => [first(g[0]), second(g[1])];
  };
}

/** A moving average; it starts at zero, and nothing corrects that here. */
function average(decay) {
  let mean = 0;
  return (x) => {
    mean = (1 - decay) * x + decay * mean;
    return mean;
  };
}

const sgd = ({ rate }) => (g) => -rate * g;

function momentum({ rate, decay }) {
  const blend = average(decay);
  return (g) => -rate * blend(g);
}

function nesterov({ rate, decay }) {
  const blend = average(decay);
  return (g) => -rate * (decay * blend(g) + (1 - decay) * g);
}

function heavyBall({ rate, decay }) {
  let m = 0;
  return (g) => {
    m = g + decay * m;
    return -rate * m;
  };
}

function adam({ rate, decay, b2 = 0.999, eps = 1e-8 }) {
  const first = average(decay);
  const second = average(b2);
  let count = 0;
  return (g) => {
    count += 1;
    const m = first(g) / (1 - decay ** count);
    const v = second(g * g) / (1 - b2 ** count);
    return (-rate * m) / (Math.sqrt(v) + eps || 1);
  };
}

const sign = ({ rate }) => (g) => -rate * Math.sign(g);

function newton({ rate }) {
  return (g, hessian) => saddleFreeSolve(hessian(), g).map((u) => -rate * u);
}

/** Solve with the absolute values of the eigenvalues, as `linalg.saddle_free_solve` does. */
export function saddleFreeSolve([a, b, d], g) {
  // Jacobi's rotation: exact for a diagonal Hessian, and small eigenvalues keep their digits
  const theta = (d - a) / (2 * b);
  const t = b === 0 ? 0 : (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
  const c = 1 / Math.hypot(t, 1);
  const s = t * c;
  const sizes = [Math.abs(a - t * b), Math.abs(d + t * b)];
  const along = [c * g[0] - s * g[1], s * g[0] + c * g[1]];
  const rounding = 2 * Number.EPSILON;
  const floor = rounding * (Math.max(...sizes) || 1);
  const longest = Math.max(...along.map(Math.abs));
  const scaled = along.map((x, i) => {
    if (Math.abs(x) <= rounding * longest && Number.isFinite(longest)) return 0; // lost in rounding
    return x / Math.max(sizes[i], floor);
  });
  return [c * scaled[0] + s * scaled[1], c * scaled[1] - s * scaled[0]];
}

/** By the name that `play.path` takes: what the page calls it, and which numbers it heeds. */
export const optimizers = {
  sgd: { name: "SGD", begin: coordinatewise(sgd), heeds: [] },
  momentum: {
    name: "Momentum, average (EMA)", short: "momentum", begin: coordinatewise(momentum), heeds: ["decay"],
  },
  heavy_ball: {
    name: "Momentum, heavy ball", short: "heavy ball", begin: coordinatewise(heavyBall), heeds: ["decay"],
  },
  nesterov: {
    name: "Nesterov, average", short: "Nesterov", begin: coordinatewise(nesterov), heeds: ["decay"],
  },
  adam: { name: "Adam", begin: coordinatewise(adam), heeds: ["decay", "b2"] },
  sign: { name: "Sign descent", short: "sign", begin: coordinatewise(sign), heeds: [] },
  newton: { name: "Newton, |eigenvalues|", short: "Newton", begin: newton, heeds: [] },
};
