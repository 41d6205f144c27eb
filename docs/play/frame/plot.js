// Axes on a canvas: ticks, grid, lines with dashes and markers, a shaded field with its contours.

import { el, power, show } from "./dom.js";
import { traceMarker } from "./theme.js";

const FONT = "13px system-ui, sans-serif";
const LOG = {
  to: (x) => (x <= 0 ? -Infinity : Math.log10(x)), // what is no number has no place
  ticks(lo, hi, most) {
    const [a, b] = [Math.ceil(lo - 1e-9), Math.floor(hi + 1e-9)];
    const stride = Math.max(1, Math.ceil((b - a + 1) / most));
    const found = [];
    for (let k = Math.ceil(a / stride) * stride; k <= b; k += stride) found.push([k, power(k)]);
    return found;
  },
};
const LINEAR = {
  to: (x) => x,
  ticks(lo, hi, most) {
    const raw = (hi - lo) / most;
    const unit = 10 ** Math.floor(Math.log10(raw));
    const step = unit * [1, 2, 5, 10].find((m) => m * unit >= raw);
    const found = [];
    for (let k = Math.ceil(lo / step - 1e-9); k * step <= hi + 1e-9 * step; k += 1) {
      found.push([k * step, show(Number((k * step).toPrecision(10)), 6)]);
    }
    return found;
  },
};

/** A figure with a caption and a canvas; `begin` clears it and returns the axes to draw on. */
export function createPlot({ title, aspect = 0.75, drag, note }, give) {
  const canvas = el("canvas", { role: "img" });
  const frame = el("div", { class: "frame" }, canvas);
  const root = el(
    "figure", { class: "plot" }, el("figcaption", {}, title), frame, note ? el("p", { class: "note" }, note) : null,
  );
  const plot = { root, canvas, axes: null };
  const grip = drag ? addGrip(plot, frame, drag, give) : null;

  plot.begin = (options) => {
    const width = Math.max(frame.clientWidth, 200);
    const height = Math.round(width * aspect);
    const scale = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
      canvas.style.height = `${height}px`;
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = FONT;
    plot.axes = createAxes(pen, width, height, scale, options);
    return plot.axes;
  };
  plot.sync = (state, alt) => {
    canvas.setAttribute("aria-label", alt);
    grip?.(state);
  };
  return plot;
}

/** Let a point be dragged, or moved by arrow keys: a hundredth of the view, a tenth with Shift. */
function addGrip(plot, frame, drag, give) {
  let point = [0, 0];
  const knob = el("div", {
    class: "grip", tabindex: 0, role: "slider", "aria-label": `${drag.label}: arrow keys move it`,
    onkeydown(event) {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
      if (!move[event.key]) return;
      event.preventDefault();
      // kept at once, or keys that come faster than pictures would be lost
      point = plot.axes.moved(point, move[event.key], event.shiftKey ? 10 : 100);
      give(drag.set(point));
    },
  });
  const follow = (event) => {
    const box = plot.canvas.getBoundingClientRect();
    give(drag.set(plot.axes.toRound(event.clientX - box.left, event.clientY - box.top)));
  };
  const begin = (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    knob.focus({ preventScroll: true });
    knob.setPointerCapture(event.pointerId);
    if (event.currentTarget !== knob) follow(event);
  };
  knob.addEventListener("pointerdown", begin);
  // a finger beside the knob scrolls the page; a mouse puts the point where it clicks
  plot.canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") begin(event);
  });
  knob.addEventListener("pointermove", (event) => {
    if (knob.hasPointerCapture(event.pointerId)) follow(event);
  });
  frame.append(knob);
  return (state) => {
    point = drag.get(state);
    const [left, top] = plot.axes.place(...point);
    knob.style.left = `${left}px`;
    knob.style.top = `${top}px`;
    const [lo, hi] = plot.axes.x;
    knob.setAttribute("aria-valuemin", lo);
    knob.setAttribute("aria-valuemax", hi);
    knob.setAttribute("aria-valuenow", Math.min(Math.max(point[0], lo), hi));
    knob.setAttribute("aria-valuetext", drag.say(point));
  };
}

