"""BFGS and L-BFGS against the formulas they compress."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.optimizers import (
    bfgs,
    lbfgs,
    lbfgsb,
    line_search,
    minimize,
    scale_by_bfgs,
    scale_by_lbfgs,
)

NUM_STEPS, DIM = 7, 5


def trajectory():
    """Gradients of a convex function that is no quadratic, at points that are no descent."""
    points = 0.5 * jax.random.normal(jax.random.key(3), (NUM_STEPS, DIM))
    fun = lambda w: jnp.sum(jnp.cosh(jnp.arange(1.0, DIM + 1, dtype=w.dtype) * w)) + jnp.sum(w) ** 2
    return points, jax.vmap(jax.grad(fun))(points)


def run(transform, points, grads):
    state = transform.init(points[0])
    update = jax.jit(transform.update)
    for w, g in zip(points, grads, strict=True):
        direction, state = update(g, state, w)
    return direction, state


def inverse_hessian(points, grads, memory, is_scaled):
    """The product form, eq. (6.17) of Nocedal and Wright, in NumPy."""
    pairs = list(zip(np.diff(points, axis=0), np.diff(grads, axis=0), strict=True))[-memory:]
    s, y = pairs[-1]
    h = np.eye(DIM) * ((s @ y) / (y @ y) if is_scaled else 1)
    for s, y in pairs:
        v = np.eye(DIM) - np.outer(y, s) / (s @ y)
        h = v.T @ h @ v + np.outer(s, s) / (s @ y)
    return h


@pytest.mark.parametrize(
    ("transform", "memory", "is_scaled"),
    [
        (scale_by_bfgs(), NUM_STEPS, False),
        (scale_by_lbfgs(3), 3, True),
        (scale_by_lbfgs(1), 1, True),
        (scale_by_lbfgs(10), 10, True),
    ],
    ids=["bfgs", "lbfgs-3", "lbfgs-1", "lbfgs-10"],
)
@pytest.mark.usefixtures("x64")
def test_matches_the_product_form(transform, memory, is_scaled):
    points, grads = (a.astype(jnp.float64) for a in trajectory())
    direction, _ = run(transform, points, grads)
    expected = inverse_hessian(np.asarray(points), np.asarray(grads), memory, is_scaled) @ grads[-1]
    np.testing.assert_allclose(direction, expected, rtol=1e-10)


@pytest.mark.slow
def test_matches_the_two_loop_recursion_of_optax():
    points, grads = trajectory()
    ours, _ = run(scale_by_lbfgs(4), points, grads)
    theirs, _ = run(optax.scale_by_lbfgs(memory_size=4), points, grads)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # float32, condition about 1e2


@pytest.mark.slow
@pytest.mark.parametrize("make", [scale_by_bfgs, scale_by_lbfgs])
@pytest.mark.usefixtures("x64")
def test_a_pair_of_negative_curvature_is_left_out(make):
    points, grads = trajectory()
    _, state = run(make(), points, grads)
    # the gradient falls along the step although it should rise; the matrix stays what it was, so
    # that it maps the last good pair as before
    direction, after = make().update(grads[-1] - 0.1, state, points[-1] + 0.1)
    s, y = points[-1] - points[-2], grads[-1] - grads[-2]
    against = points[-1] + 0.1 - 0.1 * y  # so that this pair is left out, too
    mapped = make().update(grads[-1] - 0.1 + y, after, against)[0] - direction
    np.testing.assert_allclose(mapped, s, rtol=1e-8)


@pytest.mark.usefixtures("x64")
def test_a_pair_left_out_of_a_full_memory_displaces_none():
    points, grads = (a.astype(jnp.float64) for a in trajectory())
    _, state = run(scale_by_lbfgs(3), points, grads)
    direction, _ = scale_by_lbfgs(3).update(grads[-1] - 0.1, state, points[-1] + 0.1)
    matrix = inverse_hessian(np.asarray(points), np.asarray(grads), 3, is_scaled=True)
    np.testing.assert_allclose(direction, matrix @ (grads[-1] - 0.1), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("make", [scale_by_bfgs, scale_by_lbfgs])
def test_starts_afresh_after_a_step_that_did_not_move(make):
    points, grads = trajectory()
    _, state = run(make(), points, grads)
    direction, _ = make().update(grads[-1], state, points[-1])
    g = grads[-1]
    np.testing.assert_allclose(direction, g / jnp.maximum(1, jnp.linalg.norm(g)), rtol=1e-6)


@pytest.mark.parametrize("make", [scale_by_bfgs, scale_by_lbfgs])
@pytest.mark.usefixtures("x64")
def test_starts_afresh_after_a_step_within_rounding(make):
    points, grads = (a.astype(jnp.float64) for a in trajectory())
    _, state = run(make(), points, grads)
    w, g = points[-1] * (1 + 2**-52), grads[-1] * (1 + 1e-9)  # curved, but by rounding alone
    direction, after = make().update(g, state, w)
    np.testing.assert_allclose(direction, g / jnp.maximum(1, jnp.linalg.norm(g)), rtol=1e-12)
    # nor is the pair remembered: the next one is the first
    s, y = jnp.full(len(w), 1e-3), jnp.arange(1.0, len(w) + 1)
    direction, _ = make().update(y, after._replace(last_grad=jnp.zeros_like(y)), w + s)
    np.testing.assert_allclose(direction, s, rtol=1e-9)


@pytest.mark.parametrize("make", [bfgs, lbfgs])
@pytest.mark.usefixtures("x64")
def test_ends_on_a_quadratic_after_as_many_steps_as_it_has_dimensions(make):
    fun = lambda w: 0.5 * jnp.sum(jnp.array([1.0, 4.0, 9.0, 16.0]) * w**2) - jnp.sum(w)
    optimizer = make(line_search=line_search.exact())
    solution = minimize(fun, jnp.zeros(4), optimizer, gtol=1e-9)
    # with exact searches the steps are conjugate; one more for the rounding of the searches
    assert solution.steps <= 5
    np.testing.assert_allclose(solution.params, 1 / jnp.array([1.0, 4.0, 9.0, 16.0]), rtol=1e-9)


def test_memory_is_a_positive_integer():
    with pytest.raises(ValueError, match="lbfgs needs an integer memory >= 1, got memory=0"):
        lbfgs(memory=0)
    with pytest.raises(ValueError, match=r"lbfgs needs an integer memory >= 1, got memory=2\.5"):
        lbfgs(memory=2.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [bfgs, lbfgs])
def test_arguments_are_named_in_errors(make):
    name, w = make.__name__, jnp.ones(2)
    state = make().init(w)
    with pytest.raises(ValueError, match=f"{name} needs params"):
        make().update(w, state, value_fn=jnp.sum)
    with pytest.raises(ValueError, match="wolfe needs value_fn"):
        make().update(w, state, w)
    with pytest.raises(ValueError, match=f"{name} needs a finite learning_rate, got"):
        make(float("nan"))
    with pytest.raises(TypeError, match=f"{name} needs floating or complex parameters"):
        make().init(jnp.arange(3))


@pytest.mark.parametrize("make", [lbfgs, lbfgsb])
def test_a_memory_may_be_an_integer_of_numpy(make):
    bowl = lambda w: jnp.sum((w - 1) ** 2)
    assert minimize(bowl, jnp.zeros(2), make(memory=np.int64(3))).converged
