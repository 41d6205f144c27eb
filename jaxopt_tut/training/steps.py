"""The compiled part of `fit`: one update, and as many of them in one dispatch as asked for."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Integer
from typing_extensions import TypeAliasType

from jaxopt_tut.losses import Aux
from jaxopt_tut.optimizers.inner import take_step
from jaxopt_tut.splitting import ModelParts
from jaxopt_tut.training import accumulation
from jaxopt_tut.training.accumulation import Parts, Total
from jaxopt_tut.training.arguments import take_model
from jaxopt_tut.training.data import AnyKey, Window, batch_at
from jaxopt_tut.training.losses import loss_and_aux
from jaxopt_tut.training.scalars import check_call
from jaxopt_tut.training.sharding import Places, at_use
from jaxopt_tut.types import Batch, LossFn, Number, Optimizer, Params, PyTree

Flags = TypeAliasType("Flags", Bool[Array | np.ndarray, "leaves"])
"""A truth value a leaf, on the device or fetched."""


class Finite(NamedTuple):
    """Whether the last step met finite numbers, a flag a leaf: what a stop is explained by."""

    gradient: Flags
    params: Flags
    """Of the parameters that the update led to, whether or not they were taken."""
    model_state: Flags
    """False where a number that was finite is not any longer."""
    opt_state: Flags
    """False where there is a NaN that was not there; infinities are initial values of some."""


class Draw(NamedTuple):
    """What a loss draws by: in step t of the run, counted from 0, by `fold_in(key, t)`."""

    key: AnyKey
    start: Integer[Array, ""] | np.integer
    """Steps before this epoch."""

    def key_of(self, step: Integer[Array, ""] | np.integer) -> AnyKey:
        """Make the key of a step of the epoch."""
        return jax.random.fold_in(self.key, self.start + step.astype(np.uint32))


class Carry(NamedTuple):
    """What one step hands to the next; its buffers are donated."""

    params: Params
    opt_state: PyTree
    model_state: PyTree
    step: Int[Array, ""]
    """Steps taken in this epoch."""
    alive: Bool[Array, ""]
    """False from the first step on that cannot be taken."""
    finite: Finite | None
    """Of exact steps."""
    record: dict[str, Float[Array, "steps"]]
    """Loss and metrics of every step of this epoch, and of the one that could not be taken."""


copied = jax.jit(partial(jax.tree.map, jnp.copy))
"""A copy outlives the steps, which donate their buffers."""


def finite_leaves(tree: PyTree) -> Bool[Array, "leaves"]:
    """Tell for each leaf whether all its numbers are finite."""
    return _flags(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree))


def unspoilt_leaves(
    good: Callable[[Array], Array], new: PyTree, old: PyTree
) -> Bool[Array, "leaves"]:
    """Tell for each leaf whether its numbers are good where they were; what is no float is."""
    return _flags(
        jnp.all(good(leaf) | ~good(before)) if is_inexact(before) else True
        for leaf, before in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True)
    )


def with_ones(where: Callable[[Array], Array], tree: PyTree) -> PyTree:
    """Put 1 in place of some numbers of a tree: unlike 0, it can be divided by."""
    return jax.tree.map(
        lambda leaf: (
            jnp.where(where(leaf), jnp.ones_like(leaf), leaf) if is_inexact(leaf) else leaf
        ),
        tree,
    )


def is_inexact(leaf: Array) -> bool:
    """Tell whether a leaf has numbers that need not be finite."""
    return jnp.issubdtype(leaf.dtype, jnp.inexact)


def _flags(leaves: Iterable[Number]) -> Bool[Array, "leaves"]:
    return jnp.stack([jnp.bool_(True), *map(jnp.asarray, leaves)])[1:]  # also of no leaf


@partial(jax.jit, static_argnames=("init", "optimizer"))
def initial_state(
    key: AnyKey, init: Callable[[AnyKey], PyTree], optimizer: Optimizer
) -> tuple[ModelParts, PyTree]:
    """Draw parameters and build the optimizer state in one program: eagerly it takes seconds."""
    parts = take_model("fit", _drawn(key, init))
    return parts, optimizer.init(parts.trained)


def _drawn(key: AnyKey, init: Callable[[AnyKey], PyTree]) -> PyTree:
    """Draw a model; a class of flax nnx wants its key in an `nnx.Rngs`."""
    modules = sys.modules.get("flax.nnx")
    if modules is None or not (isinstance(init, type) and issubclass(init, modules.Module)):
        check_call("fit", "init", init, ("key",))
        return init(key)
    try:
        return init(key)
    except (AttributeError, TypeError) as error:
        name = init.__name__
        raise TypeError(
            f"fit needs a module, or init(key) that makes one, got the class {name}, which cannot "
            f"be called with a key ({error}): write lambda key: {name}(rngs=nnx.Rngs(key))."
        ) from error


@partial(jax.jit, static_argnames="optimizer")
def initial_opt_state(params: Params, optimizer: Optimizer) -> PyTree:
    """Build the optimizer's state."""
    return optimizer.init(params)


