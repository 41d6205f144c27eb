"""What a calibration did: each layer before and after, and what was left alone."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import has_numbers, in_a_line, numbers, shown

How = TypeAliasType("How", Literal["theory", "measured", "learned"])
"""Whether a scale was predicted, set by looking at the data, or found by descent."""


@shown
class LayerCalibration(NamedTuple):
    """One layer; numbers inside scans have one entry a step.

    Attributes:
      before: Variance of the pre-activations with the parameters that were handed in.
      predicted: What theory expects with those that are returned; NaN where it has no say.
      after: What was measured with those that are returned.
      error: Standard error of `after` as an estimate for all data of which the batch is a sample,
        widened for few examples and long tails: on fresh examples the variance lies within four
        of them where `converged` is true. Infinite for three examples or fewer.
    """

    before: Float[Array, "*step"]
    predicted: Float[Array, "*step"]
    after: Float[Array, "*step"]
    error: Float[Array, "*step"]


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class CalibrationReport:
    """What a calibration did; `str` makes a table of it.

    Attributes:
      layers: By name, in the order of the program.
      objective: What was minimised, a number a step; empty where nothing is.
      converged: Whether nothing is unmet. `auto_init` and `lsuv`: every layer that was drawn was
        measured with the parameters returned; its variance is within the tolerance of the target
        (theory: a factor of two; a weight with several uses: in the geometric mean over them), and
        its error is below half of it. `metainit` and `gradinit`: what was minimised and its
        gradient were finite at every step and not zero, and GradInit's constraint is kept; not
        that a longer search would find nothing better.
      how: For each layer how its scale was set; static.
      left: For each layer that was left alone the reason; static.
      unmet: For each layer, leaf or number that keeps `converged` from being true the reason;
        static.
    """

    layers: dict[str, LayerCalibration]
    objective: Float[Array, " step"]
    converged: bool = field(metadata={"static": True})
    how: tuple[tuple[str, How], ...] = field(metadata={"static": True})
    left: tuple[tuple[str, str], ...] = field(metadata={"static": True})
    unmet: tuple[tuple[str, str], ...] = field(default=(), metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return whether all is met, the table and what is not."""
        title = "CalibrationReport: " + ("converged" if self.converged else "not converged")
        rows = [("layers", _cut(self._table()))] if self.layers else []
        if not has_numbers(self.objective) or np.size(self.objective):
            rows.append(("objective", in_a_line(self.objective)))
        return title, [*rows, *((f"unmet {name}", why) for name, why in self.unmet[:6])]

    def __str__(self) -> str:
        """Write one row a layer, the variances and how it was set, and below what is unmet."""
        return "\n".join(
            [*self._table(), *(f"not converged: {name}: {why}" for name, why in self.unmet)]
        )

    def _table(self) -> list[str]:
        notes = dict(self.how) | {name: f"left: {why}" for name, why in self.left}
        rows = [["layer", "before", "predicted", "after", "error", "scale"]]
        for name, layer in self.layers.items():
            rows.append([name, *map(_mean, layer), notes.get(name, "")])
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        return [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [row[i].rjust(widths[i]) for i in range(1, 5)]
                + [row[5]]
            ).rstrip()
            for row in rows
        ]


_MOST_LAYERS = 14


def _mean(value: Array) -> str:
    """Return the mean over the steps of a scan; of what has no numbers its shape."""
    found = numbers(value)
    return in_a_line(value) if found is None else f"{float(found.mean()):.3g}"


def _cut(lines: list[str]) -> str:
    more = len(lines) - 1 - _MOST_LAYERS
    return "\n".join([*lines[: _MOST_LAYERS + 1], f"... and {more} more"] if more > 0 else lines)