function createAxes(pen, width, height, scale, options) {
  const { x, y, xLabel, yLabel, xLog = false, yLog = false, colours, grid = true } = options;
  const [X, Y] = [xLog ? LOG : LINEAR, yLog ? LOG : LINEAR];
  const [x0, x1, y0, y1] = [...x.map(X.to), ...y.map(Y.to)];
  const yTicks = Y.ticks(y0, y1, Math.max(3, height / 55));
  const left = 34 + Math.max(...yTicks.map(([, text]) => pen.measureText(text).width), 8);
  const box = { left, top: 8, right: width - 20, bottom: height - 44 };
  const px = (v) => box.left + ((X.to(v) - x0) / (x1 - x0)) * (box.right - box.left);
  const py = (v) => box.bottom - ((Y.to(v) - y0) / (y1 - y0)) * (box.bottom - box.top);
  const axes = { pen, box, x, y, px, py, colours, scale };

  axes.toData = (left_, top_) => {
    const u = x0 + ((left_ - box.left) / (box.right - box.left)) * (x1 - x0);
    const v = y0 + ((box.bottom - top_) / (box.bottom - box.top)) * (y1 - y0);
    return [xLog ? 10 ** u : u, yLog ? 10 ** v : v];
  };
  /** The same with the digits that a hand can choose. */
  axes.toRound = (left_, top_) => {
    const round = (v, [lo, hi], isLog) => Number(isLog ? v.toPrecision(3) : v.toFixed(
      Math.max(0, Math.ceil(-Math.log10((hi - lo) / 1000))),
    ));
    const [a, b] = axes.toData(left_, top_);
    return [round(a, x, xLog), round(b, y, yLog)];
  };
  /** A point moved by parts of the view; one beyond the edge is first taken to it. */
  axes.moved = (point, move, parts) => [[X, x0, x1, xLog], [Y, y0, y1, yLog]].map(
    ([scaling, lo, hi, isLog], i) => {
      if (!move[i]) return point[i];
      const at = Math.min(Math.max(scaling.to(point[i]), lo), hi) + (move[i] * (hi - lo)) / parts;
      // rounded, or ten steps there and back would not end where they began
      return Number((isLog ? 10 ** at : at).toPrecision(12));
    },
  );
  /** Where a point is drawn, at the edge if it lies beyond it. */
  axes.place = (a, b) => [
    Math.min(Math.max(px(a), box.left), box.right), Math.min(Math.max(py(b), box.top), box.bottom),
  ];
  axes.inside = (draw) => {
    pen.save();
    pen.beginPath();
    pen.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    pen.clip();
    draw(pen);
    pen.restore();
  };
  axes.line = (points, { colour, dash = [], thick = 2, halo = false }) => axes.inside(() => {
    const strokes = halo ? [[colours.paper, thick + 2.5, []], [colour, thick, dash]] : [[colour, thick, dash]];
    for (const [stroke, lineWidth, pattern] of strokes) {
      pen.strokeStyle = stroke;
      pen.lineWidth = lineWidth;
      pen.lineJoin = "round";
      pen.setLineDash(pattern);
      pen.beginPath();
      let down = false;
      for (const [a, b] of points) {
        // a canvas loses lines whose ends are too far away
        const at = [clip(px(a)), clip(py(b))];
        if (!at.every(Number.isFinite)) { down = false; continue; }
        if (down) pen.lineTo(...at); else pen.moveTo(...at);
        down = true;
      }
      pen.stroke();
    }
    pen.setLineDash([]);
  });
  /** A marker; beyond the view it is not seen, or `held` at the edge, over which it hangs. */
  axes.mark = ([a, b], { colour, marker = "o" }, { size = 4, hollow = false, held = false } = {}) => {
    const at = held ? axes.place(a, b) : [px(a), py(b)];
    if (!at.every(Number.isFinite)) return;
    (held ? (paint) => paint() : axes.inside)(() => {
      traceMarker(pen, marker, ...at, size);
      pen.lineWidth = 1.5;
      pen.fillStyle = hollow ? colours.paper : colour;
      pen.strokeStyle = hollow ? colour : colours.paper;
      pen.fill();
      pen.stroke();
    });
  };
  axes.text = (text, left_, top_, { colour = colours.ink, align = "left", halo = true } = {}) => {
    pen.textAlign = align;
    pen.textBaseline = "middle";
    if (halo) {
      pen.strokeStyle = colours.paper;
      pen.lineWidth = 4;
      pen.lineJoin = "round";
      pen.strokeText(text, left_, top_);
    }
    pen.fillStyle = colour;
    pen.fillText(text, left_, top_);
  };
  /** Say something in the middle of an empty plot. */
  axes.veil = (text) => axes.text(
    text, (box.left + box.right) / 2, (box.top + box.bottom) / 2,
    { align: "center", colour: colours.muted },
  );

  pen.lineWidth = 1;
  for (const [tick, text] of X.ticks(x0, x1, Math.max(3, width / 75))) {
    const at = box.left + ((tick - x0) / (x1 - x0)) * (box.right - box.left);
    if (grid) rule(pen, colours.line, at, box.top, at, box.bottom);
    axes.text(text, at, box.bottom + 14, { align: "center", colour: colours.muted, halo: false });
  }
  for (const [tick, text] of yTicks) {
    const at = box.bottom - ((tick - y0) / (y1 - y0)) * (box.bottom - box.top);
    if (grid) rule(pen, colours.line, box.left, at, box.right, at);
    axes.text(text, box.left - 7, at, { align: "right", colour: colours.muted, halo: false });
  }
  axes.text(xLabel, (box.left + box.right) / 2, height - 10, { align: "center", halo: false });
  pen.save();
  pen.translate(11, (box.top + box.bottom) / 2);
  pen.rotate(-Math.PI / 2);
  axes.text(yLabel, 0, 0, { align: "center", halo: false });
  pen.restore();
  return axes;
}

const clip = (v) => Math.min(Math.max(v, -1e5), 1e5);

function rule(pen, colour, ...ends) {
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.moveTo(ends[0], ends[1]);
  pen.lineTo(ends[2], ends[3]);
  pen.stroke();
}
