"""Matrices of losses are those of dense derivatives: in chunks, kept, in traces, by rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.curvature import hessian
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.vectors import ravel
from tests.curvature import networks

NAMES = sorted(networks.MAKERS)
KEY, SIZE = jax.random.key(0), 31


class Loader:
    """Yields batches of unequal size anew whenever it is asked."""

    def __init__(self, dtype):
        self.batches = split(dtype)

    def __iter__(self):
        yield from self.batches


def split(dtype, cuts=(5, 9)):
    pairs = zip(*(np.split(array, cuts) for array in networks.data(dtype)), strict=True)
    return list(pairs)


SOURCES = {
    "whole": lambda dtype: ((networks.data(dtype),), None),
    "chunks": lambda dtype: ((networks.data(dtype),), 6),
    "unequal batches": lambda dtype: (split(dtype), None),
    "unequal batches in chunks": lambda dtype: (split(dtype), 4),
    "from the host": lambda dtype: ((Loader(dtype),), None),
    "from the host in chunks": lambda dtype: ((Loader(dtype),), 4),
}


def close(got, want, dtype):
    """Hold the bars of the issue, relative to the largest entry: 1e-12, and 2e-6 in float32."""
    tolerance = 1e-12 if dtype == "float64" else 2e-6
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * np.abs(want).max())


@pytest.mark.parametrize(
    ("name", "source", "dtype"),
    [("hessian", source, dtype) for source in SOURCES for dtype in ("float32", "float64")]
    + [(name, "unequal batches in chunks", "float64") for name in NAMES[:2]]
    + [(name, "whole", "float32") for name in NAMES[:2]],
)
def test_products_are_those_of_the_dense_matrix(name, source, dtype):
    with jax.enable_x64(dtype == "float64"):
        params = networks.params(dtype)
        exact = networks.dense(name, params, networks.data(dtype))
        batches, batch_size = SOURCES[source](dtype)
        op = networks.MAKERS[name](params, *batches, batch_size=batch_size)
        assert (op.size, op.dtype) == (SIZE, jnp.dtype(dtype))
        assert op.needs_host == source.startswith("from the host")
        vector = jax.random.normal(KEY, (op.size,), dtype)
        close(op.matvec(vector), exact @ np.asarray(vector, np.float64), dtype)
        kept = op.cached()
        assert not kept.needs_host
        close(kept.matvec(vector), exact @ np.asarray(vector, np.float64), dtype)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["hessian", "gauss_newton"])
def test_the_matrix_is_made_of_products_in_blocks_of_rows(name):
    op = networks.MAKERS[name](networks.params("float64"), networks.data("float64"), batch_size=10)
    exact = networks.dense(name, networks.params("float64"), networks.data("float64"))
    rows = np.eye(SIZE)
    for at_once in (1, 7) if name == "hessian" else (7,):  # of 31
        close(op.matmat(rows, at_once=at_once), exact, "float64")
    in_trace = jax.jit(lambda op, rows: op.cached().matmat(rows, at_once=7))
    close(in_trace(op, rows), exact, "float64")
    close(op.to_dense(), exact, "float64")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch_size", [6])
@pytest.mark.parametrize("name", ["hessian", pytest.param("gauss_newton", marks=pytest.mark.slow)])
def test_operators_pass_transformations_as_arguments(name, batch_size):
    batch = networks.data("float64")
    make = lambda params: networks.MAKERS[name](params, batch, batch_size=batch_size)
    params = networks.params("float64")
    exact = networks.dense(name, params, batch)
    rows = jax.random.normal(KEY, (3, SIZE))
    close(jax.jit(lambda op, v: op.matvec(v))(make(params), rows[0]), exact @ rows[0], "float64")
    close(jax.vmap(make(params).matvec)(rows), rows @ exact, "float64")
    kept = jax.jit(lambda op: op.cached())(make(params))
    close(kept.matvec(rows[1]), exact @ rows[1], "float64")
    # the derivative of v H v by the parameters, against differences of it in a random direction
    quadratic = lambda params: rows[0] @ make(params).matvec(rows[0])
    direction = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    at = lambda t: quadratic(jax.tree.map(lambda leaf, move: leaf + t * move, params, direction))
    got = ravel(jax.grad(quadratic)(params))[0] @ ravel(direction)[0]
    step = 1e-5  # errors of the order of step^2, and of eps / step
    np.testing.assert_allclose(got, (at(step) - at(-step)) / (2 * step), rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_operators_of_several_networks_are_mapped_over():
    batch = networks.data("float64")
    many = jax.vmap(lambda seed: networks.MAKERS["hessian"](seed, batch, batch_size=6))
    stacked = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(networks.params("float64", seed) for seed in range(3))
    )
    vector = jax.random.normal(KEY, (SIZE,))
    got = jax.vmap(lambda op: op.matvec(vector))(many(stacked))
    for seed in range(3):
        exact = networks.dense("hessian", networks.params("float64", seed), batch)
        close(got[seed], exact @ vector, "float64")


@pytest.mark.parametrize("kept", [False, True], ids=["", "cached"])
@pytest.mark.parametrize("name", NAMES)
def test_other_parameters_and_data_of_the_same_shapes_compile_nothing(name, kept, caplog):
    def use(seed):
        images, labels = networks.data("float32")
        op = networks.MAKERS[name](
            networks.params("float32", seed), ((seed + 1) * images, labels), batch_size=6
        )
        op = op.cached() if kept else op
        op.matvec(networks.params("float32", seed + 5))
        return op.matvec(np.ones(SIZE, np.float32)), op.matmat(np.ones((3, SIZE), np.float32))

    use(0)
    with jax.log_compiles(True):
        use(1)
    assert not [record for record in caplog.records if "Compiling" in record.getMessage()]


def test_images_stay_bytes_and_the_mean_is_that_of_normalised_ones():
    images = np.random.default_rng(2).integers(0, 256, (23, 3, 1)).astype(np.uint8)
    dataset = Dataset(Split(images, networks.LABELS), Split(images, networks.LABELS), 0.25, 0.5)
    normalised = ((images / 255 - 0.25) / 0.5).astype(np.float32), networks.LABELS
    params = networks.params("float32")
    op = hessian(networks.loss, params, dataset, batch_size=5)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(op.chunks)} == {"uint8", "int32", "float32"}
    vector = jnp.ones(SIZE)
    close(op.matvec(vector), hessian(networks.loss, params, normalised).matvec(vector), "float32")
