"""Why a search goes on or ends: the first reason met, as a code of `solution`."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut.optimizers import solution as ended
from jaxopt_tut.optimizers.fit_verdict import Verdict
from jaxopt_tut.types import Params
from jaxopt_tut.vectors import ravel


class Limits(NamedTuple):
    """What the user allows; see `minimize`."""

    max_steps: Any
    gtol: Any
    ftol: Any
    xtol: Any


class Point(NamedTuple):
    """Where a search is."""

    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]


def is_finite(point: Point) -> Bool[Array, ""]:
    """Tell whether a point can be used."""
    return jnp.isfinite(point.value) & jnp.isfinite(point.grad_norm)


def first_status(start: Point, limits: Limits, is_fit: bool) -> Int[Array, ""]:
    """Return the code at the start."""
    status = jnp.where(limits.max_steps > 0, ended.RUNNING, ended.MAX_STEPS)
    # a fit looks at its Jacobian first, in a step
    is_small = (start.grad_norm <= limits.gtol) & ((not is_fit) | (limits.max_steps <= 0))
    status = jnp.where(is_small, ended.GRADIENT, status)
    return jnp.where(is_finite(start), status, ended.NON_FINITE_START)


def next_status(
    old: Point,
    new: Point,
    steps: Int[Array, ""],
    failures: Int[Array, ""],
    falls: Bool[Array, ""],
    stays: Bool[Array, ""],
    stuck: Bool[Array, ""],
    limits: Limits,
    verdict: Verdict | None,
    by_offset: bool,
) -> Int[Array, ""]:
    """Return the code of the first reason to stop; later lines overrule earlier ones."""
    # failures: in a row; falls: though they failed; stuck: no step will move any more
    # verdict: of a fit, on the old point; by_offset: it decides, as there is no gtol of the user's
    moved = ravel(new.params)[0] - ravel(old.params)[0]
    status = jnp.where(steps >= limits.max_steps, ended.MAX_STEPS, ended.RUNNING)
    status = jnp.where(failures >= 2, jnp.where(falls, ended.UNBOUNDED, ended.FAILED), status)
    status = jnp.where(stuck, ended.STUCK, status)
    # a step that failed or was rejected does not move, which is not convergence
    change, size = jnp.abs(new.value - old.value), jnp.maximum(1, jnp.abs(new.value))
    status = jnp.where(~stays & (jnp.max(jnp.abs(moved)) <= limits.xtol), ended.STEP, status)
    status = jnp.where(~stays & (change <= limits.ftol * size), ended.VALUE, status)
    is_small = new.grad_norm <= limits.gtol
    if verdict is not None:
        has_failed = failures >= 2
        enough = (
            verdict.arrived if by_offset else verdict.exhausted | (verdict.arrived & has_failed)
        )
        status = jnp.where(enough, ended.ORTHOGONAL, status)
        # in some units any gradient is small
        is_small &= (enough | has_failed) if by_offset else (old.grad_norm <= limits.gtol)
    status = jnp.where(is_small, ended.GRADIENT, status)
    if verdict is not None:
        ends = (status != ended.RUNNING) & (status != ended.MAX_STEPS)
        status = jnp.where(ends & verdict.vanished, ended.VANISHED, status)
    status = jnp.where(is_finite(new), status, ended.NON_FINITE)
    info = jnp.finfo(new.value.dtype)
    return jnp.where(new.value < -float(info.max) * float(info.eps), ended.UNBOUNDED, status)
