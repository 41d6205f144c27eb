// The surfaces of jaxopt_tut.landscape.surfaces: value, gradient and Hessian of points [w1, w2].
// Numbers that the library keeps in single precision are rounded so here, too; products are taken
// in its order, so that also what is left after cancellation agrees.

const single = Math.fround;
const sigmoid = (x) => 1 / (1 + Math.exp(-x));

const ravine = {
  name: "Ravine",
  formula: "tanh² w₁ + 0.01 |w₁| + σ(w₂)",
  domain: [[-7.5, 7.5], [-10, 10]],
  start: [5, 5],
  minima: [],
  value: ([x, y]) => Math.tanh(x) ** 2 + 0.01 * Math.abs(x) + sigmoid(y),
  gradient([x, y]) {
    const t = Math.tanh(x);
    const s = sigmoid(y);
    return [2 * t * (1 + t) * (1 - t) + 0.01 * Math.sign(x), s * (1 - s)];
  },
  hessian([x, y]) {
    const t = Math.tanh(x);
    const s = sigmoid(y);
    const sech2 = (1 + t) * (1 - t);
    return [2 * sech2 * (sech2 - 2 * t * t), 0, s * (1 - s) * (1 - 2 * s)];
  },
};

const CENTRES = [[1, -0.5], [-1, 0.5], [-0.5, -0.8]].map((centre) => centre.map(single));
const SIGMA = 0.2;
const DEPTH = 1 / (2 * Math.PI * SIGMA ** 2);

const S2 = SIGMA ** 2;
const density = (dx, dy) => Math.exp(-(dx * dx + dy * dy) / (2 * S2)) * DEPTH;

const steep_optima = {
  name: "Steep optima",
  formula: "minus the sum of three normal densities, σ = 0.2",
  domain: [[-2, 2], [-2, 2]],
  start: [0, 0],
  minima: CENTRES,
  value([x, y]) {
    let sum = 0;
    for (const [cx, cy] of CENTRES) sum -= density(x - cx, y - cy);
    return sum;
  },
  gradient([x, y]) {
    const sum = [0, 0];
    for (const [cx, cy] of CENTRES) {
      const [dx, dy] = [x - cx, y - cy];
      const p = density(dx, dy) / S2;
      sum[0] += p * dx;
      sum[1] += p * dy;
    }
    return sum;
  },
  hessian([x, y]) {
    const sum = [0, 0, 0];
    for (const [cx, cy] of CENTRES) {
      const [dx, dy] = [x - cx, y - cy];
      const p = density(dx, dy) / S2;
      sum[0] += p * (1 - (dx * dx) / S2);
      sum[1] -= (p * dx * dy) / S2;
      sum[2] += p * (1 - (dy * dy) / S2);
    }
    return sum;
  },
};

const rosenbrock = {
  name: "Rosenbrock’s valley",
  formula: "(1 − w₁)² + 100 (w₂ − w₁²)²",
  domain: [[-2, 2], [-1, 3]],
  start: [single(-1.2), 1],
  minima: [[1, 1]],
  value: ([x, y]) => (1 - x) ** 2 + 100 * (y - x * x) ** 2,
  gradient([x, y]) {
    const off = y - x * x;
    return [-2 * (1 - x) - 400 * off * x, 200 * off];
  },
  hessian: ([x, y]) => [2 - 400 * (y - x * x) + 800 * x * x, -400 * x, 200],
};

const beale = {
  name: "Beale’s function",
  formula: "Σₖ (cₖ − w₁ (1 − w₂ᵏ))², c = (1.5, 2.25, 2.625)",
  domain: [[-4.5, 4.5], [-4.5, 4.5]],
  start: [1, 1],
  minima: [[3, 0.5]],
  value: (w) => bealeTerms(w).reduce((sum, { t }) => sum + t * t, 0),
  gradient: (w) => bealeTerms(w).reduce(
    ([gx, gy], { t, tx, ty }) => [gx + 2 * t * tx, gy + 2 * t * ty], [0, 0],
  ),
  hessian: (w) => bealeTerms(w).reduce(
    ([xx, xy, yy], { t, tx, ty, txy, tyy }) => [
      xx + 2 * tx * tx, xy + 2 * (tx * ty + t * txy), yy + 2 * (ty * ty + t * tyy),
    ],
    [0, 0, 0],
  ),
};

function bealeTerms([x, y]) {
  return [
    { t: 1.5 - x + x * y, tx: y - 1, ty: x, txy: 1, tyy: 0 },
    { t: 2.25 - x + x * (y * y), tx: y * y - 1, ty: 2 * x * y, txy: 2 * y, tyy: 2 * x },
    {
      t: 2.625 - x + x * (y * y * y),
      tx: y * y * y - 1,
      ty: 3 * x * (y * y),
      txy: 3 * y * y,
      tyy: 6 * x * y,
    },
  ];
}

const himmelblau = {
  name: "Himmelblau’s function",
  formula: "(w₁² + w₂ − 11)² + (w₁ + w₂² − 7)²",
  domain: [[-5, 5], [-5, 5]],
  start: [0, 0],
  minima: [[3, 2], [-2.805118, 3.131312], [-3.77931, -3.283186], [3.584428, -1.848126]],
  value: ([x, y]) => (x * x + y - 11) ** 2 + (x + y * y - 7) ** 2,
  gradient([x, y]) {
    const a = x * x + y - 11;
    const b = x + y * y - 7;
    return [4 * a * x + 2 * b, 2 * a + 4 * b * y];
  },
  hessian([x, y]) {
    const a = x * x + y - 11;
    const b = x + y * y - 7;
    return [8 * x * x + 4 * a + 2, 4 * x + 4 * y, 2 + 8 * y * y + 4 * b];
  },
};

/** An axis-aligned quadratic, ½ Σ λ w², with two curvatures. */
export function quadratic(curvatures = [1, 10]) {
  const [a, b] = curvatures.map(single);
  return {
    name: "Quadratic",
    formula: "½ (λ₁ w₁² + λ₂ w₂²)",
    domain: [[-1.5, 1.5], [-1.5, 1.5]],
    start: [1, 1],
    minima: [[0, 0]],
    value: ([x, y]) => 0.5 * (a * (x * x) + b * (y * y)),
    gradient: ([x, y]) => [a * x, b * y],
    hessian: () => [a, 0, b],
  };
}

/** By the library's name. Hessians are [∂₁₁, ∂₁₂, ∂₂₂]. */
export const surfaces = {
  ravine, steep_optima, rosenbrock, beale, himmelblau, quadratic: quadratic(),
};
