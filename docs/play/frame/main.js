// The page: one widget at a time, named by the text behind the # of the address.

import { backpropagation } from "../widgets/backpropagation.js";
import { descent } from "../widgets/descent.js";
import { hypergradient } from "../widgets/hypergradient.js";
import { initialization } from "../widgets/initialization.js";
import { momentum } from "../widgets/momentum.js";
import { backpropagate, evaluate } from "../numerics/backpropagation.js";
import { requireKey, requireNumbers, requireOptions } from "../numerics/checks.js";
import { GRAPHS } from "../numerics/graphs.js";
import { hypergradient as differentiate } from "../numerics/hypergradient.js";
import { THRESHOLDS, variances } from "../numerics/initialization.js";
import { path, updates } from "../numerics/paths.js";
import { el } from "./dom.js";
import { createRoom } from "./room.js";

const WIDGETS = [descent, momentum, initialization, backpropagation, hypergradient];

const main = document.querySelector("main");
const nav = document.querySelector("nav ul");
const rooms = new Map(WIDGETS.map((widget) => [widget.id, createRoom(widget, writeDown)]));
const links = new Map(WIDGETS.map(({ id, title }) => [id, el("a", { href: `#${id}` }, title)]));
nav.replaceChildren(...[...links.values()].map((link) => el("li", {}, link)));
let open = null;

function writeDown(room) {
  if (room !== open || location.hash === `#${room.fragment()}`) return;
  try { history.replaceState(null, "", `#${room.fragment()}`); } catch { /* too often for this browser */ }
}

function go() {
  const fragment = location.hash.slice(1);
  const id = fragment.split("&")[0];
  const room = rooms.get(id) ?? rooms.get(WIDGETS[0].id);
  if (rooms.has(id)) room.read(fragment);
  else if (id) room.notes = [`The address names “${id.slice(0, 24)}”, which is nothing here.`];
  const arrived = open !== null && open !== room;
  open = room;
  for (const [name, link] of links) {
    if (name === room.widget.id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${room.widget.title} · jaxopt_tut`;
  room.open(main);
  if (arrived) main.querySelector("h2").focus();
}

window.play = {
  path,
  updates,
  variances,
  thresholds: THRESHOLDS,
  /** Values and adjoints of every node of an exported graph. */
  adjoints(options) {
    requireOptions("adjoints", options, ["graph", "inputs"]);
    requireKey("adjoints", "graph", options.graph, GRAPHS);
    const graph = GRAPHS[options.graph];
    const { inputs = graph.start } = options;
    requireNumbers("adjoints", "inputs", inputs, graph.inputs.length);
    const values = evaluate(graph, inputs);
    return { values, inputs: graph.inputs, ...backpropagate(graph, values) };
  },
  hypergradient: differentiate,
  /** The state, the result and the drawing times of the widget on view. */
  now: () => ({ id: open.widget.id, state: open.state, result: open.result, frames: open.frames }),
  /** Change the state of the widget on view, as its controls do. */
  change: (patch) => open.change(patch),
};

window.addEventListener("hashchange", go);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => open.redraw());
go();
performance.mark("first-picture");
