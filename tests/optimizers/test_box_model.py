"""The quadratic model on a box, against dense matrices and a walk from bend to bend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers.box_model import Box, cauchy_point, compact_hessian, face_minimizer

DIM, MEMORY = 6, 4


def bfgs_matrix(steps, changes, theta):
    """Update a multiple of the identity by one pair after the other: Nocedal and Wright (6.19)."""
    matrix = theta * np.eye(DIM)
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


@jax.jit
def model(steps, changes, theta, x, g, lower, upper):
    hessian, box = compact_hessian(steps, changes, theta), Box(lower, upper)
    start = cauchy_point(hessian, x, g, box)
    theta, w, m_inverse = hessian
    matrix = theta * jnp.eye(DIM) - w @ jnp.linalg.solve(m_inverse, w.T)
    return matrix, start, face_minimizer(hessian, x, g, start, box)


@pytest.mark.usefixtures("x64")
def test_points_equal_those_of_the_dense_matrix():
    for seed in range(200):
        steps, changes, theta, x, g, lower, upper = drawn = draw(seed)
        matrix, start, end = map(np.asarray, model(*drawn))
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


def test_a_box_of_one_point_and_no_gradient_stay_where_they_are():
    x = jnp.arange(float(DIM))
    empty = jnp.zeros((MEMORY, DIM))
    for g, lower, upper in [
        (jnp.ones(DIM), x, x),
        (jnp.zeros(DIM), x - 1, x + 1),
        (jnp.zeros(DIM), jnp.full(DIM, -jnp.inf), jnp.full(DIM, jnp.inf)),
    ]:
        _, start, end = model(empty, empty, 1.0, x, g, lower, upper)
        np.testing.assert_array_equal(start, x)
        np.testing.assert_array_equal(end, x)
