// Backpropagation on graphs of numbers that the library traced. No DOM, no library.
//
// A graph is { inputs, nodes, output }; a node { op, name, operands, params }, where an operand is
// the index of an earlier node or { value } for a number written into the program. Each operation
// knows its value and, for each operand, its own derivative: its vector-Jacobian product is that
// times the cotangent.

const one = () => 1;
const zero = () => 0;

// value(operands, params) and slopes(operands, result, params): a function an operand, so that only
// what is asked for is computed. `title` and `slope` say the same in words, from names of operands;
// `slope` may look at the operands' values too.
export const OPS = {
  add: {
    value: ([a, b]) => a + b,
    slopes: () => [one, one],
    title: ([a, b]) => `${a} + ${b}`,
    slope: () => ["1", "1"],
  },
  sub: {
    value: ([a, b]) => a - b,
    slopes: () => [one, () => -1],
    title: ([a, b]) => `${a} − ${b}`,
    slope: () => ["1", "−1"],
  },
  mul: {
    value: ([a, b]) => a * b,
    slopes: ([a, b]) => [() => b, () => a],
    title: ([a, b]) => `${a} × ${b}`,
    slope: ([a, b]) => [b, a],
  },
  sin: {
    value: ([a]) => Math.sin(a),
    slopes: ([a]) => [() => Math.cos(a)],
    title: ([a]) => `sin ${a}`,
    slope: ([a]) => [`cos ${a}`],
  },
  exp: {
    value: ([a]) => Math.exp(a),
    slopes: (_, y) => [() => y],
    title: ([a]) => `exp ${a}`,
    slope: ([a]) => [`exp ${a}`],
  },
  tanh: {
    value: ([a]) => Math.tanh(a),
    slopes: (_, y) => [() => 1 - y * y],
    title: ([a]) => `tanh ${a}`,
    slope: ([a]) => [`(1 − tanh² ${a})`],
  },
  integer_pow: {
    value: ([a], { y }) => a ** y,
    slopes: ([a], _, { y }) => [() => y * a ** (y - 1)],
    title: ([a], { y }) => (y === 2 ? `${a}²` : `${a}^${y}`),
    slope: ([a], { y }) => [y === 2 ? `2 ${a}` : `${y} ${a}^${y - 1}`],
  },
  gt: {
    value: ([a, b]) => a > b,
    slopes: () => [zero, zero],
    title: ([a, b]) => `${a} > ${b}`,
    slope: () => ["0", "0"],
  },
  // The first operand chooses: the second where it is false, the third where it is true.
  select_n: {
    value: ([which, a, b]) => (which ? b : a),
    slopes: ([which]) => [zero, () => (which ? 0 : 1), () => (which ? 1 : 0)],
    title: ([which, a, b]) => `${which} ? ${b} : ${a}`,
    slope: (_, __, [which]) => ["0", which ? "0" : "1", which ? "1" : "0"],
  },
  elu: {
    value: ([z, alpha]) => (z > 0 ? z : alpha * Math.expm1(Math.min(z, 0))),
    slopes: ([z, alpha]) => [
      () => (z > 0 ? 1 : alpha * Math.exp(Math.min(z, 0))),
      () => Math.expm1(Math.min(z, 0)),
    ],
    title: ([z]) => `elu ${z}`,
    slope: ([z, alpha], _, [at]) => [at > 0 ? "1" : `${alpha} exp ${z}`, `(exp ${z} − 1)`],
  },
};

const at = (values, operand) => (typeof operand === "number" ? values[operand] : operand.value);

// The value of every node, parents first.
export function evaluate(graph, inputs) {
  const values = [];
  graph.nodes.forEach((node, index) => {
    if (node.op === "input") {
      values.push(inputs[graph.inputs.indexOf(index)]);
    } else {
      const operands = node.operands.map((operand) => at(values, operand));
      values.push(OPS[node.op].value(operands, node.params));
    }
  });
  return values;
}

// What each child hands to its parents, one entry an edge, children first:
// { child, parent, place, slope, given }. An adjoint is complete once all children have given.
function edgesBack(graph, values, adjoints) {
  const edges = [];
  const isReached = adjoints.map((x) => x !== null);
  for (let child = graph.nodes.length - 1; child >= 0; child -= 1) {
    const node = graph.nodes[child];
    if (node.op === "input" || !isReached[child]) continue;
    const operands = node.operands.map((operand) => at(values, operand));
    const slopes = OPS[node.op].slopes(operands, values[child], node.params);
    node.operands.forEach((parent, place) => {
      if (typeof parent !== "number" || typeof values[parent] === "boolean") return;
      const slope = slopes[place]();
      const given = adjoints[child] * slope;
      isReached[parent] = true;
      adjoints[parent] = (adjoints[parent] ?? 0) + given;
      edges.push({ child, parent, place, slope, given });
    });
  }
  return edges;
}

