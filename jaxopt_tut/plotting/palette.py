"""The colours of curves, on white paper and on a dark page."""

from matplotlib.colors import to_rgb

COLORS = ("#0A4C86", "#A84000", "#00A264", "#CF74A8", "#AE8D00", "#2A8CD8", "#000000")
"""After Okabe and Ito (2008), "Color universal design", whose orange and sky blue are too light on
white: these have a contrast of 3.1 or more there, and lie as far apart as theirs with every
common colour vision (14 in Lab or more, simulated after Machado, Oliveira, Fernandes, 2009)."""

COLORS_ON_DARK = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#E6E6E6")
"""Okabe's and Ito's own, and light grey for black: a contrast of 3.4 or more on `DARK_PAGE`."""

DARK_PAGE = "#14181e"
LIGHT_INK = COLORS_ON_DARK[-1]


def contrast(first: str, second: str) -> float:
    """Return the ratio of two colours' brightness, from 1 to 21, as WCAG defines it."""
    low, high = sorted(_brightness(color) for color in (first, second))
    return (high + 0.05) / (low + 0.05)


def _brightness(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
