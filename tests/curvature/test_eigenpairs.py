"""Eigenpairs at an end of a spectrum, against dense solvers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matfree.decomp import tridiag_sym
from scipy.sparse.linalg import LinearOperator, eigsh

from jaxopt_tut.curvature import Operator, linear_map, top_eigenpairs
from jaxopt_tut.datasets import load_fashion_mnist_mini

SIZE = 40
RANDOM = np.random.default_rng(0)
ROTATION = np.linalg.qr(RANDOM.normal(size=(SIZE, SIZE)))[0]


def operator(matrix):
    """Make an operator of a matrix."""
    return linear_map(lambda v, a: a @ v, jnp.zeros(len(matrix), matrix.dtype), jnp.asarray(matrix))


def with_spectrum(*values):
    """Return a full matrix with some eigenvalues, the others zero."""
    values = np.concatenate([values, np.zeros(SIZE - len(values))])
    matrix = (ROTATION * values) @ ROTATION.T
    return (matrix + matrix.T) / 2


def wanted(matrix, k, which):
    """Return eigenvalues of a dense solver, in the order of `top_eigenpairs`."""
    values = np.linalg.eigvalsh(matrix.astype(np.float64))
    scores = {"largest": -values, "smallest": values, "magnitude": -abs(values)}[which]
    return values[np.argsort(scores)][:k]


SPECTRA = {
    "zero": with_spectrum(),
    "a multiple of the identity": 2.5 * np.eye(SIZE),
    "of rank two": with_spectrum(3.0, -2.0),
    "of rank one": with_spectrum(1.0),
    "triple at the end": with_spectrum(3.0, 3.0, 3.0, *np.linspace(1, 0, SIZE - 3)),
    "triple within": with_spectrum(5.0, 3.0, 3.0, 3.0, *np.linspace(1, 0, SIZE - 4)),
    "a cluster": with_spectrum(1.0, 1 - 1e-9, 1 - 1e-6, *np.linspace(0.9, 0, SIZE - 3)),
    "both signs alike": with_spectrum(*np.linspace(-1, 1, SIZE)),
    "all negative": with_spectrum(*np.linspace(-3, -1, SIZE)),
    "tiny": 1e-200 * with_spectrum(*np.linspace(0, 1, SIZE) ** 3),
    "huge": 1e200 * with_spectrum(*np.linspace(0, 1, SIZE) ** 3),
    "diagonal": np.diag(np.linspace(-1, 2, SIZE)),
}


@pytest.mark.parametrize("which", ["largest", "smallest", "magnitude"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.usefixtures("x64")
def test_pairs_are_those_of_a_dense_solver(name, which):
    matrix, k = SPECTRA[name], 6
    pairs = top_eigenpairs(operator(matrix), k, jax.random.key(3), which=which, basis=20)
    right, scale = wanted(matrix, k, which), np.abs(matrix).max()
    # equal absolute values come in either order of signs
    compare = np.abs if which == "magnitude" else np.asarray
    np.testing.assert_allclose(compare(pairs.values), compare(right), rtol=0, atol=1e-13 * scale)
    vectors = np.asarray(pairs.vectors)
    # products of rotations, one a restart
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(k), atol=1e-13)
    unit = scale if scale > 0 else 1.0
    errors = vectors @ (matrix / unit) - np.asarray(pairs.values)[:, None] / unit * vectors
    lengths, said = np.linalg.norm(errors, axis=1), np.asarray(pairs.residuals) / unit
    # eps^(3/4) of the norm, which is some times the largest entry
    assert np.all(lengths < 1e-10)
    assert np.all(said < 1e-10)
    # the test's own products round by some units, too
    assert np.all(lengths <= 2 * said + 1e-14)
    assert bool(pairs.converged.all())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_operators_are_solved_whole(size):
    matrix = np.diag(np.array([-2.0, 5.0, 1.0], np.float32))[:size, :size]
    pairs = top_eigenpairs(operator(matrix), size, jax.random.key(0))
    np.testing.assert_allclose(pairs.values, np.sort(np.diag(matrix))[::-1], rtol=1e-6)
    assert int(pairs.num_products) == size
    assert bool(pairs.converged.all())


@pytest.mark.parametrize("k", [SIZE - 1, SIZE])
@pytest.mark.usefixtures("x64")
def test_all_pairs_are_found_in_as_many_products(k):
    matrix = with_spectrum(*RANDOM.normal(size=SIZE))
    pairs = top_eigenpairs(operator(matrix), k, jax.random.key(0))
    np.testing.assert_allclose(pairs.values, wanted(matrix, k, "largest"), atol=1e-13)
    assert int(pairs.num_products) == SIZE


def matfrees_values(matrix, num_products):
    """Return the eigenvalues of the projection that matfree's Lanczos makes."""
    start = jnp.ones(len(matrix))
    decompose = tridiag_sym(num_products, reortho="full")
    return jnp.linalg.eigvalsh(decompose(lambda v: jnp.diag(matrix) * v, start).J_small)


