// What is refused, each in a sentence: who, the rule, the value.

function written(value) {
  if (Array.isArray(value)) return `[${value.map(written).join(", ")}]`;
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** Options are an object, and hold nothing that goes unheeded. */
export function requireOptions(who, options, names) {
  if (typeof options !== "object" || options === null || Array.isArray(options)) {
    throw new RangeError(`${who} needs an object of options, got ${written(options)}.`);
  }
  const stranger = Object.keys(options).find((name) => !names.includes(name));
  if (stranger === undefined) return;
  throw new RangeError(`${who} needs no options but ${names.join(", ")}, got ${stranger}.`);
}

export function requireKey(who, name, value, table) {
  if (typeof value === "string" && Object.hasOwn(table, value)) return;
  const keys = Object.keys(table).join(", ");
  throw new RangeError(`${who} needs as ${name} one of ${keys}, got ${name}=${written(value)}.`);
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A finite number from `low` to `high`, or below `end`. */
export function requireNumber(who, name, value, { low = -Infinity, high = Infinity, end = Infinity, whole = false } = {}) {
  const isRight = whole ? Number.isInteger(value) : isNumber(value);
  if (isRight && value >= low && value <= high && value < end) return;
  const from = low === -Infinity ? "" : `${low} <= `;
  const to = end < Infinity ? ` < ${end}` : high < Infinity ? ` <= ${high}` : "";
  const kind = whole ? "whole" : "finite";
  throw new RangeError(`${who} needs a ${kind} number ${from}${name}${to}, got ${name}=${written(value)}.`);
}

export function requireNumbers(who, name, value, count) {
  if (Array.isArray(value) && value.length === count && value.every(isNumber)) return;
  throw new RangeError(`${who} needs as ${name} a list of ${count} finite numbers, got ${name}=${written(value)}.`);
}
