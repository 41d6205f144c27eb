"""Measure every layer in one forward and one backward pass, into few large arrays."""

import jax
import optax

from jaxopt_tut.diagnostics.measuring.first_step import take_first_step
from jaxopt_tut.diagnostics.measuring.network import read_network
from jaxopt_tut.diagnostics.measuring.readings import read_layers
from jaxopt_tut.diagnostics.measuring.stacking import Measured, stack
from jaxopt_tut.loss_forms import Bound
from jaxopt_tut.losses import value_part
from jaxopt_tut.types import Optimizer, PyTree, Scalar


def measure(
    caller: str, bound: Bound, optimizer: Optimizer | None = None, num_updates: int = 1
) -> Measured:
    """Measure what `statistics` returns, stacked; the optimizer tries up to `num_updates` steps."""
    network = read_network(caller, bound)
    found = read_layers(network)
    rebuild = network.params.rebuild

    def value_fn(arrays: PyTree) -> Scalar:
        return value_part(bound.loss_fn(rebuild(jax.tree.leaves(arrays)), bound.batch))

    # By the conventions of JAX and optax the direction of ascent is the conjugate.
    ascent = optax.tree.conj(rebuild.alone(found.gradients))
    arrays = rebuild.alone(network.params.arrays)
    step = take_first_step(value_fn, arrays, ascent, optimizer, num_updates)
    return stack(found, step, num_updates)