// The adjoint of every node, null where there is none, and what came along each edge.
export function backpropagate(graph, values) {
  const adjoints = graph.nodes.map(() => null);
  adjoints[graph.output] = 1;
  const edges = edgesBack(graph, values, adjoints);
  return { adjoints, edges };
}

// The nodes in the order in which their adjoints are complete: from the output back.
export function order(graph, adjoints) {
  const indices = graph.nodes.map((_, index) => index).reverse();
  return indices.filter((index) => adjoints[index] !== null);
}

// How far forwards and backwards a walk has come after `step` steps, and the node of the last step:
// first the operations, then the adjoints from the output back.
export function walk(graph, adjoints, step) {
  const forward = graph.nodes.map((_, i) => i).filter((i) => graph.nodes[i].op !== "input");
  const backward = order(graph, adjoints);
  const total = forward.length + backward.length;
  const at = Math.min(Math.max(step, 0), total);
  const isBack = at > forward.length;
  const done = isBack ? at - forward.length : at;
  const list = isBack ? backward : forward;
  return {
    at,
    total,
    forward,
    backward,
    isBack,
    done,
    current: done ? list[done - 1] : null,
    next: at === total ? null : at < forward.length ? forward[at] : backward[at - forward.length],
    hasValue: (i) => graph.nodes[i].op === "input" || forward.indexOf(i) < at,
    hasAdjoint: (i) => isBack && backward.includes(i) && backward.indexOf(i) < done,
  };
}

// Whether a guess is right: to `tolerance`, relative where the number is large.
export function isRight(guess, truth, tolerance = 0.01) {
  if (Number.isNaN(truth)) return Number.isNaN(guess);
  if (!Number.isFinite(truth)) return guess === truth;
  return Math.abs(guess - truth) <= tolerance * Math.max(1, Math.abs(truth));
}

// Where to draw the nodes: rows from the inputs down, an input just above its first use. An edge over
// several rows gets a narrow place in each, so that it runs behind no node. A row is in the order of
// the mean place of its neighbours (Sugiyama, Tagawa, Toda), which keeps edges short. Returns the
// middle x and the row of every node, and for every edge the places that it passes.
export function layout(graph, { wide, narrow }) {
  const { nodes } = graph;
  const parents = nodes.map((node) => (node.operands ?? []).filter((p) => typeof p === "number"));
  const row = nodes.map(() => 0);
  nodes.forEach((node, i) => {
    if (node.op !== "input") row[i] = 1 + Math.max(...parents[i].map((p) => row[p]));
  });
  nodes.forEach((node, i) => {
    const users = nodes.map((_, k) => k).filter((k) => parents[k].includes(i));
    if (node.op === "input" && users.length) row[i] = Math.min(...users.map((k) => row[k])) - 1;
  });
  const items = nodes.map((_, i) => ({ row: row[i], width: wide, up: [], down: [], x: 0 }));
  const edges = [];
  parents.forEach((list, child) => list.forEach((parent, place) => {
    const chain = [items[parent]];
    for (let r = row[parent] + 1; r < row[child]; r += 1) {
      chain.push({ row: r, width: narrow, up: [], down: [], x: 0 });
    }
    items.push(...chain.slice(1));
    chain.push(items[child]);
    chain.slice(1).forEach((item, k) => {
      item.up.push(chain[k]);
      chain[k].down.push(item);
    });
    edges.push({ parent, child, place, through: chain.slice(1, -1) });
  }));
  const rows = [];
  items.forEach((item) => (rows[item.row] ??= []).push(item));
  const widthOf = (members) => members.reduce((sum, item) => sum + item.width, 0);
  const width = Math.max(...rows.map(widthOf));
  const spread = (members) => {
    let left = (width - widthOf(members)) / 2;
    for (const item of members) {
      item.x = left + item.width / 2;
      left += item.width;
    }
  };
  rows.forEach(spread);
  const mean = (list, x) => (list.length ? list.reduce((sum, o) => sum + o.x, 0) / list.length : x);
  // Down by what is above, up by what is below, and so on: inputs have nothing above.
  for (let pass = 0; pass < 6; pass += 1) {
    const side = pass % 2 ? "down" : "up";
    for (const members of pass % 2 ? [...rows].reverse() : rows) {
      const key = new Map(members.map((item) => [item, mean(item[side], item.x)]));
      members.sort((one, other) => key.get(one) - key.get(other));
      spread(members);
    }
  }
  return {
    width,
    height: rows.length,
    x: nodes.map((_, i) => items[i].x),
    row,
    edges: edges.map((edge) => ({ ...edge, through: edge.through.map(({ x, row: r }) => ({ x, row: r })) })),
  };
}
