"""Measurements that a training run takes as it goes: pairs of pure functions."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.types import PyTree

__all__ = ["Measure", "Probe", "Snapshot", "StartProbe"]


@shown
class Snapshot(NamedTuple):
    """What a training run is between two steps.

    Attributes:
      step: Steps taken since the start.
      params: The model, of the kind that was handed over.
      opt_state: The optimizer's state.
      model_state: The state beside the model, if one was handed over.
    """

    step: Int[Array, ""] | int
    params: PyTree
    opt_state: PyTree = None
    model_state: PyTree = None


StartProbe = TypeAliasType("StartProbe", Callable[[Snapshot], PyTree])
"""`(snapshot) -> state`."""

Measure = TypeAliasType("Measure", Callable[[PyTree, Snapshot], tuple[PyTree, PyTree]])
"""`(state, snapshot) -> (state, measured)`."""


@shown
class Probe(NamedTuple):
    """A measurement that is taken again and again while a model is trained.

    Attributes:
      init: What the first measurement begins with, of the start of the run; any tree of arrays.
      measure: From the state and the run as it is to the next state and what is kept: a tree of
        arrays, of the same shapes each time.

    Example:
      >>> length = Probe(lambda start: None, lambda state, now: (state, abs(now.params)))
      >>> length.measure(length.init(None), Snapshot(step=0, params=-3.0))
      (None, 3.0)
    """

    init: StartProbe
    measure: Measure