def test_matfrees_lanczos_does_not_see_that_a_space_is_used_up_and_ours_does():
    values = np.concatenate([[3.0, 2.0, 1.0], np.zeros(97)]).astype(np.float32)
    matrix = np.diag(values)
    # one vector spans four dimensions at most; from the fifth on it divides rounding by rounding
    assert float(matfrees_values(matrix, 10).max()) > 10
    assert np.isnan(matfrees_values(0 * matrix, 10)).all()
    pairs = top_eigenpairs(operator(matrix), 6, jax.random.key(0))
    # float32 rounds values of 3 by 2e-7, some dozen times
    np.testing.assert_allclose(pairs.values, values[:6], atol=5e-6)
    zeros = top_eigenpairs(operator(0 * matrix), 6, jax.random.key(0))
    np.testing.assert_array_equal(zeros.values, np.zeros(6))


NETWORK = [(49, 32), (32, 16), (16, 10)]  # 2298 parameters


def network_loss(vector, images, labels):
    """Return the cross-entropy of a ReLU network, of a flat vector of parameters."""
    start, h = 0, images
    for i, (fan_in, fan_out) in enumerate(NETWORK):
        weights = vector[start : start + fan_in * fan_out].reshape(fan_in, fan_out)
        start += fan_in * fan_out
        h = h @ weights + vector[start : start + fan_out]
        start += fan_out
        h = jax.nn.relu(h) if i < 2 else h
    log_p = jax.nn.log_softmax(h)
    return -jnp.mean(jnp.sum(jnp.where(jax.nn.one_hot(labels, 10, dtype=bool), log_p, 0), axis=1))