@jax.jit
def initial_carry(params: Params, opt_state: PyTree, model_state: PyTree) -> Carry:
    """Start an epoch; without a record, and dead if a parameter is not finite."""
    alive = jnp.all(finite_leaves(params))
    return Carry(params, opt_state, model_state, jnp.int32(0), alive, finite=None, record={})


def look_at(
    before: Carry, grads: Params, params: Params, opt_state: PyTree, model_state: PyTree
) -> Finite:
    """Look at what a step, or many, led to."""
    is_number = lambda leaf: ~jnp.isnan(leaf)
    return Finite(
        gradient=finite_leaves(grads),
        params=finite_leaves(params),
        model_state=unspoilt_leaves(jnp.isfinite, model_state, before.model_state),
        opt_state=unspoilt_leaves(is_number, opt_state, before.opt_state),
    )


@jax.jit
def look_back(carry: Carry, before: Carry) -> Finite:
    """Look at what the steps of an epoch led to; there is no gradient."""
    return look_at(before, before.params, carry.params, carry.opt_state, carry.model_state)


@partial(
    jax.jit,
    static_argnames=(
        "loss_fn",
        "optimizer",
        "has_model_state",
        "one_step_per_call",
        "accumulate",
        "places",
        "exact",
        "mended",
    ),
    donate_argnames=("carry",),
)
def run_steps(
    carry: Carry,
    window: Window,
    stop: Integer[Array, ""] | np.integer,
    draw: Draw | None = None,
    total: Total | None = None,
    *,
    loss_fn: LossFn,
    optimizer: Optimizer,
    has_model_state: bool,
    one_step_per_call: bool,
    accumulate: int = 1,
    places: Places | None = None,
    exact: bool = False,
    mended: bool = False,
) -> Carry:
    """Take the steps of the epoch before `stop` that are left.

    A step is taken if its loss is finite; an `exact` one if also what it leads to is: parameters,
    model state, and an optimizer state without NaN, whether or not the gradient is, which the
    optimizer may skip. On CPU exact steps of a small network took 1.2 times as long. Of a `mended`
    gradient every number that is not finite is 1: would the step be taken then? Where `accumulate`
    micro-batches make a batch, `total` is the sum over those of one step, if that is known.
    """
    rule: Any = optimizer  # MultiSteps takes steps like any other
    normal_form = at_use(places, loss_and_aux(loss_fn, has_model_state))

    def look(carry: Carry) -> tuple[tuple[tuple[Array, Aux], Params], Callable[[Params], Array]]:
        parts = _parts(carry, window, draw, accumulate, places)
        if accumulate == 1:
            batch, key = parts.batch_of(jnp.int32(0)), parts.key
            at_hand = batch, carry.model_state, key
            seen = jax.value_and_grad(normal_form, has_aux=True)(carry.params, *at_hand)
            return seen, lambda params: normal_form(params, *at_hand)[0]
        sums = total
        if sums is None:
            start = accumulation.nothing_yet(carry.params, carry.model_state, carry.record)
            sums = accumulation.add_parts(start, carry.params, normal_form, parts)
        at = carry.model_state, normal_form, parts
        seen = accumulation.means(sums, carry.params, accumulate)
        return seen, lambda params: accumulation.mean_loss(params, *at)

    def one_step(carry: Carry) -> Carry:
        ((loss, aux), grads), value_fn = look(carry)
        grads = optax.tree.conj(grads)  # of complex parameters the direction of ascent
        if mended:
            grads = with_ones(lambda leaf: ~jnp.isfinite(leaf), grads)
        alive = carry.alive & jnp.isfinite(loss)

        def update():
            at = carry.params, carry.opt_state
            after = take_step("fit", rule, value_fn, *at, known=(loss, grads))
            return after.params, after.state, aux.model_state

        def keep():
            return carry.params, carry.opt_state, carry.model_state

        def update_if_finite():
            new = update()
            finite = look_at(carry, grads, *new)
            taken = jnp.all(jnp.concatenate(finite[1:]))
            chosen = jax.tree.map(lambda new, old: jnp.where(taken, new, old), new, keep())
            return chosen, taken, finite

        # A branch: a select on every leaf cost 7 % of a step on CPU.
        finite = carry.finite
        if exact:
            kept = lambda: (keep(), jnp.bool_(False), finite)
            new, alive, finite = jax.lax.cond(alive, update_if_finite, kept)
        else:
            new = jax.lax.cond(alive, update, keep)
        params, opt_state, model_state = new
        record = {"loss": loss, **(aux.metrics or {})}
        after = Carry(
            params=params,
            opt_state=opt_state,
            model_state=model_state,
            step=carry.step + alive.astype(carry.step.dtype),
            alive=alive,
            finite=finite,
            record={
                name: column.at[carry.step].set(record[name].astype(column.dtype))
                for name, column in carry.record.items()
            },
        )
        return after if places is None else places.kept(after)

    if one_step_per_call:  # straight-line code: on CPU a loop around the step was slower
        return one_step(carry)
    return jax.lax.while_loop(lambda carry: carry.alive & (carry.step < stop), one_step, carry)


