"""What an optimizer does first: its update, and what the update makes of the loss."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Inexact
from optax.contrib import SAMState

from jaxopt_tut.diagnostics.measuring.summaries import real
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers.inner import updated
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import Optimizer, Params, PyTree, Scalar

TINY_UPDATE = 1e-4
"""Root mean square of an update over that of its weight, below which it hardly moves it."""


class FirstStep(NamedTuple):
    """What `take_first_step` finds.

    Attributes:
      updates: One for each array; None without an optimizer.
      loss: After the update; NaN without an optimizer.
      expected_change: What the gradient promises for the update.
      growth: How many times as long the last update is as the one half-way to it; 1 if the first
        was not tiny.
      searches: Whether the optimizer looks at the loss before it steps, as line searches do.
    """

    updates: Sequence[Array] | None
    loss: Scalar
    expected_change: Scalar
    growth: Scalar
    searches: Bool[Array, ""]


def take_first_step(
    value_fn: Callable[[Params], Scalar],
    params: Params,
    gradient: PyTree,
    optimizer: Optimizer | None,
    num_updates: int = 1,
) -> FirstStep:
    """Take the first step of an optimizer, or follow it for some while it hardly moves."""
    # A first update may be no sample of what follows: a warm-up begins at a rate of 0, accumulation
    # waits for more gradients, an average starts empty, a rate that tunes itself starts tiny. So
    # the optimizer is followed on this batch until it moves, and the last update is the one to
    # judge. Sharpness-aware minimisation first climbs, and is followed until it is back.
    if optimizer is None:
        missing = jnp.full((), jnp.nan, jnp.result_type(float))
        return FirstStep(None, missing, missing, missing, jnp.zeros((), bool))
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    looks: list[Params] = []
    try:
        state = optimizer.init(params)
        step = partial(_step, optimizer, value_fn, looks)
        updates, growth = _try(step, value_fn, gradient, state, params, num_updates)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not reason.startswith("diagnose "):
            reason = f"diagnose needs an optimizer that takes a step, got one that says: {reason}"
        raise TypeError(reason) from error
    after = value_fn(optax.apply_updates(params, updates))
    # the products and squares of half precision leave its range, or vanish in it
    wide = at_least_single(after).dtype
    products = jax.tree.map(_inner, gradient, updates)
    change = sum(
        (leaf.astype(wide) for leaf in jax.tree.leaves(products)), jnp.zeros((), wide)
    ).astype(after.dtype)
    return FirstStep(jax.tree.leaves(updates), after, change, growth, jnp.asarray(bool(looks)))


def _try(
    step: Callable[[PyTree, PyTree, Params], tuple[PyTree, PyTree]],
    value_fn: Callable[[Params], Scalar],
    gradient: PyTree,
    state: PyTree,
    params: Params,
    num_updates: int,
) -> tuple[PyTree, Scalar]:
    """Return the last of some updates, and how much longer it is than the one half-way to it."""
    climbers = any(part.cache is not None for part in _climbers(state))
    updates, state = step(gradient, state, params)
    one = jnp.ones(())
    if num_updates == 1 and not climbers:
        return updates, one

    def goes_on(carry: tuple[Any, ...]) -> Bool[Array, ""] | bool:
        k, _, updates, state, _ = carry
        if climbers:
            return sum(part.steps_since_sync for part in _climbers(state)) != 0
        return (k < num_updates) & ~_does_move(updates, params)

    def follow(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        k, place, updates, state, halfway = carry
        place = optax.apply_updates(place, updates)
        updates, state = step(value_and_ascent(value_fn)(place)[1], state, place)
        norm = _norm(updates).astype(halfway.dtype)
        return k + 1, place, updates, state, jnp.where(k < num_updates // 2, norm, halfway)

    carry = jnp.ones((), jnp.int32), params, updates, state, one
    _, place, updates, _, halfway = lax.while_loop(goes_on, follow, carry)
    if climbers:  # what it has come to, not the way down alone
        place = optax.apply_updates(place, updates)
        return jax.tree.map(jnp.subtract, place, params), one
    norm = _norm(updates).astype(halfway.dtype)
    return updates, norm / jnp.where(halfway > 0, halfway, 1)


def _climbers(state: PyTree) -> list[SAMState]:
    """List the states of optimizers whose first update goes uphill on purpose."""
    leaves = jax.tree.leaves(state, is_leaf=lambda part: isinstance(part, SAMState))
    return [leaf for leaf in leaves if isinstance(leaf, SAMState)]


def _does_move(updates: PyTree, params: Params) -> Bool[Array, ""]:
    """Tell whether any update is more than tiny beside its weight."""

    def of_leaf(update: Array, leaf: Array) -> Bool[Array, ""]:
        moved, size = (jnp.sum(real(x) ** 2) for x in (update, leaf))
        return (size > 0) & (moved >= TINY_UPDATE**2 * size)

    leaves = jax.tree.leaves(jax.tree.map(of_leaf, updates, params))
    return jnp.any(jnp.stack(leaves))


def _inner(a: Inexact[Array, "..."], b: Inexact[Array, "..."]) -> Scalar:
    """Return what the direction of ascent promises for an update, in at least single precision."""
    product = at_least_single(jnp.conj(a)) * at_least_single(b)
    return jnp.sum(jnp.real(product))


def _norm(tree: PyTree) -> Scalar:
    return optax.tree.norm(jax.tree.map(at_least_single, tree))


def _step(
    optimizer: optax.GradientTransformation,
    value_fn: Callable[[Params], Scalar],
    looks: list[Params],
    gradient: PyTree,
    state: PyTree,
    params: Params,
) -> tuple[PyTree, PyTree]:
    """Return an update and the new state; note where the optimizer looks at the loss."""

    def watched(params: Params) -> Scalar:
        looks.append(params)
        return value_fn(params)

    known = value_fn(params), gradient
    # what climbs or measures curvature does not search
    ascent = lambda params: value_and_ascent(value_fn)(params)[1]
    rest = {"grad_fn": ascent, "obj_fn": value_fn}
    return updated("diagnose", optimizer, watched, params, state, known, **rest)
