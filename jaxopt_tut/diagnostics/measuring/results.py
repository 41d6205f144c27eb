"""What measuring returns: what is known of the layers of a network."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Bool, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.diagnostics.measuring import summaries
from jaxopt_tut.diagnostics.measuring.summaries import Real
from jaxopt_tut.diagnostics.showing import statistics_block
from jaxopt_tut.taps import Tape
from jaxopt_tut.taps.inner import Layer

# By their names alone, signatures print short.
Summary = TypeAliasType("Summary", summaries.Summary)
"""What is kept of an array, see `summarize`."""

Count = TypeAliasType("Count", Int[Array | np.ndarray, "*step"])
"""A number of units for each step of the scans around a layer; one alone outside of scans."""

Flag = TypeAliasType("Flag", Bool[Array | np.ndarray, ""])
"""A truth value without axes."""


@shown
class LayerStatistics(NamedTuple):
    r"""What is known of a layer $z = W x + b$, $a = \phi(z)$; inside scans one entry a step.

    Attributes:
      weights: Of $W$.
      pre_activations: Of $z$.
      activations: Of $a$; of $z$ where no nonlinearity follows.
      cotangents: Of $\partial L / \partial z$.
      weight_gradients: Of $\partial L / \partial W$.
      inputs: Of $x$; of all of it at each step where a scan hands an array of the batch to its
        steps, None where it hands over anything else.
      fraction_dead: Of the units whose activation is zero for the whole batch.
      fraction_saturated: Of the activations that are not zero but have a slope
        $|\phi'| < 0.05$.
      correlation: Between the pre-activations of two examples, $E[z z'] / E[z^2]$.
      distinct_gradients: Number of units whose weight gradients are not zero and differ.
      active_gradients: Number of units whose weight gradients are not zero.
      update_ratio: Root mean square of the update over that of $W$; NaN without an optimizer.
      gain: $n E[V^2]$ for the fan-in n and the matrix V that meets x: what $E[z^2] / E[x^2]$ is on
        average over draws. V is W, or what the function makes of it; NaN where that is not known.
    """

    weights: Summary
    pre_activations: Summary
    activations: Summary
    cotangents: Summary
    weight_gradients: Summary
    inputs: Summary | None
    fraction_dead: Real
    fraction_saturated: Real
    correlation: Real
    distinct_gradients: Count
    active_gradients: Count
    update_ratio: Real
    gain: Real


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Statistics:
    """What `diagnostics.statistics` measures.

    Attributes:
      layers: By name, in the order of the program.
      loss: On the batch.
      loss_after_update: On the same batch after one step of the optimizer; NaN without one.
      expected_change: What the gradient predicts for the step: its inner product with the update.
      update_growth: How many times as long the update is as the one half-way to it, where an
        optimizer that hardly moves was followed; 1 for a first update, NaN without an optimizer.
      searches: Whether the optimizer looks at the loss before it steps, as line searches do.
      is_finite: Whether the loss is, and its gradient by all parameters.
      num_updates: How many steps it was followed at most.
      wiring: For each layer how it is joined to the others; part of the tree's structure.
    """

    layers: Tape
    loss: Real
    loss_after_update: Real
    expected_change: Real
    update_growth: Real
    searches: Flag
    is_finite: Flag
    num_updates: int = field(metadata={"static": True})
    wiring: tuple[Layer, ...] = field(metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the loss and the layers."""
        return statistics_block(self)
