// Backpropagation: a node a step, forwards and back, on graphs that the library traced.

import { el, show } from "../frame/dom.js";
import { control } from "../frame/controls.js";
import { choice, number } from "../frame/fields.js";
import { backpropagate, evaluate, isRight, layout, OPS, walk } from "../numerics/backpropagation.js";
import { GRAPHS } from "../numerics/graphs.js";

const TOLERANCE = 0.01;
const WIDTH = 76;
const HEIGHT = 50;
const GAP = 34;

/** Numbers for the inputs of a graph, "1,2"; none means those that the graph starts with. */
const inputsField = {
  label: "Inputs",
  kind: "inputs",
  value: [],
  hidden: true,
  write: (numbers) => numbers.map((x) => (Object.is(x, -0) ? "-0" : String(x))).join(","),
  clean(text) {
    const numbers = String(text) === "" ? [] : String(text).split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
    if (numbers.length <= 8 && numbers.every(Number.isFinite)) return { value: numbers };
    return { value: [], note: `Inputs: “${String(text).slice(0, 24)}” are not finite numbers; those of the example are used.` };
  },
};

const fields = {
  graph: choice({
    label: "Function", options: Object.entries(GRAPHS).map(([key, { label }]) => [key, label]), value: "worked", hidden: true,
  }),
  inputs: inputsField,
  step: number({ label: "Step", value: 0, min: 0, max: 40, step: 1, lowest: 0, highest: 99, integer: true, hidden: true }),
};

function compute({ graph: name, inputs, step }) {
  const graph = GRAPHS[name];
  const given = inputs.length === graph.inputs.length ? inputs : graph.start;
  const values = evaluate(graph, given);
  const { adjoints, edges } = backpropagate(graph, values);
  return { graph, inputs: given, values, adjoints, edges, walk: walk(graph, adjoints, step) };
}

const nameOf = (graph, operand) => {
  if (typeof operand !== "number") return show(operand.value);
  return graph.nodes[operand].op === "input" ? graph.nodes[operand].name : `v${operand}`;
};
const operandNames = (graph, { operands }) => operands.map((operand) => nameOf(graph, operand));

function titleOf(graph, index) {
  const node = graph.nodes[index];
  if (node.op === "input") return node.name;
  return OPS[node.op].title(operandNames(graph, node), node.params);
}

/** The same in the little room of a node. */
function brief(value) {
  if (typeof value === "boolean" || Number.isNaN(value)) return String(value);
  return Number.isFinite(value) ? show(value) : value > 0 ? "∞" : "−∞";
}

const shown = (value) => (typeof value === "boolean" ? String(value) : show(value));

/** The sum that makes an adjoint, in words: one term a child that uses the node. */
function sumOf({ graph, values, adjoints, edges }, index) {
  const terms = edges.filter(({ parent }) => parent === index).map(({ child, place }) => {
    const node = graph.nodes[child];
    const given = node.operands.map((o) => (typeof o === "number" ? values[o] : o.value));
    return `δv${child} × ${OPS[node.op].slope(operandNames(graph, node), node.params, given)[place]}`;
  });
  return `${terms.join(" + ")} = ${show(adjoints[index])}`;
}

function sayStep(result) {
  const { graph, values, walk: walked } = result;
  const { current, isBack, done, forward, backward, at, total } = walked;
  if (current === null) return `The inputs are set. Forwards there are ${forward.length} operations, then ${backward.length} adjoints on the way back.`;
  const name = nameOf(graph, current);
  if (!isBack) return `Forwards, ${done} of ${forward.length}: ${name} = ${titleOf(graph, current)} = ${shown(values[current])}.`;
  const sum = current === graph.output ? "1, the output by itself" : sumOf(result, current);
  const end = at === total ? ` The gradient is complete: ${gradient(result)}.` : "";
  return `Backwards, ${done} of ${backward.length}: δ${name} = ${sum}.${end}`;
}

const gradient = ({ graph, adjoints }) =>
  graph.inputs.map((i) => `∂/∂${graph.nodes[i].name} ${adjoints[i] === null ? "0" : show(adjoints[i])}`).join(", ");

// ---- the picture

