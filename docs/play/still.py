"""Draw the page's figure for browsers without JavaScript: `python -m docs.play.still`.

Writes `docs/play/still.svg`, which is committed: building the page computes nothing.
"""

from collections.abc import Iterable
from pathlib import Path

import contourpy
import jax
import numpy as np

from jaxopt_tut.landscape import descend, surfaces
from jaxopt_tut.optimizers import adam, momentum, sgd
from jaxopt_tut.plotting.style import COLORS

OUT = Path(__file__).with_name("still.svg")
WIDTH, HEIGHT = 640, 520
DASHES = ("none", "7 4", "8 3 2 3")
OPTIMIZERS = {
    "SGD, rate 10": sgd(10.0),
    "momentum, rate 10": momentum(10.0, decay=0.9),
    "Adam, rate 1": adam(1.0),
}
DESCRIPTION = (
    "Contours of the ravine with three paths of 100 steps from (5, 5): SGD keeps jumping across "
    "the ravine, momentum and Adam follow it down."
)


def draw() -> str:
    """Return the figure as an SVG without anything that depends on the machine's fonts or date."""
    surface = surfaces.ravine
    lower, upper = surface.domain
    place = lambda points: [
        (round(float(x), 1), round(float(y), 1))
        for x, y in (np.asarray(points) - lower) / (upper - lower) * (WIDTH, -HEIGHT) + (0, HEIGHT)
    ]
    x, y = (np.linspace(lo, hi, 81) for lo, hi in zip(lower, upper, strict=True))
    grid = np.stack(np.meshgrid(x, y), -1)
    values = np.asarray(jax.vmap(jax.vmap(surface.fun))(grid.astype(np.float32)))
    contours = contourpy.contour_generator(x, y, values)
    parts = [
        _line(place(line), 'stroke="currentColor" stroke-opacity=".3"')
        for level in np.quantile(values, np.arange(1, 9) / 9)
        for line in contours.lines(level)
    ]
    for i, (name, optimizer) in enumerate(OPTIMIZERS.items()):
        points = descend(surface.fun, surface.start, optimizer, 100).points
        look = (
            f'stroke="var(--c{i}, {COLORS[i]})" stroke-width="2.5" stroke-dasharray="{DASHES[i]}"'
        )
        parts.append(_line(place(points), look))
        parts.append(_line([(20, 24 + 22 * i), (60, 24 + 22 * i)], look))
        parts.append(f'<text x="70" y="{29 + 22 * i}" fill="currentColor">{name}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'aria-labelledby="still-title still-desc" font-family="sans-serif" font-size="15">\n'
        '<title id="still-title">Three optimizers on the ravine</title>\n'
        f'<desc id="still-desc">{DESCRIPTION}</desc>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _line(points: Iterable[tuple[float, float]], look: str) -> str:
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline fill="none" {look} points="{path}"/>'


if __name__ == "__main__":
    OUT.write_text(draw(), encoding="utf-8")
