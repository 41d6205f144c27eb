"""The forms of a loss that `fit` takes, and the one form in which it works with them."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.training.data import DeviceData, take
from jaxopt_tut.types import LossFn, Params, PyTree


class Aux(NamedTuple):
    """What a loss returns beside its value: `return loss, Aux(metrics, model_state)`."""

    metrics: dict[str, Array] | None = None
    """Scalars to be averaged over each epoch."""
    model_state: PyTree = None
    """The new state of the model (running averages of BatchNorm, say)."""


def loss_and_aux(loss_fn: LossFn, has_model_state: bool) -> Callable[..., tuple[Array, Aux]]:
    """Give every accepted form of a loss one form: `(params, batch, model_state) -> loss, Aux`."""

    def normal_form(params, batch, model_state):
        out = loss_fn(params, batch, model_state) if has_model_state else loss_fn(params, batch)
        loss, aux = out if isinstance(out, tuple) else (out, Aux())
        if not isinstance(aux, Aux):
            aux = Aux(metrics=aux)
        return loss, Aux(aux.metrics or {}, aux.model_state if has_model_state else None)

    return normal_form


@lru_cache(maxsize=64)
def loss_with_state(loss_fn: LossFn, has_model_state: bool) -> LossFn:
    """Put the model's state beside the batch; the same function again for the same loss."""
    normal_form = loss_and_aux(loss_fn, has_model_state)
    return lambda params, batch: normal_form(params, *batch)


@partial(jax.jit, static_argnames=("loss_fn", "batch_size"))
def loss_of_first_batch(
    params: Params, data: DeviceData, model_state: PyTree, *, loss_fn: LossFn, batch_size: int
) -> tuple[Array, Aux]:
    """Evaluate the loss once; `fit` asks for its shapes only, which are cached with the trace."""
    batch = take(data, jnp.arange(batch_size))
    return loss_and_aux(loss_fn, model_state is not None)(params, batch, model_state)