function picture(result, { revealed }) {
  const { graph, values, adjoints, edges, walk: walked } = result;
  const places = layout(graph, { wide: WIDTH + 4, narrow: 14 });
  const [width, height] = [Math.max(places.width, 300), places.height * (HEIGHT + GAP) - GAP + 16];
  const aside = (width - places.width) / 2;
  const x = (i) => places.x[i] + aside;
  const top = (row) => row * (HEIGHT + GAP) + 14;
  const marks = [];
  const twice = ({ parent, child }) => graph.nodes[child].operands.filter((o) => o === parent).length > 1;
  for (const edge of places.edges) {
    const { parent, child, place, through } = edge;
    const isNow = walked.isBack ? walked.current === parent && walked.hasAdjoint(child) : walked.current === child;
    // the same value twice: two lines beside one another
    const shift = twice(edge) ? 14 * (place - 0.5) : 0;
    let from = [x(parent) + shift, top(places.row[parent]) + HEIGHT];
    let d = `M${from}`;
    const to = (left, at) => {
      const middle = (from[1] + at) / 2;
      d += `C${[from[0], middle, left, middle, left, at]}`;
      from = [left, at];
    };
    for (const { x: left, row } of through) {
      to(left + aside, top(row));
      from = [left + aside, top(row) + HEIGHT];
      d += `L${from}`;
    }
    to(x(child) + shift, top(places.row[child]));
    marks.push(el("svg:path", { d, class: revealed && isNow ? "edge active" : "edge" }));
  }
  graph.nodes.forEach((node, i) => {
    const at = top(places.row[i]);
    const left = x(i) - WIDTH / 2;
    const kinds = ["node", node.op === "input" && "input", revealed && walked.current === i && "now", revealed && walked.next === i && "next"];
    const title = titleOf(graph, i);
    const value = revealed && walked.hasValue(i) ? `= ${brief(values[i])}` : "";
    const adjoint = revealed && walked.hasAdjoint(i) ? `δ ${brief(adjoints[i])}` : "";
    marks.push(
      el("svg:rect", { x: left, y: at, width: WIDTH, height: HEIGHT, rx: 5, class: kinds.filter(Boolean).join(" ") }),
      el("svg:text", { x: x(i), y: at + 15, class: title.length > 10 ? "title long" : "title" }, title),
      el("svg:text", { x: x(i), y: at + 30, class: "value" }, value),
      el("svg:text", { x: x(i), y: at + 45, class: "adjoint" }, adjoint),
    );
    if (node.op !== "input") marks.push(el("svg:text", { x: left + 1, y: at - 3, class: "index" }, `v${i}`));
  });
  const done = graph.nodes.filter((_, i) => walked.hasAdjoint(i)).length;
  const label = `Graph of ${graph.label}: ${graph.nodes.length} nodes in ${places.height} rows, ${edges.length} edges back; ${done} adjoints are known. The table below lists them.`;
  return el("svg:svg", {
    viewBox: `0 0 ${width} ${height}`, width, height, class: "graph", role: "img", "aria-label": label,
  }, marks);
}

// ---- steps, inputs, and the guess of an adjoint

function build(change) {
  let result = null;
  let made = "";
  let boxes = [];
  const holder = el("div", { class: "graph-holder" });
  const inputs = el("fieldset", { class: "inputs" });
  // kept here, because a second press may come before the first is drawn
  let at = 0;
  const go = (step) => {
    at = Math.min(Math.max(step, 0), result.walk.total);
    change({ step: at });
  };
  const button = (text, step, kind = "") => el("button", { type: "button", class: kind, onclick: () => go(step()) }, text);
  const back = button("One back", () => at - 1);
  const forth = button("Next node", () => at + 1, "primary");
  const all = button("All values", () => result.walk.forward.length);
  const end = button("All adjoints", () => result.walk.total);
  const first = button("To the inputs", () => 0, "quiet");
  const where = el("p", { class: "unit" });

  const field = el("input", { type: "text", id: "backpropagation-adjoint", inputmode: "decimal", autocomplete: "off" });
  const label = el("label", { for: "backpropagation-adjoint" });
  const told = el("p", { class: "verdict", role: "status" });
  const guess = el(
    "form",
    {
      class: "adjoint-guess",
      onsubmit(event) {
        event.preventDefault();
        const { walk: walked, adjoints, graph } = result;
        const text = field.value.trim().replace("−", "-").toLowerCase();
        const isNumber = text !== "" && (text === "nan" || !Number.isNaN(Number(text)));
        if (!isNumber) {
          told.textContent = "Write a number, such as -0.5, or nan.";
          field.focus();
          return;
        }
        const name = nameOf(graph, walked.next);
        const truth = adjoints[walked.next];
        const isSo = isRight(Number(text), truth, TOLERANCE);
        told.textContent = isSo
          ? `Right: δ${name} = ${show(truth, 4)}.`
          : `Not so: δ${name} is not ${text}. Each child of ${name} gives its own adjoint times its slope; add them up, or take the next node to see.`;
        if (isSo) { field.value = ""; go(walked.at + 1); } else field.focus();
      },
    },
    label,
    el("div", { class: "row" }, field, el("button", { class: "primary" }, "Check")),
  );
  const which = control("backpropagation-graph", fields.graph, (graph) => change({ graph, step: 0 }));
  const root = el("div", { class: "backpropagation" }, which.root, holder, where, el("div", { class: "row" }, forth, back, all, end, first), guess, told, inputs);

  function makeInputs() {
    const names = result.graph.inputs.map((i) => result.graph.nodes[i].name);
    boxes = names.map((name, k) => el("input", {
      type: "number",
      step: "any",
      id: `backpropagation-input-${k}`,
      oninput() {
        const value = boxes[k].value.trim() === "" ? NaN : Number(boxes[k].value);
        boxes[k].toggleAttribute("aria-invalid", !Number.isFinite(value));
        if (Number.isFinite(value)) change({ inputs: result.inputs.map((x, i) => (i === k ? value : x)) });
      },
      onchange() { boxes[k].value = result.inputs[k]; boxes[k].removeAttribute("aria-invalid"); },
    }));
    inputs.replaceChildren(el("legend", {}, "Inputs"), ...names.map((name, k) => el(
      "div", {}, el("label", { for: `backpropagation-input-${k}` }, name), boxes[k],
    )));
  }

  return {
    root,
    sync(state, found, { revealed }) {
      const isNew = made !== state.graph;
      result = found;
      which.sync(state.graph);
      if (isNew) { made = state.graph; makeInputs(); told.textContent = ""; field.value = ""; }
      boxes.forEach((box, k) => {
        if (document.activeElement !== box || Number(box.value) !== found.inputs[k]) box.value = found.inputs[k];
      });
      holder.replaceChildren(picture(found, { revealed }));
      const { total, forward, next } = found.walk;
      at = found.walk.at;
      where.textContent = `Step ${at} of ${total}: ${Math.min(at, forward.length)} of ${forward.length} values, ${Math.max(at - forward.length, 0)} of ${total - forward.length} adjoints.`;
      // disabled in words only: a button that is disabled loses the focus
      const rest = (nodes, isIdle) => nodes.forEach((node) => node.setAttribute("aria-disabled", isIdle));
      rest([back, first], at === 0);
      rest([forth, end], at === total);
      rest([all], at === forward.length);
      const asks = revealed && next !== null && at >= forward.length;
      guess.hidden = !asks;
      if (asks) {
        const title = found.graph.nodes[next].op === "input" ? "" : ` = ${titleOf(found.graph, next)}`;
        label.textContent = `Your guess: the adjoint of ${nameOf(found.graph, next)}${title}, to 1 %`;
      }
    },
  };
}

