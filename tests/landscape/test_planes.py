"""Planes through paths: principal components by NumPy, and laws of what is seen from a plane."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.landscape import descend, pca_plane, plane_through, project, surfaces
from jaxopt_tut.landscape.trajectories import Trajectory

EPS = {np.float32: np.finfo(np.float32).eps, np.float64: np.finfo(np.float64).eps}


def walk(seed, points=7, size=40, dtype=np.float32):
    """A random walk: a path with a few long directions."""
    steps = np.random.default_rng(seed).normal(size=(points, size))
    return np.cumsum(steps, axis=0).astype(dtype)


def components(rows, origin):
    """Right singular vectors of the differences, and the shares of their squares."""
    centred = rows.astype(np.float64) - origin.astype(np.float64)
    values, vectors = np.linalg.svd(centred, full_matrices=False)[1:]
    return vectors[:2], (values**2 / np.sum(values**2))[:2]


def origin_of(rows, where):
    return {"mean": rows.mean(axis=0), "start": rows[0], "end": rows[-1]}[where]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("where", ["mean", "start", "end"])
@pytest.mark.parametrize("shape", [(7, 40), (40, 7), (3, 2)], ids=str)
def test_directions_and_shares_are_those_of_numpy(where, shape):
    rows = walk(0, *shape, dtype=np.float64)
    plane = pca_plane(rows, origin=where)
    vectors, explained = components(rows, origin_of(rows, where))
    np.testing.assert_allclose(plane.explained, explained, rtol=1e-12)
    # up to signs: a singular vector has none; gaps between these values are above a tenth
    np.testing.assert_allclose(np.abs(plane.rows @ vectors.T), np.eye(2), atol=1e-12)
    centred = rows - origin_of(rows, where)
    coords, distance = plane.paths["path"]
    np.testing.assert_allclose(coords, centred @ plane.rows.T, atol=1e-12)
    beside = centred - coords @ plane.rows
    np.testing.assert_allclose(distance, np.linalg.norm(beside, axis=1), atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_shares_around_the_mean_are_eigenvalues_of_the_covariance():
    rows = walk(1, 30, 5, dtype=np.float64)
    values = np.linalg.eigvalsh(np.cov(rows.T))[::-1]
    plane = pca_plane(rows, origin="mean")
    np.testing.assert_allclose(plane.explained, values[:2] / values.sum(), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_points_in_a_plane_are_reproduced(dtype):
    rng = np.random.default_rng(2)
    frame = np.linalg.qr(rng.normal(size=(30, 2)))[0].T
    coords = rng.normal(size=(9, 2)) * [5, 1]
    rows = (coords @ frame + rng.normal(size=30)).astype(dtype)
    plane = pca_plane(rows)
    assert plane.explained.dtype == dtype
    # rounding of the points, of 30 numbers up to 10, and of a few products of them
    atol = 30 * 10 * EPS[dtype]
    np.testing.assert_allclose(plane.paths["path"].distance, 0, atol=atol)
    np.testing.assert_allclose(plane.rows @ plane.rows.T, np.eye(2), atol=30 * EPS[dtype])
    for point, at in zip(rows, plane.paths["path"].coords, strict=True):
        np.testing.assert_allclose(plane.at(at), point, atol=atol)
    np.testing.assert_allclose(np.sum(plane.explained), 1, rtol=10 * EPS[dtype])


def test_a_second_direction_a_million_times_shorter_is_found_in_single_precision():
    # a Gram matrix of squares in float32 ends at the root of rounding, 3e-4 of the first
    rows = np.zeros((5, 12), np.float32)
    rows[:, 3] = [4, 2, 1, -3, 0]
    rows[:, 7] = np.array([1, -2, 3, 1, 0]) * 1e-6
    plane = pca_plane(rows)
    expected = np.zeros((2, 12))
    expected[0, 3] = expected[1, 7] = 1
    # the first is tilted by the product of both, some 1e-6
    np.testing.assert_allclose(np.abs(plane.rows), expected, atol=2e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-15, 1.0, 1e15]))
def test_turning_moving_and_scaling_all_points_changes_no_picture(seed, scale):
    rows = walk(seed, 6, 8, np.float64)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(8, 8)))[0]
    with jax.enable_x64(True):
        one = pca_plane(rows)
        other = pca_plane(scale * (rows @ turn + 3))
        # rounding of sums over 48 numbers up to 20, over the gap between the directions
        gap = float(one.explained[0] - one.explained[1])
        rest = float(1 - jnp.sum(one.explained))
        third = components(rows, rows[-1])[1][1] - rest
        atol = 1e-10 / max(min(gap, abs(third)), 1e-3)
        for here, there in zip(one.paths["path"], other.paths["path"], strict=True):
            np.testing.assert_allclose(there / scale, here, atol=atol)
        np.testing.assert_allclose(other.explained, one.explained, atol=atol)


def test_squares_of_far_points_do_not_overflow():
    far = pca_plane(walk(3) * np.float32(1e30))
    near = pca_plane(walk(3))
    np.testing.assert_allclose(far.explained, near.explained, rtol=1e-5)
    np.testing.assert_allclose(far.paths["path"].distance, near.paths["path"].distance * 1e30, 1e-4)


def test_several_paths_lie_around_their_mean_on_one_plane():
    paths = {"sgd": walk(4, 5), "adam": walk(5, 8)}
    plane = pca_plane(paths)
    both = np.concatenate(list(paths.values()))
    np.testing.assert_allclose(plane.origin, both.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(plane.explained, components(both, both.mean(axis=0))[1], rtol=1e-5)
    assert {name: path.coords.shape for name, path in plane.paths.items()} == {
        "sgd": (5, 2),
        "adam": (8, 2),
    }


def test_ends_that_differ_are_averaged_and_parameters_are_an_origin():
    paths = {"sgd": walk(4, 5), "adam": walk(5, 8)}
    ends = (paths["sgd"][-1] + paths["adam"][-1]) / 2
    np.testing.assert_allclose(pca_plane(paths, origin="end").origin, ends, rtol=1e-6, atol=1e-6)
    plane = pca_plane(paths, origin=jnp.asarray(ends))
    np.testing.assert_array_equal(plane.origin, ends)


def tree(rows):
    """Rows of 40 numbers as a tree with a leaf that has no numbers."""
    return {"w": rows[:, :30].reshape(-1, 5, 6), "b": [rows[:, 30:], None], "none": rows[:, :0]}


def test_trees_and_flat_points_have_one_plane():
    flat, nested = pca_plane(walk(6)), pca_plane(tree(walk(6)))
    assert jax.tree.structure(nested.origin) == jax.tree.structure(tree(walk(6)))
    assert nested.directions[0]["w"].shape == (5, 6)
    # the leaves of a tree come in another order, and so do the sums
    np.testing.assert_allclose(nested.paths["path"].coords, flat.paths["path"].coords, 1e-4, 1e-4)
    listed = pca_plane([jax.tree.map(lambda leaf, i=i: leaf[i], tree(walk(6))) for i in range(7)])
    for one, other in zip(jax.tree.leaves(listed), jax.tree.leaves(nested), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_trajectory_of_descend_is_one():
    path = descend(surfaces.ravine.fun, jnp.array([5.0, 5.0]), optax.sgd(0.1), 5)
    plane = pca_plane({"sgd": path})
    np.testing.assert_allclose(plane.paths["sgd"].distance, 0, atol=1e-6)
    np.testing.assert_array_equal(plane.rows, pca_plane(path.points).rows)


def test_what_can_be_read_twice_is_read_as_the_model_says():
    layers = {"first": walk(0, 5, 6), "second": walk(1, 5, 6)}
    assert set(pca_plane(layers).paths) == {"first", "second"}
    like = {"first": jnp.zeros(6), "second": jnp.zeros(6)}
    for plane in (pca_plane(layers, like=like), pca_plane(Trajectory(layers, jnp.zeros(5)))):
        assert set(plane.paths) == {"path"}
        assert set(plane.origin) == {"first", "second"}
    both = pca_plane({"sgd": layers, "adam": layers}, like=like)
    assert set(both.paths) == {"sgd", "adam"}
    listed = pca_plane(list(layers.values()), like=list(like.values()))
    assert listed.paths["path"].coords.shape == (5, 2)
    assert isinstance(listed.origin, list)


class Linear(eqx.Module):
    """A module with a function among its fields."""

    weight: jax.Array
    bias: jax.Array
    count: jax.Array
    act: object = jax.nn.relu


def models_of(library):
    rows = walk(7, 4, 12)
    if library == "nnx":

        def make(row):
            model = nnx.BatchNorm(6, rngs=nnx.Rngs(0))
            model.scale[...], model.bias[...] = row[:6], row[6:]
            return model
    elif library == "linen":
        make = lambda row: {"params": {"d": row}, "batch_stats": {"d": {"mean": jnp.ones(2)}}}
    elif library == "equinox":
        make = lambda row: Linear(row[:8].reshape(2, 4), row[8:], jnp.int32(3))
    else:
        make = lambda row: {"params": {"d": row}}
    return [make(jnp.asarray(row)) for row in rows]


@pytest.mark.parametrize("library", ["nnx", "linen", "equinox", "dictionary"])
def test_models_of_any_library_span_a_plane_of_their_trained_arrays(library):
    models = models_of(library)
    plane = pca_plane(models)
    flat = pca_plane(walk(7, 4, 12))
    np.testing.assert_allclose(plane.explained, flat.explained, rtol=1e-5)
    assert type(plane.origin) is type(models[0])
    coords, distance = project(plane, models[1])
    np.testing.assert_allclose(coords, plane.paths["path"].coords[1], atol=1e-5)
    np.testing.assert_allclose(distance, plane.paths["path"].distance[1], atol=1e-5)
    foot = project(plane, plane.at(coords))
    np.testing.assert_allclose(foot[0], coords, atol=1e-5)
    np.testing.assert_allclose(foot[1], 0, atol=1e-5)


def test_a_record_of_trained_arrays_becomes_models_with_like():
    model = Linear(jnp.ones((2, 4)), jnp.ones(4), jnp.int32(3))
    rows = walk(8, 5, 12)
    record = Linear(rows[:, :8].reshape(-1, 2, 4), rows[:, 8:], None, None)  # as fit hands it over
    plane = pca_plane({"sgd": record}, like=model)
    assert plane.origin.count == 3
    assert plane.origin.act is jax.nn.relu
    np.testing.assert_array_equal(plane.origin.bias, rows[-1, 8:])


def test_a_plane_passes_jit_vmap_and_is_what_it_is_outside():
    rows = jnp.stack([walk(9), walk(10)])
    plain = pca_plane(rows[0])
    compiled = jax.jit(pca_plane)(rows[0])
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    mapped = jax.vmap(pca_plane)(rows)
    np.testing.assert_allclose(mapped.explained[0], plain.explained, rtol=1e-5)
    coords, _ = jax.jit(project)(plain, rows[1][0])
    np.testing.assert_allclose(coords, project(plain, rows[1][0])[0], atol=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(5, 9), (9, 5)], ids=str)
def test_derivatives_are_those_of_finite_differences(shape):
    rows = jnp.asarray(walk(11, *shape, dtype=np.float64))

    def seen(rows):
        plane = pca_plane(rows, origin="mean")
        path = plane.paths["path"]
        return plane.explained @ jnp.array([1.0, 2.0]) + jnp.sum(path.coords[1]) + path.distance[2]

    gradient = jax.grad(seen)(rows)
    move = jnp.asarray(walk(12, *shape, dtype=np.float64))
    h = 1e-5
    difference = (seen(rows + h * move) - seen(rows - h * move)) / (2 * h)
    # central differences: h^2 times third derivatives, and rounding over h
    np.testing.assert_allclose(jnp.sum(gradient * move), difference, rtol=1e-6)


def test_a_plane_prints_shares_and_distances():
    plane = pca_plane({"sgd": walk(9)})
    assert str(plane).splitlines()[0] == "PcaPlane"
    assert "sgd" in str(plane)
    assert len(str(plane)) < 300


def test_half_precision_is_measured_in_single():
    rows = jnp.asarray(walk(13), jnp.bfloat16)
    plane = pca_plane(rows)
    assert plane.origin.dtype == jnp.bfloat16
    assert plane.directions[0].dtype == jnp.float32
    single = pca_plane(rows.astype(jnp.float32))
    np.testing.assert_array_equal(plane.paths["path"].coords, single.paths["path"].coords)


def test_complex_parameters_count_as_two():
    rows = walk(14, 6, 20)
    plane = pca_plane(jnp.asarray(rows[:, :10] + 1j * rows[:, 10:]))
    np.testing.assert_allclose(plane.explained, pca_plane(rows).explained, rtol=1e-6)
    assert plane.directions[0].dtype == jnp.complex64


@pytest.mark.parametrize("where", ["mean", "start", "end"])
def test_points_on_a_line_have_no_second_direction(where):
    line = walk(15)[0] + np.linspace(0, 1, 6, dtype=np.float32)[:, None] * walk(16)[0]
    plane = pca_plane(line, origin=where)
    np.testing.assert_array_equal(plane.rows[1], 0)
    np.testing.assert_allclose(plane.explained, [1, 0], atol=1e-6)
    first, second = plane.grid(5)
    assert jnp.ptp(second) == pytest.approx(float(jnp.ptp(first)))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(2, 2), (2, 5), (2, 2000), (3, 40), (40, 7), (200, 2)]),
    where=st.sampled_from(["mean", "start", "end"]),
    wide=st.booleans(),
    # far points: 1e-3 of the distance from 0 is along the line, the rest is rounded, too
    reach=st.sampled_from([1e-3, 1.0, 1e3]),
)
def test_rounding_of_points_on_a_line_is_no_second_direction(seed, shape, where, wide, reach):
    rng = np.random.default_rng(seed)
    base, along = rng.normal(size=(2, shape[1]))
    line = base + reach * rng.normal(size=(shape[0], 1)) * along
    with jax.enable_x64(wide):
        plane = pca_plane(line.astype(np.float64 if wide else np.float32), origin=where)
        np.testing.assert_array_equal(plane.rows[1], 0)
        assert plane.explained[1] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([2, 5, 40]),
    at=st.sampled_from([-3.0, 0.5, 1e-3, 2.0, 1e3]),
)
def test_rounding_of_corners_on_a_line_is_no_second_direction(seed, size, at):
    a, b = np.random.default_rng(seed).normal(size=(2, size))
    corners = [one.astype(np.float32) for one in (a, b, a + at * (b - a))]
    plane = plane_through(*corners)
    np.testing.assert_array_equal(plane.rows[1], 0)
    for corner in corners:  # and all lie on what is left
        atol = 10 * EPS[np.float32] * np.linalg.norm(np.stack(corners)) * max(1, abs(at))
        np.testing.assert_allclose(project(plane, corner)[1], 0, atol=atol)


def test_points_in_one_place_have_no_direction():
    plane = pca_plane(np.ones((4, 9), np.float32) * np.float32(0.1), origin="mean")
    np.testing.assert_array_equal(plane.rows, 0)
    np.testing.assert_array_equal(plane.explained, 0)
    np.testing.assert_allclose(plane.grid(3)[0], [-1.15, 0, 1.15], rtol=1e-6)


@pytest.mark.parametrize("where", ["mean", "end"])
def test_a_path_that_diverged_is_seen_up_to_there(where):
    rows = walk(17)
    broken = np.concatenate([rows, np.full((2, 40), np.nan, np.float32)])
    broken[-1, 1:] = np.inf
    plane, whole = pca_plane(broken, origin=where), pca_plane(rows, origin=where)
    coords, distance = plane.paths["path"]
    assert np.isnan(coords[-2:]).all()
    assert np.isnan(distance[-2:]).all()
    np.testing.assert_allclose(coords[:-2], whole.paths["path"].coords, atol=1e-4)
    np.testing.assert_allclose(plane.explained, whole.explained, rtol=1e-5)
    np.testing.assert_allclose(plane.grid(4), whole.grid(4), atol=1e-4)


def test_the_grid_covers_all_paths_with_a_margin():
    plane = pca_plane({"a": walk(18), "b": walk(19)})
    coords = np.concatenate([path.coords for path in plane.paths.values()])
    for line, along in zip(plane.grid(9, margin=0.5), coords.T, strict=True):
        assert line.shape == (9,)
        reach = np.ptp(along) / 2
        # a few roundings of numbers of this size
        np.testing.assert_allclose(line[0], along.min() - reach / 2, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(line[-1], along.max() + reach / 2, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_three_models_lie_on_their_plane():
    a, b, c = (tree(walk(seed, 1, dtype=np.float64)) for seed in (20, 21, 22))
    corners = [jax.tree.map(lambda leaf: leaf[0], one) for one in (a, b, c)]
    plane = plane_through(*corners)
    np.testing.assert_allclose(plane.rows @ plane.rows.T, np.eye(2), atol=1e-14)
    for name, corner in zip("abc", corners, strict=True):
        coords, distance = project(plane, corner)
        np.testing.assert_allclose(distance, 0, atol=1e-13)
        np.testing.assert_allclose(coords, plane.paths[name].coords[0], atol=1e-13)
    length = optax.tree.norm(jax.tree.map(jnp.subtract, corners[1], corners[0]))
    np.testing.assert_allclose(plane.paths["b"].coords[0], [length, 0], atol=1e-13)
    assert plane.paths["c"].coords[0, 1] > 0
    np.testing.assert_allclose(jnp.sum(plane.explained), 1, rtol=1e-14)


@pytest.mark.parametrize("order", ["abb", "aab", "aaa"])
def test_corners_on_a_line_have_fewer_directions(order):
    corners = {"a": walk(23)[0], "b": walk(24)[0]}
    plane = plane_through(*(corners[name] for name in order))
    lengths = jnp.linalg.norm(plane.rows, axis=1)
    # exactly zero, or one up to rounding of 40 squares
    expected = {"abb": [1, 0], "aab": [0, 1], "aaa": [0, 0]}[order]
    np.testing.assert_allclose(lengths, expected, atol=1e-6)
    assert [float(x) == 0 for x in lengths] == [x == 0 for x in expected]


def test_bad_trajectories_are_refused_by_name():
    rows = walk(25)
    two = r"pca_plane needs at least 2 points in a trajectory, got 1 in '{}'; where one point"
    with pytest.raises(ValueError, match=two.format("path")):
        pca_plane(rows[:1])
    with pytest.raises(ValueError, match=two.format("adam")):
        pca_plane({"sgd": rows, "adam": rows[:1]})
    with pytest.raises(ValueError, match=two.format("path")):
        pca_plane([rows[0]])
    with pytest.raises(ValueError, match=r"pca_plane needs at least one trajectory, got an empty"):
        pca_plane({})
    with pytest.raises(ValueError, match=r"pca_plane needs parameters, got a tree without arrays"):
        pca_plane([])
    with pytest.raises(
        ValueError, match=r"pca_plane needs as many points in every leaf, got 3 at "
    ):
        pca_plane({"w": rows, "b": rows[:3, :5]})
    with pytest.raises(ValueError, match=r"needs leaves with a leading axis of points.*at 'b'\."):
        pca_plane({"w": rows, "b": jnp.float32(1.0)})
    with pytest.raises(TypeError, match=r"pca_plane needs arrays, got str at 'w'\."):
        pca_plane({"w": "path", "b": rows})
    with pytest.raises(TypeError, match=r"pca_plane needs floating or complex parameters, got int"):
        pca_plane(np.ones((4, 3), np.int32))
    with pytest.raises(
        ValueError, match=r"pca_plane needs leaves of the same shape, got .* at 'w'"
    ):
        pca_plane({"a": [{"w": rows[0]}, {"w": rows[1]}], "b": [{"w": rows[0, :3]}] * 2})
    with pytest.raises(ValueError, match=r"pca_plane needs trees with the same leaves, got 'v' on"):
        pca_plane({"w": rows}, like={"v": jnp.zeros(40)})


def test_bad_origins_and_points_are_refused_by_name():
    rows = tree(walk(25))
    rule = r"pca_plane needs origin='mean', 'start', 'end' or parameters, got origin='centre'\."
    with pytest.raises(ValueError, match=rule):
        pca_plane(rows, origin="centre")
    other = {"w": jnp.ones((5, 7)), "b": [jnp.ones(10), None], "none": jnp.ones(0)}
    shapes = r"needs leaves of the same shape, got \(5, 6\) at 'w' and \(5, 7\) at 'w'\."
    with pytest.raises(ValueError, match="pca_plane " + shapes):
        pca_plane(rows, origin=other)
    plane = pca_plane(rows)
    with pytest.raises(ValueError, match="project " + shapes):
        project(plane, other)
    with pytest.raises(ValueError, match="plane_through " + shapes):
        plane_through(plane.origin, plane.origin, other)


@pytest.mark.parametrize("coords", [[1, 2, 3], 1.0, [[1, 2]], [1j, 2], [True, False], []], ids=str)
def test_a_point_of_a_plane_has_two_real_coordinates(coords):
    plane = pca_plane(walk(25))
    for place in (coords, jnp.asarray(coords)):
        with pytest.raises(ValueError, match=r"PcaPlane\.at needs two real numbers as coords, got"):
            plane.at(place)


def test_several_points_of_a_plane_are_mapped():
    plane = pca_plane(walk(25))
    coords = jnp.array([[1, 2], [0, 0], [-1, 3]])
    expected = plane.origin + np.asarray(coords, np.float32) @ np.asarray(plane.rows)
    np.testing.assert_allclose(jax.vmap(plane.at)(coords), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_points", [2.5, 0, 1, -3, True, "25", None])
def test_a_grid_has_a_whole_number_of_points(num_points):
    rule = r"PcaPlane\.grid needs num_points >= 2, a whole number, got num_points="
    with pytest.raises(ValueError, match=rule):
        pca_plane(walk(25)).grid(num_points)


def test_a_grid_has_a_real_margin():
    plane = pca_plane(walk(25))
    with pytest.raises(
        TypeError, match=r"PcaPlane\.grid needs a real number as margin, got margin='"
    ):
        plane.grid(margin="wide")
    with pytest.raises(ValueError, match=r"PcaPlane\.grid needs a scalar margin, got shape \(2,\)"):
        plane.grid(margin=np.ones(2))
