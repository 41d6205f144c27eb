"""Projections against closed forms in NumPy's float64, from scales of 1e-25 to 1e25."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.optimizers import projections
from jaxopt_tut.optimizers.norms import L1, L2, LInf

DIM = 5
SCALES = [1e-25, 1e-12, 1.0, 1e12, 1e25]


def onto_simplex(x, total):
    """Try every number of largest coordinates; exact rational arithmetic."""
    x, total = [Fraction(float(v)) for v in x], Fraction(float(total))
    for count in range(1, len(x) + 1):
        level = (sum(sorted(x)[-count:]) - total) / count
        new = [max(v - level, Fraction(0)) for v in x]
        if sum(v > 0 for v in new) <= count and sum(new) == total:
            return np.array([float(v) for v in new])
    raise AssertionError("some number of coordinates always fits")


def onto_l1_ball(x, radius):
    if sum(Fraction(abs(float(v))) for v in x) <= Fraction(float(radius)):
        return x
    return np.sign(x) * onto_simplex(np.abs(x), radius)


def onto_l2_ball(x, radius):
    return x * min(1, radius / np.linalg.norm(x))


def along(x, a, b, part):
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(a)
    return x - part(a @ x - b) * a


# projection of (x, vector, number), the same by NumPy, and the size that its rounding has
SETS = {
    "l1": (
        lambda x, _, r: projections.ball(r, L1())(x),
        lambda x, _, r: onto_l1_ball(x, r),
        lambda *arguments: arguments[2],
    ),
    "l2": (
        lambda x, _, r: projections.ball(r, L2())(x),
        lambda x, _, r: onto_l2_ball(x, r),
        lambda *arguments: arguments[2],
    ),
    "linf": (
        lambda x, _, r: projections.ball(r, LInf())(x),
        lambda x, _, r: np.clip(x, -r, r),
        lambda *_: 0,
    ),
    "simplex": (
        lambda x, _, s: projections.simplex(s)(x),
        lambda x, _, s: onto_simplex(x, s),
        lambda *arguments: arguments[2],
    ),
    "box": (
        lambda x, a, _: projections.box(-abs(a), abs(a))(x),
        lambda x, a, _: np.clip(x, -abs(a), abs(a)),
        lambda *_: 0,
    ),
    "hyperplane": (
        lambda x, a, b: projections.hyperplane(a, b)(x),
        lambda x, a, b: along(x, a, b, lambda gap: gap),
        lambda x, a, b: np.linalg.norm(x) + b / np.linalg.norm(a),
    ),
    "half_space": (
        lambda x, a, b: projections.half_space(a, b)(x),
        lambda x, a, b: along(x, a, b, lambda gap: max(gap, 0)),
        lambda x, a, b: np.linalg.norm(x) + b / np.linalg.norm(a),
    ),
    "affine": (
        lambda x, a, b: projections.affine(jnp.stack([a, -2 * a]), jnp.stack([b, -2 * b]))(x),
        lambda x, a, b: along(x, a, b, lambda gap: gap),
        lambda x, a, b: np.linalg.norm(x) + b / np.linalg.norm(a),
    ),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("project", "expect", "size"), SETS.values(), ids=SETS)
def test_the_nearest_point_at_any_scale(project, expect, size, dtype):
    rng, eps = np.random.default_rng(0), np.finfo(dtype).eps
    points, vectors, numbers = [], [], []
    for point_scale in SCALES:
        for scale in SCALES:
            for vector_scale in SCALES:
                if scale / vector_scale > 1e30 or scale / vector_scale < 1e-30:
                    continue  # the set's distance from 0 is no number of float32
                points.append(point_scale * rng.standard_normal(DIM))
                vectors.append(vector_scale * rng.standard_normal(DIM))
                numbers.append(scale * rng.uniform(0.5, 2))
    with jax.enable_x64(dtype == "float64"):
        arguments = [jnp.asarray(np.array(v).astype(dtype)) for v in (points, vectors, numbers)]
        batched = jax.jit(jax.vmap(project))
        found = batched(*arguments)
        again = batched(found, *arguments[1:])
        exact = zip(*[np.asarray(a).astype(float) for a in arguments], strict=True)
        tiny = np.finfo(dtype).tiny
        for p, q, (x, a, b) in zip(np.asarray(found), np.asarray(again), exact, strict=True):
            # sums and sorts of five numbers: ten roundings of what the set or the point is made of
            atol = 10 * eps * size(x, a, b) + tiny
            np.testing.assert_array_less(np.abs(p - expect(x, a, b)), atol + 2 * eps * np.abs(p))
            np.testing.assert_array_less(np.abs(q - p), atol + 2 * eps * np.abs(p))
