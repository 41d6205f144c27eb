// Elements in one expression, and numbers as people write them.

/** Build an element: attributes, listeners under `on…`, then children (texts or elements). */
export function el(tag, attributes = {}, ...children) {
  const [name, space] = tag.startsWith("svg:")
    ? [tag.slice(4), "http://www.w3.org/2000/svg"] : [tag, "http://www.w3.org/1999/xhtml"];
  const node = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return node;
}

const SUPERSCRIPTS = { "-": "⁻", ...Object.fromEntries([..."⁰¹²³⁴⁵⁶⁷⁸⁹"].map((c, i) => [i, c])) };

/** Write a power of ten. */
export function power(exponent) {
  return `10${[...String(exponent)].map((c) => SUPERSCRIPTS[c]).join("")}`;
}

/** Write what may be near 1: with two digits of its distance from there. */
export function showByOne(x, digits = 3) {
  const count = Math.ceil(-Math.log10(Math.abs(1 - x))) + 1;
  return show(x, Math.min(Math.max(count, digits), 12));
}

/** Write a number with some significant digits, a proper minus and powers of ten. */
export function show(x, digits = 3) {
  if (Number.isNaN(x)) return "not a number";
  if (!Number.isFinite(x)) return x > 0 ? "infinite" : "minus infinite";
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) {
    const [mantissa, exponent] = x.toExponential(digits - 1).split("e");
    const short = String(Number(mantissa)).replace("-", "−");
    const tens = power(Number(exponent));
    return short === "1" ? tens : short === "−1" ? `−${tens}` : `${short}\u00a0×\u00a0${tens}`;
  }
  return String(Number(x.toPrecision(digits))).replace("-", "−");
}
