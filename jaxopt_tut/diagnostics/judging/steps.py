"""The layers, step by step, as verdicts are read from them."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from jaxopt_tut.diagnostics.measuring.results import LayerStatistics, Statistics
from jaxopt_tut.taps.inner import Layer


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
    """Take the layers, as NumPy arrays, apart into the steps of the scans around them."""
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


def _at(array: np.ndarray, index: tuple[int, ...]) -> np.ndarray | np.generic:
    return np.asarray(array)[index]


def join_steps(
    steps: Sequence[Step], field: str, join: Callable[[np.ndarray], np.floating]
) -> Iterator[tuple[Step, float]]:
    """Take one number for all uses of a weight, be they the steps of a scan or written out."""
    together: dict[str, list[Step]] = {}
    for one in steps:
        if not one.wiring.use.is_derivative:  # those within the function are no uses
            is_stack = one.wiring.num_weight_steps > 0
            whose = one.name if is_stack else one.wiring.param
            together.setdefault(whose, []).append(one)
    for group in together.values():
        values = np.array([float(getattr(one.numbers, field)) for one in group])
        # A step may see the same of all examples, as the first row of an image or a padded token,
        # or a state of zeros: that says nothing of the layer.
        known = values[~np.isnan(values)]
        yield group[0], float(join(known)) if known.size else math.nan
