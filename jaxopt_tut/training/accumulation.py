"""The loss of a batch and its gradient from micro-batches, which are looked at one by one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer
from typing_extensions import TypeAliasType

from jaxopt_tut.losses import Aux
from jaxopt_tut.training.data import AnyKey, averaging_dtype
from jaxopt_tut.types import Batch, Params, PyTree, Scalar

NormalForm = TypeAliasType("NormalForm", Callable[..., tuple[Array, Aux]])
"""`(params, batch, model_state, key) -> loss, Aux`."""


class Total(NamedTuple):
    """Sums over the micro-batches so far, and the state that the last one left."""

    record: dict[str, Array]
    grads: Params
    model_state: PyTree


class Parts(NamedTuple):
    """The micro-batches of a step; each draws by a key of its own."""

    count: int
    batch_of: Callable[[Integer[Array, ""]], Batch]
    key: AnyKey | None

    def __call__(self, index: Integer[Array, ""]) -> tuple[Batch, AnyKey | None]:
        """Return a micro-batch and its key."""
        key = None if self.key is None else jax.random.fold_in(self.key, index)
        return self.batch_of(index), key


def nothing_yet(
    params: Params, model_state: PyTree, record: dict[str, Float[Array, "steps"]]
) -> Total:
    """Start the sums, in the precision in which numbers are averaged and where the leaves lie."""
    zeros = lambda leaf: jnp.zeros_like(leaf, averaging_dtype(leaf.dtype))
    sums = {name: jnp.zeros((), column.dtype) for name, column in record.items()}
    return Total(sums, jax.tree.map(zeros, params), model_state)


def restarted(total: Total, model_state: PyTree, is_first: Array) -> Total:
    """Make of the sums of another step those before the first micro-batch."""
    choose = lambda new, old: jnp.where(is_first, new, old)
    zero = lambda leaf: choose(jnp.zeros_like(leaf), leaf)
    return Total(
        jax.tree.map(zero, total.record),
        jax.tree.map(zero, total.grads),
        jax.tree.map(choose, model_state, total.model_state),
    )


def add_part(
    total: Total, params: Params, normal_form: NormalForm, parts: Parts, index: Integer[Array, ""]
) -> Total:
    """Add loss, metrics and gradient of one micro-batch, and take over the state it leaves."""
    batch, key = parts(index)
    differentiated = jax.value_and_grad(normal_form, has_aux=True)
    (loss, aux), grads = differentiated(params, batch, total.model_state, key)
    add = lambda sum_, value: sum_ + value.astype(sum_.dtype)
    values = {"loss": loss, **(aux.metrics or {})}
    record = {name: add(total.record[name], value) for name, value in values.items()}
    return Total(record, jax.tree.map(add, total.grads, grads), aux.model_state)


def add_parts(total: Total, params: Params, normal_form: NormalForm, parts: Parts) -> Total:
    """Add all micro-batches in a loop: the program and its memory are those of one of them."""
    add = lambda total, index: (add_part(total, params, normal_form, parts, index), None)
    return jax.lax.scan(add, total, jnp.arange(parts.count))[0]


def means(total: Total, params: Params, count: int) -> tuple[tuple[Scalar, Aux], Params]:
    """Return what one look at the whole batch returns: `(loss, aux), gradient`."""
    record = {name: value / count for name, value in total.record.items()}
    grads = jax.tree.map(lambda g, leaf: (g / count).astype(leaf.dtype), total.grads, params)
    return (record.pop("loss"), Aux(record, total.model_state)), grads


def mean_loss(params: Params, model_state: PyTree, normal_form: NormalForm, parts: Parts) -> Scalar:
    """Return the loss of the whole batch elsewhere, as line searches ask for it."""

    def loss_of(index: Integer[Array, ""], state: PyTree) -> tuple[Scalar, PyTree]:
        batch, key = parts(index)
        # the derivative sees the parameters alone, as that of `add_part`
        loss, aux = normal_form(params, batch, jax.lax.stop_gradient(state), key)
        return loss.astype(averaging_dtype(loss.dtype)), aux.model_state

    def add(carried: tuple[Scalar, PyTree], index: Integer[Array, ""]) -> tuple[Any, None]:
        # kept for the derivative of the sum are the states, and no micro-batch's activations
        loss, state = jax.checkpoint(loss_of)(index, carried[1])
        return (carried[0] + loss, state), None

    loss, _ = jax.eval_shape(loss_of, jnp.int32(0), model_state)
    start = jnp.zeros_like(loss), model_state
    return jax.lax.scan(add, start, jnp.arange(parts.count))[0][0] / parts.count
