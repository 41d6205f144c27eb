"""The network that is measured: traced once, and refused where there is nothing to measure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut.loss_forms import Bound
from jaxopt_tut.losses import require_loss
from jaxopt_tut.taps.inner import (
    Layer,
    Parts,
    Program,
    require_examples,
    require_layers,
    take_parameters,
    trace_program,
)
from jaxopt_tut.types import Batch


class Network(NamedTuple):
    """A loss of parameters and a batch.

    Attributes:
      params: The parameters, taken apart.
      program: What the loss computes.
      layers: Those of its layers that have a cotangent.
    """

    params: Parts
    program: Program
    layers: list[Layer]


def read_network(caller: str, bound: Bound) -> Network:
    """Trace a loss and find its layers; `caller` opens the messages of what is refused."""
    parts = take_parameters(caller, bound.params)
    _require_any_example(caller, bound.examples)
    program = trace_program(
        caller, bound.loss_fn, (bound.params, bound.batch), may_close_over=False
    )
    require_loss(caller, program.result)
    return Network(parts, program, _readable_layers(caller, program.layers))


def _require_any_example(caller: str, batch: Batch) -> None:
    """Refuse a batch of nothing before the loss takes a mean over it."""
    sizes = [jnp.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if jnp.ndim(leaf)]
    if sizes and max(sizes) == 0:
        raise ValueError(f"{caller} needs a batch of at least two examples, got none.")


def _readable_layers(caller: str, layers: Sequence[Layer]) -> list[Layer]:
    """Keep the layers that have a cotangent, and refuse a function or a batch without any."""
    # A layer of no units or no inputs has nothing to say.
    layers = [one for one in layers if one.fan_in and math.prod(one.pre_activation.site.shape)]
    require_layers(caller, layers)
    kept = [layer for layer in layers if not layer.pre_activation.site.blocked_by]
    if not kept:
        site = layers[0].pre_activation.site
        raise ValueError(
            f"{caller} cannot reach {site.name!r}: it lies inside {site.blocked_by}, where JAX "
            "defines no cotangent."
        )
    require_examples(caller, kept)
    return kept
