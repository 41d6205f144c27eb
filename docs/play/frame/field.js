// A function of two numbers as shading with contours. Drawn once and kept: drags redraw the rest.

const kept = new Map();
const MOST = 12;
const CELLS = 96;

/**
 * Shade `f(x, y)` over the axes, by rank, so that a plain and a well both show.
 * `key` names the function: the picture is kept under it, its size and its colours.
 * `levels` are the values of contours; without them eleven lines lie between equal shares.
 * `share(value)` in [0, 1] is how far from the low colour to the high one; without it the rank;
 * where it is not a number nothing is drawn.
 */
export function drawField(axes, key, f, { levels, share } = {}) {
  const { box, pen, scale, colours } = axes;
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  const name = [key, width, height, scale, colours.low, colours.high].join("|");
  if (!kept.has(name)) {
    if (kept.size >= MOST) kept.delete(kept.keys().next().value);
    kept.set(name, paint(axes, f, width, height, levels, share));
  }
  pen.drawImage(kept.get(name), box.left, box.top, width, height);
}

function paint(axes, f, width, height, wanted, shareOf) {
  const { colours, scale, box } = axes;
  const cells = Array.from({ length: CELLS + 1 }, (_, j) => Array.from({ length: CELLS + 1 }, (_, i) => (
    f(...axes.toData(box.left + (i / CELLS) * width, box.top + (j / CELLS) * height)))));
  const flat = cells.flat();
  const sorted = Float64Array.from(flat.filter(Number.isFinite)).sort();
  const toShare = shareOf ?? ((value) => rank(sorted, value));
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const levels = wanted ?? Array.from({ length: 11 }, (_, k) => at((k + 1) / 12));

  const small = new OffscreenCanvas(CELLS + 1, CELLS + 1);
  const ink = small.getContext("2d");
  const image = ink.createImageData(CELLS + 1, CELLS + 1);
  const [low, high] = [rgb(colours.low), rgb(colours.high)];
  flat.forEach((value, i) => {
    const share = Number.isFinite(value) ? toShare(value) : 1;
    for (let c = 0; c < 3; c += 1) image.data[4 * i + c] = low[c] + share * (high[c] - low[c]);
    image.data[4 * i + 3] = Number.isNaN(share) ? 0 : 255;
  });
  ink.putImageData(image, 0, 0);

  const big = new OffscreenCanvas(Math.round(width * scale), Math.round(height * scale));
  const pen = big.getContext("2d");
  pen.imageSmoothingQuality = "high";
  // cells are points: half a cell of the small picture hangs over each edge
  pen.drawImage(small, 0.5, 0.5, CELLS, CELLS, 0, 0, big.width, big.height);
  pen.lineWidth = scale;
  pen.globalAlpha = 0.35;
  pen.strokeStyle = colours.muted;
  const [stepX, stepY] = [big.width / CELLS, big.height / CELLS];
  for (const level of levels) {
    pen.beginPath();
    segments(cells, level, (x0, y0, x1, y1) => {
      pen.moveTo(x0 * stepX, y0 * stepY);
      pen.lineTo(x1 * stepX, y1 * stepY);
    });
    pen.stroke();
  }
  return big;
}

/** Marching squares: give each piece of the line on which the cells have a value. */
export function segments(cells, level, give) {
  for (let j = 0; j + 1 < cells.length; j += 1) {
    const [upper, lower] = [cells[j], cells[j + 1]];
    for (let i = 0; i + 1 < upper.length; i += 1) {
      const below = (upper[i] < level) + (upper[i + 1] < level) + (lower[i] < level) + (lower[i + 1] < level);
      if (below % 4 === 0) continue; // most cells: nothing crosses them
      const around = [upper[i], upper[i + 1], lower[i + 1], lower[i]];
      const places = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
      const cuts = [];
      for (let k = 0; k < 4; k += 1) {
        const [a, b] = [around[k], around[(k + 1) % 4]];
        if ((a < level) === (b < level) || !Number.isFinite(a + b)) continue;
        const t = (level - a) / (b - a);
        const [p, q] = [places[k], places[(k + 1) % 4]];
        cuts.push([p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])]);
      }
      for (let k = 0; k + 1 < cuts.length; k += 2) give(...cuts[k], ...cuts[k + 1]);
    }
  }
}

function rank(sorted, value) {
  let [lo, hi] = [0, sorted.length];
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (sorted[mid] < value) lo = mid + 1; else hi = mid;
  }
  return lo / sorted.length;
}

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}
