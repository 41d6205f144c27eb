"""What a calibration did: each layer before and after, and what was left alone."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

How = TypeAliasType("How", Literal["theory", "measured", "learned"])
"""Whether a scale was predicted, set by looking at the data, or found by descent."""


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
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

    def __str__(self) -> str:
        """Write one row a layer, the variances and how it was set, and below what is unmet."""
        notes = dict(self.how) | {name: f"left: {why}" for name, why in self.left}
        rows = [["layer", "before", "predicted", "after", "error", "scale"]]
        for name, layer in self.layers.items():
            numbers = [f"{float(value.mean()):.3g}" for value in layer]
            rows.append([name, *numbers, notes.get(name, "")])
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0])]
                + [row[i].rjust(widths[i]) for i in range(1, 5)]
                + [row[5]]
            ).rstrip()
            for row in rows
        ]
        return "\n".join(lines + [f"not converged: {name}: {why}" for name, why in self.unmet])
