"""Logarithmic axes that are read at a glance: `0.5`, not `5 × 10⁻¹`, and a handful of labels."""

import math

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    Formatter,
    LogFormatterSciNotation,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

_FEW = 50
"""Below this ratio of its ends an axis shows one or two powers of ten: too few to read it by."""


class Ticks(LogLocator):
    """Powers of ten on an axis of several, one, two and five on a short one, else round steps."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Return where labels stand between two ends, and beyond."""
        low, high = sorted((vmin, vmax))
        if low <= 0 or not math.isfinite(high) or high > _FEW * low:
            return [float(tick) for tick in super().tick_values(vmin, vmax)]
        powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for digits in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
            ticks = [digit * 10.0**power for power in powers for digit in digits]
            if sum(low <= tick <= high for tick in ticks) >= 3:
                return ticks
        steps = MaxNLocator(4, steps=[1, 2, 5, 10])
        return [tick for tick in map(float, steps.tick_values(low, high)) if tick > 0]


class Labels(Formatter):
    """Plain numbers on an axis between a thousandth and ten thousand, powers of ten on others."""

    def __init__(self) -> None:
        """Keep matplotlib's own formatter for powers of ten."""
        self._powers = LogFormatterSciNotation()

    def set_axis(self, axis: Axis) -> None:  # type: ignore[override]
        """Follow an axis, as matplotlib asks."""
        super().set_axis(axis)
        self._powers.set_axis(axis)

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the label of a tick."""
        low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
        is_plain = low >= 9e-4 and high <= 1.1e4
        return f"{x:.6g}" if is_plain else self._powers(x, pos)


def label_logs(figure: Figure) -> None:
    """Label the logarithmic axes of a figure that nobody has labelled otherwise."""
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            is_default = type(axis.get_major_formatter()) is LogFormatterSciNotation
            if axis.get_scale() == "log" and is_default:
                if type(axis.get_major_locator()) is LogLocator:
                    axis.set_major_locator(Ticks())
                axis.set_major_formatter(Labels())
                if type(axis.get_minor_formatter()) is LogFormatterSciNotation:
                    axis.set_minor_formatter(NullFormatter())
