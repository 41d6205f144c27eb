// Native, labelled inputs for the fields of a state.

import { el, showByOne } from "./dom.js";
import { swatch } from "./swatch.js";

/** Build the control of a field; its `sync(value)` shows a value that came from elsewhere. */
export function control(id, field, change) {
  if (field.kind === "choice") return select(id, field, change);
  return numberInputs(id, field, change);
}

function select(id, field, change) {
  const input = el(
    "select",
    { id, onchange: () => change(input.value) },
    field.options.map(([value, text]) => el("option", { value }, text)),
  );
  const root = el("div", { class: "control" }, el("label", { for: id }, field.label), input);
  return { root, sync: (value) => { input.value = value; } };
}

function numberInputs(id, field, change) {
  const { label, unit, min, max, step, log = false } = field;
  const toSlider = (x) => (log ? Math.log10(Math.max(x, min)) : x);
  // two digits where the scale is logarithmic: what the slider says is what is used
  const fromSlider = (t) => (log ? Number((10 ** t).toPrecision(2)) : t);
  const slider = el("input", {
    id,
    type: "range",
    min: toSlider(min),
    max: toSlider(max),
    step: log ? 0.01 : step,
    oninput: () => change(fromSlider(Number(slider.value))),
  });
  const exact = el("input", {
    type: "number",
    step: "any",
    "aria-label": `${label}, exact${unit ? `, in ${unit}` : ""}`,
    oninput() {
      const { value, note } = field.clean(exact.value);
      exact.toggleAttribute("aria-invalid", Boolean(note));
      if (!note) change(value);
    },
    onchange() { exact.value = latest; exact.removeAttribute("aria-invalid"); },
  });
  let latest = field.value;
  const root = el(
    "div",
    { class: "control" },
    el("label", { for: id }, label, unit ? el("span", { class: "unit" }, ` ${unit}`) : null),
    el("div", { class: "pair" }, slider, exact),
  );
  return {
    root,
    sync(value) {
      latest = value;
      slider.value = toSlider(value);
      slider.setAttribute("aria-valuetext", `${showByOne(value)}${unit ? ` ${unit}` : ""}`);
      if (document.activeElement !== exact || Number(exact.value) !== value) exact.value = value;
    },
  };
}

/** Build all controls of some fields, those whose `shown(state)` is false being left out. */
export function controls(prefix, fields, change) {
  const made = Object.entries(fields)
    .filter(([, field]) => !field.hidden)
    .map(([key, field]) => {
      const id = `${prefix}-${key}`;
      const give = (value) => change({ [key]: value });
      const part = field.kind === "list" ? items(id, field, give) : control(id, field, give);
      return { key, field, ...part };
    });
  return {
    nodes: made.map(({ root }) => root),
    sync(state) {
      for (const { key, field, root, sync } of made) {
        root.hidden = Boolean(field.shown && !field.shown(state));
        sync(state[key]);
      }
    },
  };
}

/** A list: one fieldset an item, with a legend line in the item's look, and buttons. */
function items(id, field, give) {
  let current = [];
  const change = (value) => {
    current = value; // at once: another may come before the next picture
    give(value);
  };
  let rows = [];
  const holder = el("div", { class: "items" });
  const add = el("button", {
    type: "button",
    onclick() {
      change([...current, field.next(current)]);
      // the new row is there after the next picture
      requestAnimationFrame(() => rows.at(-1).root.querySelector("select, input").focus());
    },
  }, `Add a ${field.noun}`);
  const root = el("div", {}, holder, add);

  function row(i) {
    const part = controls(`${id}-${i}`, field.item, (patch) => {
      change(current.map((item, j) => (j === i ? { ...item, ...patch } : item)));
    });
    const remove = el("button", {
      type: "button",
      class: "quiet",
      "aria-label": `Remove ${field.noun} ${i + 1}`,
      onclick() {
        change(current.filter((_, j) => j !== i));
        requestAnimationFrame(() => add.focus());
      },
    }, "Remove");
    const set = el("fieldset", {}, el(
      "legend", {}, swatch(i), ` ${field.noun[0].toUpperCase()}${field.noun.slice(1)} ${i + 1}`,
    ), part.nodes, remove);
    return { root: set, remove, sync: part.sync };
  }

  return {
    root,
    sync(value) {
      current = value;
      if (rows.length !== value.length) {
        rows = value.map((_, i) => rows[i] ?? row(i));
        holder.replaceChildren(...rows.map((r) => r.root));
      }
      rows.forEach((r, i) => {
        r.sync(value[i]);
        r.remove.hidden = value.length === 1;
      });
      add.hidden = value.length >= field.most;
    },
  };
}
