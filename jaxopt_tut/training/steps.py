"""The compiled part of `fit`: one update, and as many of them in one dispatch as asked for."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxopt_tut.optimizers.step import take_step
from jaxopt_tut.training.data import DeviceData, num_examples, take
from jaxopt_tut.training.losses import loss_and_aux
from jaxopt_tut.types import LossFn, Params, PyTree


class Carry(NamedTuple):
    """What one step hands to the next; its buffers are donated."""

    params: Params
    opt_state: optax.OptState
    model_state: PyTree
    step: Int[Array, ""]
    """Steps taken in this epoch."""
    alive: Bool[Array, ""]
    """False from the first non-finite loss on: nothing is updated any more."""
    record: dict[str, Float[Array, "steps"]]
    """Loss and metrics of every step of this epoch."""


@partial(jax.jit, static_argnames=("init", "optimizer"))
def initial_state(key: Key[Array, ""], init: Callable, optimizer: optax.GradientTransformation):
    """Draw parameters and build the optimizer state in one program: eagerly it takes seconds."""
    params = init(key)
    return params, optimizer.init(params)


@partial(jax.jit, static_argnames=("batch_size",))
def epoch_order(
    key: Key[Array, ""], epoch: Int[Array, ""], data: DeviceData, batch_size: int
) -> Int[Array, "steps batch"]:
    """Shuffle the examples for one epoch; the last partial batch is dropped."""
    size = num_examples(data)
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    num_steps = size // batch_size
    return order[: num_steps * batch_size].reshape(num_steps, batch_size)


@partial(
    jax.jit,
    static_argnames=("loss_fn", "optimizer", "has_model_state", "one_step_per_call", "sharding"),
    donate_argnames=("carry",),
)
def run_steps(
    carry: Carry,
    data: DeviceData,
    order: Int[Array, "steps batch"],
    stop: Int[Array, ""],
    *,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    has_model_state: bool,
    one_step_per_call: bool,
    sharding: Any = None,
) -> Carry:
    """Take the steps of the epoch before `stop` that are left."""
    normal_form = loss_and_aux(loss_fn, has_model_state)
    value_and_grad = jax.value_and_grad(normal_form, has_aux=True)

    def one_step(carry: Carry) -> Carry:
        batch = take(data, order[carry.step])
        if sharding is not None:
            batch = jax.lax.with_sharding_constraint(batch, sharding)
        (loss, aux), grads = value_and_grad(carry.params, batch, carry.model_state)
        grads = jax.tree.map(jnp.conj, grads)  # of complex parameters the direction of ascent
        alive = carry.alive & jnp.isfinite(loss)

        def update():
            value_fn = lambda params: normal_form(params, batch, carry.model_state)[0]
            at = carry.params, carry.opt_state
            after = take_step("fit", optimizer, value_fn, *at, known=(loss, grads))
            return after.params, after.state, aux.model_state

        def keep():
            return carry.params, carry.opt_state, carry.model_state

        # A branch: a select on every leaf cost 7 % of a step on CPU.
        params, opt_state, model_state = jax.lax.cond(alive, update, keep)
        record = {"loss": loss, **aux.metrics}
        return Carry(
            params=params,
            opt_state=opt_state,
            model_state=model_state,
            step=carry.step + 1,
            alive=alive,
            record={
                name: column.at[carry.step].set(record[name].astype(column.dtype))
                for name, column in carry.record.items()
            },
        )

    if one_step_per_call:  # straight-line code: on CPU a loop around the step was slower
        return one_step(carry)
    return jax.lax.fori_loop(carry.step, stop, lambda _, carry: one_step(carry), carry)
