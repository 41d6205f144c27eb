// One widget on the page: its state, its elements, and the round from a change to a picture.

import { controls } from "./controls.js";
import { el } from "./dom.js";
import { defaults, fromFragment, toFragment } from "./fields.js";
import { createGuess, guessField } from "./guess.js";
import { createPlot } from "./plot.js";
import { swatch } from "./swatch.js";
import { look, theme } from "./theme.js";

const SETTLED = 300; // milliseconds without a change, before it is spoken and written down

export function createRoom(widget, changed) {
  const fields = { ...widget.fields, guess: guessField(widget.guess) };
  const room = { widget, fields, state: defaults(fields), notes: [], result: null, frames: [], root: null };
  // what the question is about; it is asked of nothing else
  const asked = { ...defaults(widget.fields), ...widget.guess.about };
  const written = (state) => toFragment(widget.id, widget.fields, state);
  let view;
  let awaited = 0;
  let settling = 0;

  room.change = (wanted) => {
    const patch = widget.adapt?.(room.state, wanted) ?? wanted;
    // who moves something before guessing wants to see
    const guess = patch.guess ?? (room.state.guess === "none" ? "skip" : room.state.guess);
    room.state = { ...room.state, ...patch, guess };
    room.notes = [];
    room.redraw();
  };
  room.redraw = () => {
    if (awaited || !view) return;
    awaited = requestAnimationFrame(() => { awaited = 0; render(); });
    clearTimeout(settling);
    settling = setTimeout(settle, SETTLED);
  };
  room.read = (fragment) => {
    const found = fromFragment(fragment, fields, room.state);
    room.state = found.state;
    room.notes = found.notes;
    if (room.state.guess === "none" && written(room.state) !== written(asked)) room.state.guess = "skip";
  };
  room.fragment = () => toFragment(widget.id, fields, room.state);
  room.open = (parent) => {
    view ??= build();
    room.root = view.root;
    parent.replaceChildren(view.root);
    render();
    settle();
  };

  function build() {
    const give = (patch) => room.change(patch);
    const plots = Object.fromEntries(Object.entries(widget.plots).map(
      ([key, spec]) => [key, createPlot(spec, give)],
    ));
    const inputs = controls(widget.id, widget.fields, give);
    const answer = () => widget.guess.answer(
      written(room.state) === written(asked) ? room.result : widget.compute(asked),
    );
    // the pictures beside a question and its answer are those of what is asked
    const guess = createGuess(widget.id, widget.guess, answer, (value) => give(
      value === "skip" ? { guess: value } : { ...asked, guess: value },
    ));
    const says = el("p", { class: "says", role: "status", "aria-live": "polite" });
    const tries = el("ul", { class: "tries" }, widget.tries.map(({ text, set }) => el("li", {}, el("button", {
      type: "button", onclick: () => give({ ...defaults(widget.fields), ...set }),
    }, text))));
    // on a phone it scrolls sideways, which takes a focus for those who have no finger
    const numbers = widget.table ? { tabindex: 0, role: "region", "aria-label": "Numbers" } : {};
    const table = el("div", { class: "table", ...numbers });
    const legend = el("ul", { class: "legend" });
    const heading = `${widget.id}-title`;
    const extra = widget.build?.(give);
    const root = el(
      "section",
      { class: "room", id: `room-${widget.id}`, "aria-labelledby": heading },
      el("h2", { id: heading, tabindex: -1 }, widget.title),
      el("p", { class: "intro" }, widget.intro),
      guess.root,
      el(
        "div", { class: "bench" },
        el("div", { class: "pictures" }, legend, extra?.root, el(
          "div", { class: `plots ${widget.layout ?? ""}` }, Object.values(plots).map((p) => p.root),
        ), says, table),
        el("form", { class: "controls", "aria-label": "Settings", onsubmit: (e) => e.preventDefault() },
          inputs.nodes, el("button", {
            type: "button", class: "quiet", onclick: () => give({ ...defaults(widget.fields) }),
          }, "Start over")),
      ),
      el("h3", {}, "Try"),
      tries,
      widget.notes ? el("details", {}, el("summary", {}, "What is computed"), widget.notes.map((n) => el("p", {}, n))) : null,
    );
    new ResizeObserver(() => room.redraw()).observe(root);
    return { root, plots, inputs, extra, guess, says, table, legend };
  }

  function render() {
    const begun = performance.now();
    const { state } = room;
    const colours = theme();
    const revealed = state.guess !== "none";
    const result = widget.compute(state);
    room.result = result;
    widget.draw(view.plots, result, state, { colours, revealed, look: (i) => look(i, colours) });
    for (const [key, plot] of Object.entries(view.plots)) {
      plot.sync(state, revealed ? widget.plots[key].alt(result, state) : `${widget.plots[key].title}: guess first.`);
    }
    view.inputs.sync(state);
    view.guess.sync(state.guess);
    view.extra?.sync(state, result, { colours, revealed });
    const entries = widget.legend?.(result, state) ?? [];
    const named = JSON.stringify(entries);
    if (named !== view.named) {
      view.named = named;
      view.legend.replaceChildren(...entries.map(
        ({ index, text }) => el("li", {}, swatch(index), ` ${text}`),
      ));
    }
    room.frames.push(performance.now() - begun);
    if (room.frames.length > 1000) room.frames.shift();
    if (result.isPartial && view.root.isConnected) room.redraw();
  }

  function settle() {
    const { state, result } = room;
    const revealed = state.guess !== "none";
    const sentence = revealed ? widget.say(result, state) : `Guess first: ${widget.guess.question}`;
    const text = [...room.notes, sentence].join(" ");
    if (view.says.textContent !== text) view.says.textContent = text;
    view.table.replaceChildren(...(revealed && widget.table ? [table(widget.table(result, state))] : []));
    changed(room);
  }
  return room;
}

function table({ caption, head, rows }) {
  return el(
    "table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows.map(([first, ...rest]) => el(
      "tr", {}, el("th", { scope: "row" }, first), rest.map((text) => el("td", {}, text)),
    ))),
  );
}
