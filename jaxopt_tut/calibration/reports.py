"""What a calibration did: each layer before and after, and what was left alone."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import jax
from jaxtyping import Array, Float

How = Literal["theory", "measured", "learned"]
"""Whether a scale was predicted, set by looking at the data, or found by descent."""


class LayerCalibration(NamedTuple):
    """One layer; numbers inside scans have one entry a step.

    Attributes:
      before: Variance of the pre-activations with the parameters that were handed in.
      predicted: What theory expects with those that are returned; NaN where it has no say.
      after: What was measured with those that are returned.
    """

    before: Float[Array, "*step"]
    predicted: Float[Array, "*step"]
    after: Float[Array, "*step"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration did; `str` makes a table of it.

    Attributes:
      layers: By name, in the order of the program.
      objective: What was minimised, a number a step; empty where nothing is.
      converged: Whether every layer that was measured is at its target.
      how: For each layer how its scale was set; static.
      left: For each layer that was left alone the reason; static.
    """

    layers: dict[str, LayerCalibration]
    objective: Float[Array, " step"]
    converged: bool = field(metadata={"static": True})
    how: tuple[tuple[str, How], ...] = field(metadata={"static": True})
    left: tuple[tuple[str, str], ...] = field(metadata={"static": True})

    def __str__(self) -> str:
        """Write one row a layer: variance before, predicted and after, and how it was set."""
        notes = dict(self.how) | {name: f"left: {why}" for name, why in self.left}
        rows = [["layer", "before", "predicted", "after", "scale"]]
        for name, layer in self.layers.items():
            numbers = [f"{float(value.mean()):.3g}" for value in layer]
            rows.append([name, *numbers, notes.get(name, "")])
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            "  ".join(
                [row[0].ljust(widths[0])]
                + [row[i].rjust(widths[i]) for i in range(1, 4)]
                + [row[4]]
            ).rstrip()
            for row in rows
        )
