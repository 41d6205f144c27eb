// Colours, dashes and markers: those of jaxopt_tut/plotting, on light and on dark paper.

export const DASHES = [[], [7, 4], [8, 3, 2, 3], [2, 3]];
export const MARKERS = ["o", "s", "^", "D"];

const NAMES = ["paper", "sheet", "ink", "muted", "line", "accent", "low", "high", "c0", "c1", "c2", "c3"];

const known = new Map();

/** Read the style sheet's colours as they are now: once for light, once for dark. */
export function theme() {
  const { matches } = matchMedia("(prefers-color-scheme: dark)");
  if (!known.has(matches)) known.set(matches, read());
  return known.get(matches);
}

function read() {
  const style = getComputedStyle(document.documentElement);
  const colours = Object.fromEntries(
    NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]),
  );
  return { ...colours, series: [colours.c0, colours.c1, colours.c2, colours.c3] };
}

/** The look of the curve with this index: all three change, so that grey print shows it, too. */
export function look(index, colours) {
  const i = index % 4;
  return { colour: colours.series[i], dash: DASHES[i], marker: MARKERS[i] };
}

/** A path of a marker's outline around (x, y), for a canvas. */
export function traceMarker(pen, marker, x, y, r) {
  pen.beginPath();
  if (marker === "o") pen.arc(x, y, r, 0, 2 * Math.PI);
  else corners(marker, r).forEach(([dx, dy], i) => (
    i ? pen.lineTo(x + dx, y + dy) : pen.moveTo(x + dx, y + dy)));
  pen.closePath();
}

/** The corners of a marker that is no circle. */
export function corners(marker, r) {
  if (marker === "s") return [[-r, -r], [r, -r], [r, r], [-r, r]];
  if (marker === "^") return [[0, -1.2 * r], [1.1 * r, 0.9 * r], [-1.1 * r, 0.9 * r]];
  return [[0, -1.35 * r], [1.35 * r, 0], [0, 1.35 * r], [-1.35 * r, 0]];
}