@partial(
    jax.jit,
    static_argnames=("loss_fn", "has_model_state", "accumulate", "places"),
    donate_argnames=("total",),
)
def add_micro_batch(
    total: Total,
    carry: Carry,
    window: Window,
    index: Integer[Array, ""] | np.integer,
    draw: Draw | None = None,
    *,
    loss_fn: LossFn,
    has_model_state: bool,
    accumulate: int,
    places: Places | None = None,
) -> Total:
    """Add a micro-batch of the next step, the first of which forgets what was summed before.

    One dispatch each: on CPU gradients of convolutions took five times as long in a loop, and
    unrolled all of them were held in memory at once.
    """
    normal_form = at_use(places, loss_and_aux(loss_fn, has_model_state))
    total = accumulation.restarted(total, carry.model_state, index == 0)
    parts = _parts(carry, window, draw, accumulate, places)
    return accumulation.add_part(total, carry.params, normal_form, parts, jnp.asarray(index))


def _parts(
    carry: Carry, window: Window, draw: Draw | None, count: int, places: Places | None
) -> Parts:
    """Tell how the batch of the next step is had in parts; each is split over the devices."""

    def batch_of(index: Integer[Array, ""]) -> Batch:
        batch = batch_at(window, carry.step, index, count)
        if places is None:
            return batch
        return jax.lax.with_sharding_constraint(batch, places.batch)

    return Parts(count, batch_of, draw and draw.key_of(carry.step))
