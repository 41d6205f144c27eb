"""The loop of `fit` as one pure function, for `jit`, `vmap`, `grad` and sweeps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.keys import require_key
from jaxopt_tut.loss_forms import read_form
from jaxopt_tut.optimizers.inner import require_optimizer, take_step
from jaxopt_tut.training.arguments import check_params, like_state
from jaxopt_tut.training.data import (
    AnyKey,
    Data,
    DeviceData,
    averaging_dtype,
    device_data,
    epoch_order,
    num_examples,
    take,
)
from jaxopt_tut.training.fitting import LOSS
from jaxopt_tut.training.losses import loss_and_aux
from jaxopt_tut.training.scalars import Count, as_count, check_call
from jaxopt_tut.training.showing import trained_block
from jaxopt_tut.training.steps import Carry, finite_leaves, initial_carry, look_at
from jaxopt_tut.trees import named_leaves, strong
from jaxopt_tut.types import Batch, Flag, Limit, LossFn, Optimizer, Params, PyTree
from jaxopt_tut.types import Count as CountArray

BatchesOf = TypeAliasType("BatchesOf", PyTree | Callable[[CountArray], Batch])
"""Batches along a common first axis, or a function from the step to its batch."""


@shown
class Trained(NamedTuple):
    """What `train` returns: arrays only, so that it passes through any transformation."""

    params: Params
    """The last parameters; those before the first step that could not be taken."""
    opt_state: PyTree
    """The optimizer's last state."""
    losses: Float[Array, "steps"]
    """The loss of every step before its update; NaN behind a step that could not be taken."""
    metrics: dict[str, Float[Array, "steps"]]
    """What the loss returns beside it, likewise."""
    model_state: PyTree
    """The model's last state; None for a loss without state."""
    num_taken: CountArray
    """Steps that were taken."""
    finite: Flag
    """Whether all were."""

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the loss at the ends, and how much there is."""
        return trained_block(self)


@shown
class Shuffled(NamedTuple):
    """Batches of a data set in the orders of `fit`, as `shuffled` makes them."""

    data: DeviceData
    order: Int[Array, "steps batch"]

    def __call__(self, step: Limit) -> Batch:
        """Gather the batch of a step; behind the last epoch the first comes again."""
        return take(self.data, self.order[step % self.order.shape[0]])


def shuffled(dataset: Data, *, batch_size: Count, num_epochs: Count, key: AnyKey) -> Shuffled:
    r"""Return the batches that `fit` visits, as a function of the step for `train`.

    Epoch $e$ visits the examples in an order drawn from `fold_in(shuffle_key, e)` and drops the
    last partial batch. The orders are drawn here, all at once: `num_epochs` integers an example.
    A sort inside the training loop would be done anew at every step.

    Args:
      dataset: A `Dataset`, whose `train` split is normalised, or any tree of arrays with a common
        first axis.
      batch_size: Examples a step.
      num_epochs: Passes over the data that are drawn; a training of more steps visits them again.
      key: What `fit` would be given; it may be traced, so that `jax.vmap` draws other orders for
        every key while the data are there once.

    Returns:
      A tree of arrays that is called with a step.

    Raises:
      TypeError: If the data are no arrays, `key` is none or a count is no integer.
      ValueError: If a count is out of range.

    Example:
      >>> batches = shuffled(jnp.arange(6.0), batch_size=2, num_epochs=2, key=jax.random.key(0))
      >>> print(jnp.sort(jnp.concatenate([batches(step) for step in (3, 4, 5)])))
      [0. 1. 2. 3. 4. 5.]
    """
    data = device_data(dataset, "shuffled")
    require_key("shuffled", key)
    size, length = as_count("shuffled", "batch_size", batch_size), num_examples(data)
    epochs = as_count("shuffled", "num_epochs", num_epochs)
    if not 1 <= size <= length:
        raise ValueError(
            f"shuffled needs 1 <= batch_size <= number of examples ({length}), "
            f"got batch_size={size}."
        )
    if epochs < 1:
        raise ValueError(f"shuffled needs num_epochs >= 1, got num_epochs={epochs}.")
    _, shuffle_key = jax.random.split(key)
    orders = jax.lax.map(  # not vmapped: the sort of one epoch needs memory
        lambda epoch: epoch_order(shuffle_key, epoch, length, size),
        jnp.arange(epochs, dtype="uint32"),
    )
    return Shuffled(data, orders.reshape(-1, size))


def train(
    loss_fn: LossFn,
    params: Params,
    optimizer: Optimizer,
    batches: BatchesOf,
    *,
    num_steps: Count,
    key: AnyKey | None = None,
    model_state: PyTree = None,
    opt_state: PyTree = None,
    guarded: bool = True,
) -> Trained:
    r"""Train for a number of steps, as one pure function of arrays.

    $$\theta_{t+1} = \theta_t + u_t, \qquad
      (u_t, s_{t+1}) = \mathrm{update}(\nabla_\theta L(\theta_t, B_t), s_t, \theta_t)$$

    It takes the steps of `fit`, for the same batches to the rounding of another program, in one
    `jax.lax.scan`. So it can be compiled, mapped over configurations (`sweep`), and differentiated
    with respect to all that it is given, the numbers that `optimizer` is made of among them:

        after = lambda rate: train(loss_fn, params, optax.sgd(rate), batches, num_steps=100)
        jax.grad(lambda rate: after(rate).losses[-1])(0.1)

    Reverse mode keeps what every step needs for its derivative: memory grows with `num_steps`;
    where that is too much, `bilevel.argmin` has other modes. On a CPU a step in a loop is somewhat
    slower than one of `fit`, which also shows progress and can be interrupted.

    Args:
      loss_fn: In any form that `fit` takes: `(params, batch)`, `(params, batch, key)`, each with
        `model_state` behind; returns a loss, `(loss, metrics)` or
        `(loss, Aux(metrics, model_state))`.
      params: The initial parameters.
      optimizer: Any optax transformation; its numbers may be traced.
      batches: Batch $t$ is `batches(t)` for a function, `shuffled` among them, and
        `leaf[t % len(leaf)]` of every leaf for a tree of arrays with a common first axis. A
        function's large arrays should be arguments of what is compiled, not closed over.
      num_steps: Updates.
      key: For a loss that draws, which is handed another one each step; those of `fit`, if this is
        the key of `fit`.
      model_state: The initial state of the model, any tree of arrays.
      opt_state: The optimizer's state to begin with; by default a fresh one.
      guarded: Stop as `fit` does where a step leads to numbers that are not finite: it is left out
        and all behind it. Otherwise every step is taken, which on a CPU takes about a sixth less
        time, and `finite` tells whether all losses and the last parameters are.

    Returns:
      The last parameters and states, and the losses and metrics of all steps. Where `finite` is
      False, derivatives mean nothing.

    Raises:
      TypeError: If a parameter is not floating or complex, the optimizer was not called, the loss
        is not real, or `num_steps` is no integer.
      ValueError: If the loss or a metric is not a scalar, `num_steps` is negative, the first axes
        of `batches` differ, or a state does not fit.

    Example:
      Gradient descent on $(w - b)^2$ multiplies the distance by $1 - 2 \eta$: after three steps
      from 0 the loss is $9\,(1 - 2 \eta)^6$, with the slope $-108\,(1 - 2 \eta)^5$.

      >>> import optax
      >>> loss_fn = lambda w, b: (w - b) ** 2
      >>> def last(rate):
      ...     after = train(loss_fn, 0.0, optax.sgd(rate), jnp.array([3.0]), num_steps=3)
      ...     return loss_fn(after.params, 3.0)
      >>> value, slope = jax.value_and_grad(last)(0.25)
      >>> round(float(value), 6), round(float(slope), 6)
      (0.140625, -3.375)
    """
    check_params("train", params)
    require_optimizer("train", optimizer)
    steps = as_count("train", "num_steps", num_steps)
    if steps < 0:
        raise ValueError(f"train needs num_steps >= 0, got num_steps={steps}.")
    if key is not None:
        require_key("train", key)
    batch_of = _batch_of(batches)
    # a scan wants the types of its carry to stay: a number of Python's takes those of the others
    params, model_state = strong((params, model_state))
    fresh = optimizer.init(params)
    opt_state = strong(fresh if opt_state is None else like_state("train", opt_state, fresh))
    has_state = model_state is not None
    read_form(
        "train", loss_fn, has_key=None if key is not None else False, has_model_state=has_state
    )
    loss_key = None if key is None else jax.random.fold_in(key, LOSS)
    normal_form = loss_and_aux(loss_fn, has_state, caller="train")
    value_and_grad = jax.value_and_grad(normal_form, has_aux=True)
    rule: Any = optimizer

    def one_step(carry: Carry, step: CountArray) -> tuple[Carry, dict[str, Array]]:
        batch = batch_of(step)
        step_key = None if loss_key is None else jax.random.fold_in(loss_key, step)
        at_hand = batch, carry.model_state, step_key
        (loss, aux), grads = value_and_grad(carry.params, *at_hand)
        grads = optax.tree.conj(grads)  # of complex parameters the direction of ascent
        value_fn = lambda params: normal_form(params, *at_hand)[0]
        at = carry.params, carry.opt_state
        after = take_step("train", rule, value_fn, *at, known=(loss, grads))
        names = ("params", "opt_state", "model_state")
        new = dict(zip(names, (after.params, strong(after.state), aux.model_state), strict=True))
        record = {"loss": loss, **aux.metrics}
        record = {name: x.astype(averaging_dtype(x.dtype)) for name, x in record.items()}
        if not guarded:
            return carry._replace(**new, step=carry.step + 1), record
        seen = look_at(carry, grads, **new)
        alive = carry.alive & jnp.isfinite(loss) & jnp.all(jnp.concatenate(seen[1:]))
        old = {name: getattr(carry, name) for name in names}
        kept = jax.tree.map(lambda new, old: jnp.where(alive, new, old), new, old)
        record = jax.tree.map(lambda x: jnp.where(carry.alive, x, jnp.nan), record)
        num_taken = carry.step + alive.astype(carry.step.dtype)
        return carry._replace(**kept, step=num_taken, alive=alive), record

    start = initial_carry(params, opt_state, model_state)
    last, record = jax.lax.scan(one_step, start, jnp.arange(steps, dtype=jnp.int32))
    losses = record.pop("loss")
    finite = last.alive
    if not guarded:
        finite &= jnp.all(jnp.isfinite(losses)) & jnp.all(finite_leaves(last.params))
    return Trained(last.params, last.opt_state, losses, record, last.model_state, last.step, finite)


def _batch_of(batches: BatchesOf) -> Callable[[CountArray], Batch]:
    """Return a function from the step to its batch."""
    if callable(batches):
        check_call("train", "batches", batches, ("step",))
        return batches
    sizes = {name: jnp.shape(leaf)[:1] for name, leaf in named_leaves(batches)}
    if not sizes:
        return lambda _: batches  # a loss may need no data
    (first, size), *others = sizes.items()
    for name, other in ((first, size), *others):
        if other != size or not other or not other[0]:
            raise ValueError(
                "train needs batches with a common first axis, the steps, "
                f"got {size} at {first!r} and {other} at {name!r}."
            )
    arrays = jax.tree.map(jnp.asarray, batches)
    return lambda step: jax.tree.map(lambda leaf: leaf[step % size[0]], arrays)
