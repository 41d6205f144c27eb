"""The forms of a loss that `fit` takes, and the one form in which it works with them."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from itertools import zip_longest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_tut.loss_forms import read_form
from jaxopt_tut.losses import Aux, described, loss_rule, take_pair
from jaxopt_tut.training.data import AnyKey, DeviceData, take
from jaxopt_tut.training.scalars import as_metrics
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import LossFn, Params, PyTree


def loss_and_aux(
    loss_fn: LossFn, has_model_state: bool, *, has_key: bool | None = None, caller: str = "fit"
) -> Callable[..., tuple[Array, Aux]]:
    """Make `(params, batch, model_state, key=None) -> loss, Aux` of every form of a loss."""
    form = read_form(caller, loss_fn, has_key=has_key, has_model_state=has_model_state)

    def normal_form(params, batch, model_state, key=None):
        # in containers of its own: a state of equinox can be used but once
        state = jax.tree.map(lambda leaf: leaf, model_state)
        loss, aux = take_pair(caller, form.call(loss_fn, params, batch, key, state))
        new = like_the_old(caller, aux.model_state, model_state)
        return _real_loss(caller, loss), Aux(_metrics(caller, aux.metrics), new)

    return normal_form


def _real_loss(caller: str, loss: Any) -> Array:
    """Refuse a loss without a derivative."""
    if not isinstance(loss, jax.Array | np.ndarray | np.generic | float | int | complex):
        raise TypeError(f"{loss_rule(caller)}, got {described(loss)} as loss.")
    try:
        loss = jnp.asarray(loss)
    except (TypeError, ValueError, OverflowError):  # too large an integer, an array of objects
        raise TypeError(f"{loss_rule(caller)}, got {described(loss)} as loss.") from None
    if loss.shape != ():
        raise ValueError(f"{caller} needs a scalar loss, got shape {loss.shape}.")
    if not jnp.issubdtype(loss.dtype, jnp.floating):
        raise TypeError(f"{caller} needs a real floating loss, got {loss.dtype}.")
    return loss


def _metrics(caller: str, metrics: Any) -> dict[str, Array]:
    if metrics is None:
        return {}
    for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
        if name == "loss":
            raise ValueError(
                f"{caller} needs metrics by other names than 'loss', which is the loss itself."
            )
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"{caller} needs a scalar {name}, got shape {value.shape}.")
    return as_metrics(caller, "loss_fn", metrics)


def like_the_old(caller: str, new: PyTree, old: PyTree) -> PyTree:
    """Put a new state into the containers of the old one, or refuse it for its form."""
    if new is None and old is not None:
        raise ValueError(
            f"{caller} needs loss_fn to return (loss, Aux(metrics, model_state)) where model_state "
            "is given, got no new one."
        )
    if new is not None and old is None:
        raise ValueError(
            f"{caller} needs model_state= for a loss that returns a new one, got None."
        )
    for one, other in zip_longest(named_leaves(new), named_leaves(old), fillvalue=(None, None)):
        names, values = zip(one, other, strict=True)
        found, expected = map(described, values)
        if names[0] != names[1] or found != expected:
            place = "" if names[0] is None else f" at {names[0]!r}"
            instead = "none" if names[1] is None else f"{expected} at {names[1]!r}"
            raise ValueError(
                f"{caller} needs the new model_state in the form of the one before, "
                f"got {found}{place} for {instead}."
            )
    return jax.tree.unflatten(jax.tree.structure(old), jax.tree.leaves(new))


@lru_cache(maxsize=64)
def loss_with_state(loss_fn: LossFn, has_model_state: bool) -> LossFn:
    """Put state and key beside the batch; the same function again for the same loss."""
    normal_form = loss_and_aux(loss_fn, has_model_state)
    return lambda params, batch: normal_form(params, *batch)


@partial(jax.jit, static_argnames=("loss_fn", "batch_size"))
def loss_of_first_batch(
    params: Params,
    data: DeviceData,
    model_state: PyTree,
    key: AnyKey | None,
    *,
    loss_fn: LossFn,
    batch_size: int,
) -> tuple[Array, Aux]:
    """Evaluate the loss once; `fit` asks for its shapes only, which are cached with the trace."""
    batch = take(data, jnp.arange(batch_size))
    return loss_and_aux(loss_fn, model_state is not None)(params, batch, model_state, key)
