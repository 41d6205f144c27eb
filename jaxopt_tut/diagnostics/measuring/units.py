"""Numbers that tell of a layer's units and of its examples, beside the summaries of its values."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Inexact, Int, Shaped

from jaxopt_tut.diagnostics.measuring.summaries import MAX_GROUPED, Real, real
from jaxopt_tut.types import DTypeLike

SATURATED_SLOPE = 0.05
"""A unit counts as saturated where its activation's slope is below this, but not its value zero."""


class Activity(NamedTuple):
    """What a layer makes of a batch.

    Attributes:
      pre_activation: The values $z$.
      activation: The values $a$; None where no nonlinearity follows.
      before: The cotangents of what the nonlinearity reads; None where they are not known.
      after: The cotangents of $a$; None where they are not known.
    """

    pre_activation: Array
    activation: Array | None
    before: Array | None
    after: Array | None


class Axes(NamedTuple):
    """What the axes of an activity count.

    Attributes:
      num_steps: How many lead and count steps.
      examples: Those of the pre-activation that count examples.
      not_units: Those of the activation that count neither steps nor units.
    """

    num_steps: int
    examples: tuple[int, ...]
    not_units: tuple[int, ...]


class ActivityNumbers(NamedTuple):
    """Numbers of one layer, as `LayerStatistics` explains them, and the mean product of examples.

    That product is the average over units of the squared mean over the examples.
    """

    fraction_dead: Real
    fraction_saturated: Real
    mean_product: Real


def number_activities(activities: Sequence[tuple[Activity, Axes]]) -> list[ActivityNumbers]:
    r"""Compute the numbers of all layers, those of equal shapes together.

    $$\mathrm{dead} = E_u[\forall i: a_{iu} = 0], \quad
      \mathrm{saturated} = P(|\phi'(z)| < 0.05,\; a \ne 0), \quad
      \mathrm{product} = E_u\Bigl[\Bigl(\frac1n \sum_i z_{iu}\Bigr)^2\Bigr]$$

    The slope is known from $\partial L/\partial z = \phi'(z)\,\partial L/\partial a$. The last
    one gives the mean over pairs of examples without forming any, by
    $\sum_{i \ne j} z_i z_j = (\sum_i z_i)^2 - \sum_i z_i^2$.
    """
    groups: dict[Any, list[int]] = {}
    for k, (activity, axes) in enumerate(activities):
        shapes = tuple((array.shape, array.dtype) for array in activity if array is not None)
        present = tuple(array is not None for array in activity)
        alone = k if activity.pre_activation.size > MAX_GROUPED else None
        groups.setdefault((shapes, present, axes, alone), []).append(k)
    numbers = {}
    for (_, _, axes, _), members in groups.items():
        together = jax.tree.map(lambda *x: jnp.stack(x), *(activities[k][0] for k in members))
        columns = jax.vmap(partial(_number, axes=axes))(together)
        for i, k in enumerate(members):
            numbers[k] = jax.tree.map(lambda column, i=i: column[i], columns)
    return [numbers[k] for k in range(len(activities))]


def _number(activity: Activity, axes: Axes) -> ActivityNumbers:
    value, bent, before, after = activity
    value, steps = real(value), axes.num_steps
    dead = saturated = jnp.zeros(value.shape[:steps], value.dtype)
    if bent is not None:
        peaks = jnp.max(jnp.abs(real(bent)), axis=axes.not_units, keepdims=True)
        dead = _share(peaks == 0, steps, value.dtype)
        if before is not None and after is not None:
            is_flat = jnp.abs(before) < SATURATED_SLOPE * jnp.abs(after)
            known = _share(after != 0, steps, value.dtype)
            flat = _share(is_flat & (after != 0) & (bent != 0), steps, value.dtype)
            saturated = flat / jnp.where(known > 0, known, 1)
    mean = jnp.mean(value, axis=axes.examples, keepdims=True)
    return ActivityNumbers(dead, saturated, mean_square(mean, steps))


def _share(is_true: Bool[Array, "..."], num_steps: int, dtype: DTypeLike) -> Real:
    # Sums of floats: those of integers compile slowly.
    ones = jnp.where(is_true, jnp.ones((), dtype), 0)
    return jnp.mean(ones, axis=tuple(range(num_steps, ones.ndim)))


def mean_square(values: Shaped[Array, "..."], num_steps: int) -> Real:
    """Average the squares over all but the leading axes, which count steps."""
    return jnp.mean(real(values) ** 2, axis=tuple(range(num_steps, values.ndim)))


class UnitCounts(NamedTuple):
    """Counts of units, one entry for each step of each weight in turn.

    Attributes:
      distinct: Of different gradients that are not zero.
      active: Of gradients that are not zero.
    """

    distinct: Int[Array, "step"]
    active: Int[Array, "step"]


def count_units(gradients: Sequence[tuple[Array, tuple[int, ...], int]]) -> UnitCounts:
    """Count the units whose gradient is not zero, and the different gradients among them.

    Each unit's gradient is told by its product with one fixed vector. Equal ones may differ by
    rounding, some eps * sqrt(fan_in) < 1e-5 in single precision; different ones agree to that by
    chance about once in 10^5 pairs. All weights are sorted at once: a sort is dear to compile.
    """
    marks = [_mark(*gradient) for gradient in gradients]
    dtype = max((mark.dtype for mark in marks), key=lambda dtype: jnp.finfo(dtype).bits)
    widths = np.repeat([m.shape[1] for m in marks], [m.shape[0] for m in marks])
    rows = np.repeat(np.arange(len(widths)), widths)
    flat = jnp.concatenate([mark.reshape(-1).astype(dtype) for mark in marks])
    _, flat = lax.sort((jnp.asarray(rows, jnp.int32), flat), num_keys=2)
    is_active = jnp.isfinite(flat)
    starts = np.cumsum(widths) - widths

    def of_each(segment, values):
        return segment(values, rows, len(widths), indices_are_sorted=True)

    peaks = of_each(jax.ops.segment_max, jnp.where(is_active, jnp.abs(flat), 0))
    is_first = np.isin(np.arange(len(rows)), starts)
    is_new = is_active & (is_first | (jnp.diff(flat, prepend=-jnp.inf) > 1e-5 * peaks[rows]))
    counts = of_each(jax.ops.segment_sum, jnp.stack([is_new, is_active], 1).astype(jnp.int32))
    return UnitCounts(counts[:, 0], counts[:, 1])


def _mark(
    gradient: Inexact[Array, "..."], unit_axes: tuple[int, ...], num_steps: int
) -> Float[Array, "step unit"]:
    """Return one number for each unit, infinity where its gradient is zero."""
    steps = gradient.shape[:num_steps]
    axes = tuple(num_steps + axis for axis in unit_axes)
    units = jnp.moveaxis(real(gradient), axes, tuple(range(-len(axes), 0)))
    count = math.prod(gradient.shape[axis] for axis in axes)
    fan_in = gradient.size // max(math.prod(steps) * count, 1)
    units = units.reshape(math.prod(steps), fan_in, count)
    probe = jnp.cos(1.0 + jnp.arange(fan_in, dtype=units.dtype))
    # Not in the short products of accelerators, which would call close gradients equal.
    marks = jnp.einsum("i,siu->su", probe, units, precision=lax.Precision.HIGHEST)
    # The product of a gradient that is not zero is zero with probability zero.
    return jnp.where(marks != 0, marks, jnp.inf)
