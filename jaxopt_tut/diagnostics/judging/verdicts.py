"""What a verdict is, and the layers, step by step, that it is read from."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxopt_tut.diagnostics.measuring.results import LayerStatistics, Statistics
from jaxopt_tut.diagnostics.measuring.summaries import Summary
from jaxopt_tut.taps.inner import Layer

ORDER: tuple[str, ...] = (
    "non_finite", "input_not_normalized", "symmetric", "dead", "exploding", "vanishing",
    "saturated", "rank_collapse", "logits_too_large", "lr_too_high", "lr_too_low",
)  # fmt: skip
"""What can be wrong, causes before what they cause."""


class Verdict(NamedTuple):
    """One thing that is wrong.

    Attributes:
      kind: What.
      layer: Where: the name of a layer, `[k]` behind it for step k of a scan.
      evidence: The numbers that say so.
      cause: The probable cause.
      fix: What to do.
    """

    kind: str
    layer: str
    evidence: str
    cause: str
    fix: str


class Step(NamedTuple):
    """One layer at one step of the scans around it, all numbers plain.

    Attributes:
      name: Of the layer, and the step.
      wiring: How the layer is joined to the others.
      depth: Of the step: one of a scan is a layer more.
      is_last: Whether it makes an output.
      steps_left: How many steps of a scan over one weight are to come.
      numbers: Of the layer at this step.
    """

    name: str
    wiring: Layer
    depth: int
    is_last: bool
    steps_left: int
    numbers: LayerStatistics


def steps_of(statistics: Statistics) -> Iterator[Step]:
    """Take the layers apart into the steps of the scans around them.

    Args:
      statistics: As NumPy arrays.

    Yields:
      One entry for each layer, or one for each of its steps.
    """
    scanned, added, before = (), 0, 0
    for layer in statistics.wiring:
        numbers = statistics.layers[layer.name]
        lengths = np.shape(numbers.correlation)
        if lengths != scanned:  # another scan, or none: what came before is that much deeper
            before, added, scanned = before + added, math.prod(lengths) - 1, lengths
        for k, index in enumerate(np.ndindex(*lengths)):
            name = layer.name + (f"[{','.join(map(str, index))}]" if index else "")
            of_weights = index[: layer.num_weight_steps]
            at = {
                field: jax.tree.map(
                    partial(_at, index=of_weights if field in _OF_WEIGHTS else index), value
                )
                for field, value in numbers._asdict().items()
            }
            left = math.prod(lengths) - 1 - k
            yield Step(
                name,
                layer,
                layer.depth + before + k,
                layer.is_last and not left,
                left if layer.use.loop else 0,
                LayerStatistics(**at),
            )


_OF_WEIGHTS = {
    "weights", "weight_gradients", "distinct_gradients", "active_gradients", "update_ratio",
    "gain",
}  # fmt: skip


def _at(array, index):
    return np.asarray(array)[index]


def join_steps(steps: Sequence[Step], field: str, join: Callable) -> Iterator[tuple[Step, float]]:
    """Take one number for all uses of a weight, be they the steps of a scan or written out.

    A step may see the same of all examples, as the first row of an image or a padded token, or a
    state of zeros: that says nothing of the layer.

    Args:
      steps: What `steps_of` gives.
      field: Which number of the layer.
      join: Makes one number of many, `np.nanmin` for instance.

    Yields:
      The first use, and the number; derivatives within the function are no uses.
    """
    together: dict[str, list[Step]] = {}
    for one in steps:
        if not one.wiring.use.is_derivative:
            is_stack = one.wiring.num_weight_steps > 0
            whose = one.name if is_stack else one.wiring.param
            together.setdefault(whose, []).append(one)
    for group in together.values():
        values = np.array([float(getattr(one.numbers, field)) for one in group])
        known = values[~np.isnan(values)]
        yield group[0], float(join(known)) if known.size else math.nan


def mean_square(summary: Summary) -> float:
    """Return the mean square of what was summarised.

    Args:
      summary: Of one place at one step.

    Returns:
      Variance and squared mean together.
    """
    return float(summary.variance + summary.mean**2)


def suitable_gain(one: Step) -> float:
    """Return the fan-in times the variance of the weights that suits what the layer reads.

    Args:
      one: The layer.

    Returns:
      2 behind a rectifier, else 1.
    """
    inputs = one.numbers.inputs
    return 2.0 if inputs is not None and 0.2 < inputs.fraction_zero < 0.9 else 1.0


def initializer(one: Step) -> str:
    """Name the initializer that suits a layer.

    Args:
      one: The layer.

    Returns:
      Its call.
    """
    name = "kaiming_normal()" if suitable_gain(one) == 2.0 else "equal_variance()"
    return f"initializers.{name}"