@functools.cache
def network_hessians():
    """Return the dense Hessians of a network at its start and after training, in float64."""
    split = load_fashion_mnist_mini().train
    images = np.asarray(split[0][:300], np.float64).reshape(-1, 7, 4, 7, 4).mean((2, 4))
    images = (images.reshape(-1, 49) - images.mean()) / images.std()
    data = jnp.asarray(images), jnp.asarray(split[1][:300])
    random = np.random.default_rng(0)
    leaves = [
        np.append(random.normal(size=n * m) * np.sqrt(2 / n), np.zeros(m)) for n, m in NETWORK
    ]
    start = jnp.asarray(np.concatenate(leaves))

    def step(carry, _):
        vector, velocity = carry
        velocity = 0.9 * velocity - 0.05 * jax.grad(network_loss)(vector, *data)
        return (vector + velocity, velocity), None

    train = jax.jit(lambda vector: jax.lax.scan(step, (vector, 0 * vector), None, 400)[0][0])
    dense = jax.jit(jax.hessian(network_loss))
    return {"start": np.asarray(dense(start, *data)), "end": np.asarray(dense(train(start), *data))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "which", "scipys"),
    [
        ("end", "largest", "LA"),
        ("start", "largest", "LA"),
        ("start", "smallest", "SA"),
        ("start", "magnitude", "LM"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_top_twenty_of_a_network_take_as_many_products_as_scipys(when, which, scipys):
    matrix = network_hessians()[when]
    count = [0]

    def product(vector):
        count[0] += 1
        return matrix @ vector

    size = len(matrix)
    start = np.random.default_rng(1).normal(size=size)
    linear = LinearOperator((size, size), matvec=product, dtype=np.float64)
    eigsh(linear, k=20, ncv=30, tol=1e-10, which=scipys, v0=start)
    right = wanted(matrix, 20, which)
    options = {"which": which, "basis": 31, "start": jnp.asarray(start)}
    pairs = top_eigenpairs(operator(matrix), 20, jax.random.key(0), tol=1e-10, **options)
    np.testing.assert_allclose(pairs.values, right, atol=1e-10 * abs(right).max(), rtol=0)
    assert int(pairs.num_products) <= 1.1 * count[0]
    options["start"] = options["start"].astype(jnp.float32)
    single = operator(matrix.astype(np.float32))
    pairs = top_eigenpairs(single, 20, jax.random.key(0), **options)
    norm = np.abs(np.linalg.eigvalsh(matrix)).max()
    np.testing.assert_allclose(pairs.values, right, atol=2e-6 * norm, rtol=0)
    assert bool(pairs.converged.all())


@pytest.mark.usefixtures("x64")
def test_derivatives_are_those_of_the_dense_solver():
    base, tilt = with_spectrum(*RANDOM.normal(size=SIZE)), with_spectrum(*RANDOM.normal(size=3))

    def ours(t):
        op = linear_map(lambda v, t: (base + jnp.sin(t) * tilt) @ v, jnp.zeros(SIZE), t)
        return top_eigenpairs(op, 3, jax.random.key(0)).values

    dense = lambda t: jnp.linalg.eigvalsh(base + jnp.sin(t) * tilt)[::-1][:3]
    np.testing.assert_allclose(jax.jacrev(ours)(0.3), jax.jacrev(dense)(0.3), atol=1e-8)
    np.testing.assert_allclose(jax.jacfwd(ours)(0.3), jax.jacfwd(dense)(0.3), atol=1e-8)


@pytest.mark.usefixtures("x64")
def test_compiled_and_batched_pairs_are_those_of_the_loop():
    matrices = np.stack([SPECTRA["both signs alike"], SPECTRA["triple within"], SPECTRA["zero"]])
    find = lambda matrix, key: top_eigenpairs(operator(matrix), 5, key, basis=16)
    keys = jax.random.split(jax.random.key(0), 3)
    batched = jax.jit(jax.vmap(find))(jnp.asarray(matrices), keys)
    for i, matrix in enumerate(matrices):
        alone = find(matrix, keys[i])
        np.testing.assert_allclose(batched.values[i], alone.values, atol=1e-13)
        assert bool(batched.converged[i].all())


def test_products_that_are_not_finite_end_the_search_with_flags():
    matrix = np.where(np.arange(SIZE) < 3, np.nan, 1.0).astype(np.float32) * np.eye(
        SIZE, dtype=np.float32
    )
    pairs = top_eigenpairs(operator(matrix), 3, jax.random.key(0))
    assert not pairs.converged.any()
    assert int(pairs.num_products) <= 20


@pytest.mark.parametrize("budget", [5, 17, 23])
def test_no_search_takes_more_products_than_it_may(budget):
    matrix = with_spectrum(*np.linspace(-1, 1, SIZE)).astype(np.float32)
    pairs = top_eigenpairs(operator(matrix), 5, jax.random.key(0), basis=16, max_products=budget)
    assert int(pairs.num_products) == budget
    assert not pairs.converged.all()
    # however rough the pairs are, there is an eigenvalue within each residual
    distances = np.abs(np.asarray(pairs.values)[:, None] - np.linalg.eigvalsh(matrix)).min(axis=1)
    assert np.all(distances <= np.asarray(pairs.residuals) + 1e-6)


@pytest.mark.usefixtures("x64")
def test_a_start_that_is_an_eigenvector_saves_products_and_finds_more():
    matrix = with_spectrum(*np.linspace(0, 1, SIZE) ** 3)
    op = operator(matrix)
    cold = top_eigenpairs(op, 3, jax.random.key(0), basis=8)
    warm = top_eigenpairs(op, 3, jax.random.key(1), basis=8, start=cold.vectors)
    np.testing.assert_allclose(warm.values, wanted(matrix, 3, "largest"), atol=1e-13)
    assert int(warm.num_products) < int(cold.num_products) / 2
    lowest = top_eigenpairs(op, 1, jax.random.key(0), which="smallest").vectors[0]
    other = top_eigenpairs(op, 3, jax.random.key(1), basis=8, start=lowest)
    np.testing.assert_allclose(other.values, wanted(matrix, 3, "largest"), atol=1e-13)


def test_trees_are_starts_and_make_operators():
    like = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(3, jnp.complex64), "none": None}
    op = linear_map(
        lambda v, c: jax.tree.map(jnp.multiply, c, v), like, {**like, "a": jnp.ones((2, 2))}
    )
    pairs = top_eigenpairs(op, 4, jax.random.key(0), start={**like, "a": jnp.ones((2, 2))})
    np.testing.assert_allclose(pairs.values, np.ones(4), rtol=1e-6)
    assert op.unravel(pairs.vectors[0])["a"].shape == (2, 2)


class OnHost(Operator):
    """An operator that only the host can lead."""

    like = jnp.zeros(3)
    needs_host = True

    def _product(self, vector):
        return jnp.asarray(np.array([1.0, 2.0, 3.0], np.float32) * np.asarray(vector))


jax.tree_util.register_pytree_node(OnHost, lambda _: ((), None), lambda *_: OnHost())


def test_the_host_may_lead_products_outside_of_transformations():
    pairs = top_eigenpairs(OnHost(), 3, jax.random.key(0))
    np.testing.assert_allclose(pairs.values, [3.0, 2.0, 1.0], rtol=1e-6)
    with pytest.raises(TypeError, match="top_eigenpairs needs data on the device under a transf"):
        jax.jit(lambda key: top_eigenpairs(OnHost(), 1, key).values)(jax.random.key(0))


BAD = [
    ({"k": 0}, ValueError, r"top_eigenpairs needs 1 <= k <= op.size \(40\), got k=0."),
    ({"k": 41}, ValueError, r"top_eigenpairs needs 1 <= k <= op.size \(40\), got k=41."),
    ({"k": 2.0}, TypeError, r"top_eigenpairs needs a whole number as k, got k=2.0."),
    ({"basis": 3}, ValueError, r"needs k < basis or basis >= op.size \(40\), got k=3, basis=3."),
    ({"basis": None, "which": "top"}, ValueError, r"needs which to be .* got which='top'."),
    ({"which": ["largest"]}, ValueError, r"needs which to be .* got which=\['largest'\]."),
    ({"basis": "all"}, TypeError, r"needs a whole number as basis, got basis='all'."),
    ({"max_products": 2}, ValueError, r"needs max_products >= k \(3\), got max_products=2."),
    ({"max_products": 2.5}, TypeError, r"a whole number as max_products, got max_products=2.5."),
    ({"tol": -1.0}, ValueError, r"top_eigenpairs needs a finite tol >= 0, got tol=-1.0."),
    ({"start": jnp.zeros(SIZE)}, ValueError, r"needs a start that is not zero, got zeros."),
    ({"start": jnp.ones(7)}, ValueError, r"needs a start of op.size \(40\) numbers.* got 7."),
    ({"op": jnp.eye(3)}, TypeError, r"top_eigenpairs needs an Operator as op, got .*Array.*"),
]


@pytest.mark.parametrize(("given", "kind", "sentence"), BAD, ids=[str(row[0]) for row in BAD])
def test_bad_arguments_are_refused(given, kind, sentence):
    arguments = {"op": operator(np.eye(SIZE, dtype=np.float32)), "k": 3, **given}
    op, k = arguments.pop("op"), arguments.pop("k")
    with pytest.raises(kind, match=sentence):
        top_eigenpairs(op, k, jax.random.key(0), **arguments)