export const backpropagation = {
  id: "backpropagation",
  title: "Backpropagation",
  intro: "Forwards each node computes its value from its parents. Backwards each node hands its adjoint, times its slope, to its parents; where several arrive, they are added. Go a node a step, and guess each adjoint before you see it.",
  fields,
  guess: {
    question: "f(x, y) = sin(xy) + exp(xy) at (1, 2). Forward mode needs one pass for each input. How many passes back does the whole gradient need?",
    options: ["One", "Two, one for each input", "Six, one for each node"],
    about: { graph: "worked" },
    answer(result) {
      // one walk back visits each node once and leaves the adjoint of every input
      const isOne = result.graph.inputs.every((i) => Number.isFinite(result.adjoints[i]));
      return {
        index: isOne ? 0 : 1,
        sentence: `One walk back over ${result.walk.backward.length} nodes leaves an adjoint at every input: ${gradient(result)}.`,
      };
    },
  },
  plots: {},
  build,
  compute,
  draw() {},
  say: (result) => {
    const { at, total } = result.walk;
    return at === 0 || at === total ? `${sayStep(result)} ${result.graph.hint}` : sayStep(result);
  },
  table: (result) => {
    const { graph, values, adjoints, walk: walked } = result;
    return {
      caption: `The nodes of ${graph.label}`,
      head: ["node", "is", "value", "adjoint δ"],
      rows: graph.nodes.map((node, i) => [
        nameOf(graph, i),
        node.op === "input" ? "input" : titleOf(graph, i),
        walked.hasValue(i) ? shown(values[i]) : "",
        walked.hasAdjoint(i) ? show(adjoints[i], 5) : "",
      ]),
    };
  },
  tries: [
    { text: "Where two children give back: sin(xy) + exp(xy), the adjoint of v2", set: { graph: "worked", step: 7, guess: "skip" } },
    { text: "A value used three times", set: { graph: "fan_out", step: 4, guess: "skip" } },
    { text: "A network: all adjoints at once", set: { graph: "network", step: 99, guess: "skip" } },
    { text: "ELU written out at 800: where does “not a number” begin?", set: { graph: "elu_parts", inputs: [800, 1], step: 99, guess: "skip" } },
    { text: "ELU as one node at 800", set: { graph: "elu_node", inputs: [800, 1], step: 99, guess: "skip" } },
  ],
  notes: [
    "The graphs are those of autodiff.trace: the page evaluates them by its own table of operations and their slopes, in double precision. A guess counts as right within 1 % (within 0.01 below 1).",
  ],
};
