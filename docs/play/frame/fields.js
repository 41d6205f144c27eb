// What a widget's state holds: how each part is read from a text, checked, and written back.
// A field's `clean` returns { value, note }; the note says what was wrong and what is used instead.

/** A number; `min` and `max` bound its slider, `lowest` and `highest` the number itself. */
export function number(spec) {
  const { label, value, lowest = -Infinity, highest = Infinity, integer = false } = spec;
  return {
    ...spec,
    kind: "number",
    write: (x) => (Object.is(x, -0) ? "-0" : String(x)),
    clean(text) {
      const read = String(text).trim() === "" ? NaN : Number(text);
      if (!Number.isFinite(read)) return instead(label, text, "is no finite number", value);
      if (integer && !Number.isInteger(read)) {
        const whole = Math.min(Math.max(Math.round(read), lowest), highest);
        return instead(label, text, "is not whole", whole);
      }
      if (read < lowest) return instead(label, text, `is below ${lowest}`, lowest);
      if (read > highest) return instead(label, text, `is above ${highest}`, highest);
      return { value: read };
    },
  };
}

/** One of `options`, pairs of a value and what it is called. */
export function choice(spec) {
  return {
    ...spec,
    kind: "choice",
    write: (x) => encodeURIComponent(x),
    clean(text) {
      let name = String(text);
      try { name = decodeURIComponent(name); } catch { /* a stray percent sign: no option has one */ }
      if (spec.options.some(([option]) => option === name)) return { value: name };
      return instead(spec.label, name, "is not known", spec.value);
    },
  };
}

/** A list of one to `most` items, each an object with the fields of `item`. */
export function list(spec) {
  const keys = Object.keys(spec.item);
  return {
    ...spec,
    kind: "list",
    write: (items) => items.map(
      (item) => keys.map((key) => spec.item[key].write(item[key])).join(","),
    ).join(";"),
    clean(text) {
      const notes = [];
      const items = String(text).split(";").slice(0, spec.most).map((part) => {
        const texts = part.split(",");
        return Object.fromEntries(keys.map((key, i) => {
          const field = spec.item[key];
          if (texts[i] === undefined) return [key, field.value];
          const { value, note } = field.clean(texts[i]);
          if (note) notes.push(note);
          return [key, value];
        }));
      });
      return { value: items, note: notes.join(" ") };
    },
  };
}

function instead(label, text, fault, value) {
  const shown = String(text).slice(0, 24);
  return { value, note: `${label}: “${shown}” ${fault}; ${value} is used.` };
}

/** The values a widget starts with. */
export function defaults(fields) {
  return Object.fromEntries(Object.entries(fields).map(([key, { value }]) => [key, value]));
}

/** Write a state as the text behind the # of an address. */
export function toFragment(id, fields, state) {
  const parts = Object.entries(fields).map(([key, field]) => `${key}=${field.write(state[key])}`);
  return [id, ...parts].join("&");
}

/** Read such a text. Fields it does not name keep the values of `state`. */
export function fromFragment(text, fields, state) {
  const found = { ...state };
  const notes = [];
  for (const part of text.split("&").slice(1)) {
    const cut = part.indexOf("=");
    const key = cut < 0 ? part : part.slice(0, cut);
    if (!Object.hasOwn(fields, key)) {
      notes.push(`The address has “${part.slice(0, 24)}”, which is nothing here.`);
      continue;
    }
    const { value, note } = fields[key].clean(part.slice(cut + 1));
    found[key] = value;
    if (note) notes.push(note);
  }
  return { state: found, notes };
}
