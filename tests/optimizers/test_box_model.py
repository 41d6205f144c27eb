"""The quadratic model on a box, against dense matrices and a walk from bend to bend."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import scale_by_lbfgsb
from jaxopt_tut.optimizers.bfgs_matrix import compact_hessian, dense_hessian
from jaxopt_tut.optimizers.box_model import Box, cauchy_point, face_minimizer

DIM, MEMORY = 6, 4


def bfgs_matrix(steps, changes, theta):
    """Update a multiple of the identity by one pair after the other: Nocedal and Wright (6.19)."""
    matrix = theta * np.eye(len(steps[0]))
    for s, y in zip(steps, changes, strict=True):
        if np.any(s):
            bent = matrix @ s
            matrix += np.outer(y, y) / (y @ s) - np.outer(bent, bent) / (s @ bent)
    return matrix


def walk(matrix, x, g, lower, upper):
    """Follow the projected gradient from bend to bend until the model rises."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bends = np.where(g < 0, (x - upper) / g, np.where(g > 0, (x - lower) / g, np.inf))
    starts = [0.0, *sorted({t for t in bends if 0 < t < np.inf})]
    for begin, end in zip(starts, [*starts[1:], np.inf], strict=True):
        d = np.where(bends > begin, -g, 0)
        z = np.clip(x - begin * g, lower, upper) - x
        slope, curvature = g @ d + d @ matrix @ z, d @ matrix @ d
        if slope >= 0 or not np.any(d):
            break
        if -slope / curvature < end - begin:
            return x + z - slope / curvature * d
    return x + z


def face_minimum(matrix, x, g, start, lower, upper):
    free = (start > lower) & (start < upper)
    step = np.zeros(DIM)
    residual = (g + matrix @ (start - x))[free]
    step[free] = -np.linalg.solve(matrix[np.ix_(free, free)], residual)
    return np.clip(start + step, lower, upper)


def draw(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(DIM, DIM))
    hessian = root @ root.T + 0.1 * np.eye(DIM)
    pairs = rng.integers(0, MEMORY + 1)
    steps = np.zeros((MEMORY, DIM))
    steps[MEMORY - pairs :] = rng.normal(size=(pairs, DIM))
    lower = np.where(rng.random(DIM) < 0.3, -np.inf, rng.normal(size=DIM) - 1)
    upper = np.maximum(lower, -3) + rng.uniform(0, 3, size=DIM)
    upper = np.where(rng.random(DIM) < 0.3, np.inf, upper)
    upper = np.where((rng.random(DIM) < 0.1) & np.isfinite(lower), lower, upper)  # a single point
    x = np.clip(2 * rng.normal(size=DIM), lower, upper)
    x = np.where((rng.random(DIM) < 0.2) & np.isfinite(lower), lower, x)
    g = rng.normal(size=DIM) * (rng.random(DIM) > 0.1)
    return steps, steps @ hessian, rng.uniform(0.5, 3.0), x, g, lower, upper


@partial(jax.jit, static_argnums=0)
def model(make, steps, changes, theta, x, g, lower, upper):
    hessian, box = make(steps, changes, theta), Box(lower, upper)
    start = cauchy_point(hessian, x, g, box)
    matrix = jax.vmap(hessian.times)(jnp.eye(DIM))
    return matrix, start, face_minimizer(hessian, x, g, start, box)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("make", [compact_hessian, dense_hessian])
def test_points_equal_those_of_the_dense_matrix(make):
    for seed in range(200):
        steps, changes, theta, x, g, lower, upper = drawn = draw(seed)
        matrix, start, end = map(np.asarray, model(make, *drawn))
        dense = bfgs_matrix(steps, changes, theta)
        scale = np.abs(dense).max()
        # the pairs' Gram matrices have conditions up to 1e4: a million roundings
        np.testing.assert_allclose(matrix, dense, atol=1e6 * np.finfo(float).eps * scale)
        expected = walk(dense, x, g, lower, upper)
        np.testing.assert_allclose(start, expected, atol=1e-9, err_msg=str(seed))
        best = face_minimum(dense, x, g, expected, lower, upper)
        if g @ (best - x) < 0:  # else the step is cut instead
            np.testing.assert_allclose(end, best, atol=1e-8, err_msg=str(seed))
        assert np.all((lower <= end) & (end <= upper))


@pytest.mark.parametrize("make", [compact_hessian, dense_hessian])
def test_a_box_of_one_point_and_no_gradient_stay_where_they_are(make):
    x = jnp.arange(float(DIM))
    empty = jnp.zeros((MEMORY, DIM))
    for g, lower, upper in [
        (jnp.ones(DIM), x, x),
        (jnp.zeros(DIM), x - 1, x + 1),
        (jnp.zeros(DIM), jnp.full(DIM, -jnp.inf), jnp.full(DIM, jnp.inf)),
    ]:
        _, start, end = model(make, empty, empty, 1.0, x, g, lower, upper)
        np.testing.assert_array_equal(start, x)
        np.testing.assert_array_equal(end, x)


@pytest.mark.usefixtures("x64")
def test_a_path_of_many_bends_ends_at_the_first_minimum():
    dim = 60
    point = jax.jit(
        lambda *args: cauchy_point(compact_hessian(*args[:3]), *args[3:5], Box(*args[5:]))
    )
    most = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        curvatures = rng.uniform(0.01, 0.1, size=dim)
        steps = rng.normal(size=(3, dim))
        x, g = rng.uniform(size=dim), rng.normal(size=dim)
        drawn = steps, steps * curvatures, 0.05, x, g, np.zeros(dim), np.ones(dim)
        expected = walk(bfgs_matrix(*drawn[:3]), *drawn[3:])
        # 60 sums of products of about 1
        np.testing.assert_allclose(point(*drawn), expected, atol=1e-10, err_msg=str(seed))
        most = max(most, np.sum((expected == 0) | (expected == 1)))
    assert most > 2 * 16  # all at once instead of one after the other


@pytest.mark.usefixtures("x64")
def test_pairs_that_depend_on_one_another_are_forgotten():
    transform = scale_by_lbfgsb(memory=3)
    w, g = jnp.full(20, 0.3), jnp.cos(jnp.arange(20.0))
    # twice the same step, and a change of the gradient that is lost beside the other
    steps, changes = jnp.zeros((3, 20)).at[1:, 0].set(1.0), jnp.zeros((3, 20)).at[2, 0].set(1.0)
    state = transform.init(w)._replace(
        steps=steps,
        changes=changes.at[1, 0].set(1e-200),
        theta=jnp.ones([]),
        last_params=w - 0.1,
        last_grad=g + 0.1,  # no curvature: no new pair
        has_point=jnp.ones([], bool),
    )
    update, after = transform.update(g, state, w, bounds=(0.0, 1.0))
    assert float(jnp.vdot(update, g)) > 0
    assert np.all((w - update >= 0) & (w - update <= 1))
    assert not np.any(after.steps)
    assert bool(after.has_point)
