"""Paths between models against closed forms, and the loss along them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.landscape import Path, bezier_path, linear_path, path_loss
from jaxopt_tut.training import Aux

A = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
B = {"w": jnp.array([3.0, 1.0]), "b": jnp.array([-1.0])}
C = {"w": jnp.array([0.0, 5.0]), "b": jnp.array([2.0])}


def bowl(params, batch):
    error = optax.tree.norm(params, squared=True)
    return error * jnp.mean(batch), Aux({"size": jnp.sqrt(error)})


def test_a_line_and_a_curve_are_their_polynomials():
    t = 0.3
    for name in A:
        line, curve = linear_path(A, B)(t)[name], bezier_path(A, C, B)(t)[name]
        # a rounding of each of three products and of their sum
        np.testing.assert_allclose(line, 0.7 * A[name] + 0.3 * B[name], rtol=1e-6)
        expected = 0.49 * A[name] + 0.42 * C[name] + 0.09 * B[name]
        np.testing.assert_allclose(curve, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", [linear_path(A, B), bezier_path(A, C, B)], ids=["line", "curve"])
def test_paths_begin_and_end_exactly_where_they_should(path):
    for t, end in ((0, A), (1.0, B)):
        for one, other in zip(jax.tree.leaves(path(t)), jax.tree.leaves(end), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_path_is_a_pytree_that_is_mapped_and_differentiated():
    points = jax.vmap(bezier_path(A, C, B))(jnp.linspace(0, 1, 3))
    assert points["w"].shape == (3, 2)
    slope = jax.jacfwd(jax.jit(lambda path, t: path(t)), argnums=1)(bezier_path(A, C, B), 0.0)
    np.testing.assert_allclose(slope["w"], 2 * (C["w"] - A["w"]))


def test_a_quadratic_along_a_line_has_its_closed_form():
    batch = jnp.array([1.0, 2.0, 6.0])
    along = path_loss(bowl, linear_path(A, B), batch, num_points=5)
    t = np.linspace(0, 1, 5)
    squares = sum(((1 - t) * a + t * b) ** 2 for a, b in [(1, 3), (-2, 1), (0.5, -1)])
    np.testing.assert_allclose(along.t, t)
    np.testing.assert_allclose(along.loss, 3 * squares, rtol=1e-6)
    np.testing.assert_allclose(along.metrics["size"], np.sqrt(squares), rtol=1e-6)
    assert along.barrier == 0  # a convex loss lies below its chord


@pytest.mark.parametrize("batches", [[jnp.ones(4)], [jnp.ones(1), jnp.ones(3)]], ids=["one", "two"])
def test_the_barrier_is_what_rises_above_the_line_between_the_ends(batches):
    # (1 - t) 2 + t 4 + 8 t (1 - t): it rises by 2 in the middle
    rise = lambda w, batch: (2 + 2 * w + 8 * w * (1 - w)) * jnp.mean(batch)
    path = linear_path(jnp.array(0.0), jnp.array(1.0))
    whole = path_loss(rise, path, *batches)
    np.testing.assert_allclose(whole.barrier, 2, rtol=1e-6)
    inside = path_loss(rise, path, *batches, coords=[0.25, 0.75], batch_size=1)
    np.testing.assert_allclose(inside.barrier, 1.5, rtol=1e-6)
    assert inside.loss.shape == (2,)


@pytest.mark.parametrize(
    ("coords", "barrier"),
    [
        ([-1.0, 2.0], 0.0),
        ([-1.0, 0.5, 2.0], 2.0),
        ([0.0, 1.0], 0.0),
        ([-0.25, 0.25], 1.5),
        ([5], 0.0),
    ],
)
@pytest.mark.parametrize("wrap", [lambda fn: fn, jax.jit], ids=["plain", "jit"])
def test_places_beyond_the_ends_have_no_part_in_the_barrier(coords, barrier, wrap):
    # (1 - t) 2 + t 4 + 8 t (1 - t), and high walls beyond both ends
    rise = lambda w: 2 + 2 * w + 8 * w * (1 - w) + 1e4 * jax.nn.relu(jnp.abs(w - 0.5) - 0.5)
    call = lambda b: path_loss(rise, linear_path(jnp.array(0.0), b), coords=coords)
    along = wrap(call)(jnp.array(1.0))
    np.testing.assert_allclose(along.barrier, barrier, rtol=1e-6)
    np.testing.assert_allclose(along.loss, [rise(t) for t in coords], rtol=1e-6)


def test_a_loss_that_is_not_finite_beyond_the_ends_hides_no_barrier():
    # log(1 + t) + 1 - 4 (t - .5)^2 is NaN at -2
    bump = lambda w: jnp.log(1 + w) + 1 - 4 * (w - 0.5) ** 2
    path = linear_path(jnp.array(0.0), jnp.array(1.0))
    along = path_loss(bump, path, coords=[-2.0, 0.5])
    np.testing.assert_allclose(along.barrier, np.log(1.5) + 1 - np.log(2) / 2, rtol=1e-6)
    assert np.isnan(along.loss[0])
    # but at an end it does, wherever the places are
    broken = lambda w: jnp.log(w)
    assert np.isnan(path_loss(broken, path, coords=[0.5]).barrier)


@pytest.mark.parametrize("path", [linear_path(A, B), bezier_path(A, C, B)], ids=["line", "curve"])
def test_a_path_is_called_with_one_place(path):
    for several in (jnp.array([0.1, 0.2]), np.zeros((1, 1)), jnp.zeros(0)):
        with pytest.raises(ValueError, match=r"Path needs a scalar t, got shape \("):
            path(several)
    for other in ("0.5", None, [0.1, 0.2], 1j):
        with pytest.raises(TypeError, match=r"Path needs a real number as t, got t="):
            path(other)
    stacked = jax.vmap(path)(jnp.array([0.1, 0.2]))
    for index, t in enumerate((0.1, 0.2)):
        np.testing.assert_allclose(stacked["w"][index], path(t)["w"], rtol=1e-6)


def test_a_path_of_ones_own_is_a_function_of_t():
    circle = lambda t: {"w": jnp.stack([jnp.cos(jnp.pi * t), jnp.sin(jnp.pi * t)])}
    along = path_loss(lambda p, _: p["w"][1], circle, num_points=3)
    np.testing.assert_allclose(along.loss, [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(along.barrier, 1, rtol=1e-6)


def test_a_loss_of_the_parameters_alone_needs_no_batch():
    wells = lambda w: jnp.sum((w**2 - 1) ** 2)
    path = linear_path(-jnp.ones(2), jnp.ones(2))
    alone, beside = (path_loss(fn, path) for fn in (wells, lambda w, _: wells(w)))
    np.testing.assert_array_equal(alone.loss, beside.loss)
    with pytest.raises(TypeError, match=r"path_loss calls loss_fn\(params, batch\), got a loss of"):
        path_loss(wells, path, jnp.ones(3))


def test_a_loss_along_a_path_passes_jit_vmap_and_grad():
    wells = lambda w, _: jnp.sum((w**2 - 1) ** 2)
    barrier = lambda b: path_loss(wells, linear_path(-jnp.ones(2), b), num_points=5).barrier
    ends = jnp.array([[1.0, 1.0], [1.0, -1.0]])
    np.testing.assert_allclose(jax.vmap(barrier)(ends), [2, 1], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(barrier)(ends[0]), 2, rtol=1e-6)
    # at t = 1/2 the point is 0, where the loss is flat, and the chord is at its bottom
    np.testing.assert_allclose(jax.grad(barrier)(ends[0]), 0, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_double_precision_stays():
    along = path_loss(lambda w, _: w**2, linear_path(np.float64(0), np.float64(1)), num_points=4)
    assert along.loss.dtype == np.float64
    np.testing.assert_allclose(along.loss, np.linspace(0, 1, 4) ** 2, rtol=1e-15)


def test_a_path_that_is_not_finite_has_no_barrier():
    broken = bezier_path(jnp.zeros(2), jnp.array([jnp.nan, 0]), jnp.ones(2))
    along = path_loss(lambda w, _: jnp.sum(w), broken, num_points=3)
    assert np.isnan(along.barrier)


def test_results_print_as_blocks():
    along = path_loss(bowl, linear_path(A, B), jnp.ones(2), num_points=3)
    assert str(along).splitlines()[0] == "PathLoss"
    assert "barrier" in str(along)
    assert isinstance(linear_path(A, B), Path)
    assert str(linear_path(A, B)).startswith("Path")


def test_ends_and_places_that_do_not_fit_are_refused_by_name():
    other = {"w": jnp.ones(3), "b": jnp.ones(1)}
    shapes = r"needs leaves of the same shape, got \(2,\) at 'w' and \(3,\) at 'w'\."
    with pytest.raises(ValueError, match="linear_path " + shapes):
        linear_path(A, other)
    with pytest.raises(ValueError, match="bezier_path " + shapes):
        bezier_path(A, other, B)
    with pytest.raises(ValueError, match=r"linear_path needs trees with the same leaves, got 'b'"):
        linear_path(A, {"w": jnp.ones(2), "c": jnp.ones(1)})
    with pytest.raises(TypeError, match=r"linear_path needs floating or complex .* int32 at 'w'"):
        linear_path({"w": jnp.arange(2)}, {"w": jnp.arange(2)})
    with pytest.raises(TypeError, match=r"path_loss needs a path, a function of t, got dict\."):
        path_loss(bowl, A, jnp.ones(2))
    with pytest.raises(ValueError, match=r"path_loss needs num_points >= 2, .*got num_points=1\."):
        path_loss(bowl, linear_path(A, B), jnp.ones(2), num_points=1)
    with pytest.raises(ValueError, match=r"path_loss needs coords that are real numbers along one"):
        path_loss(bowl, linear_path(A, B), jnp.ones(2), coords=[[0.0]])
