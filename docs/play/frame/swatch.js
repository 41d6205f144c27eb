// A short piece of a curve with its marker, for legends. Its colour follows light and dark by itself.

import { el } from "./dom.js";
import { corners, DASHES, MARKERS } from "./theme.js";

export function swatch(index) {
  const colour = `var(--c${index % 4})`;
  const marker = MARKERS[index % 4];
  const shape = marker === "o"
    ? el("svg:circle", { cx: 18, cy: 7, r: 4, fill: colour })
    : el("svg:polygon", { points: corners(marker, 4).map(([x, y]) => `${x + 18},${y + 7}`).join(" "), fill: colour });
  const dash = DASHES[index % 4].join(" ") || "none";
  return el(
    "svg:svg", { width: 36, height: 14, viewBox: "0 0 36 14", "aria-hidden": "true" },
    el("svg:line", { x1: 0, y1: 7, x2: 36, y2: 7, stroke: colour, "stroke-width": 2, "stroke-dasharray": dash }),
    shape,
  );
}
