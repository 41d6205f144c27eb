"""Closed forms, every kind of model and of loss, and what is refused."""

import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxopt_tut.curvature import blocks, empirical_fisher, gauss_newton, hessian
from tests.curvature import networks

X = np.random.default_rng(0).normal(size=(8, 3))
Y = np.random.default_rng(1).normal(size=8)


def squared(outputs, batch):
    return jnp.mean((outputs - batch[1]) ** 2) / 2


@pytest.mark.usefixtures("x64")
def test_linear_regression_has_the_second_moment_of_its_inputs():
    model = lambda w, batch: batch[0] @ w
    weights, second = jnp.array([1.0, -2.0, 0.5]), X.T @ X / 8
    loss = lambda w, batch: squared(model(w, batch), batch)
    losses = lambda w, batch: (model(w, batch) - batch[1]) ** 2 / 2
    residuals = X @ np.array(weights) - Y
    for op, want in [
        (hessian(loss, weights, (X, Y), batch_size=3), second),
        (gauss_newton(model, squared, weights, (X, Y), batch_size=3), second),
        (empirical_fisher(losses, weights, (X, Y), batch_size=3), (X.T * residuals**2) @ X / 8),
    ]:
        np.testing.assert_allclose(op.to_dense(), want, rtol=1e-13)


@pytest.mark.usefixtures("x64")
def test_softmax_regression_has_its_closed_form():
    weights = np.random.default_rng(2).normal(size=(3, 4))
    labels = np.arange(8) % 4
    scores = np.exp(X @ weights)
    chances = scores / scores.sum(1, keepdims=True)
    spread = np.einsum("nj,jk->njk", chances, np.eye(4)) - np.einsum("nj,nk->njk", chances, chances)
    want = np.einsum("na,nb,njk->ajbk", X, X, spread).reshape(12, 12) / 8
    errors = np.einsum("na,nj->naj", X, chances - np.eye(4)[labels]).reshape(8, 12)
    model = lambda w, batch: batch[0] @ w
    loss = lambda w, batch: networks.output_loss(model(w, batch), batch)
    losses = lambda w, batch: networks.losses_of(model(w, batch), batch)
    batch = X, labels
    np.testing.assert_allclose(hessian(loss, weights, batch).to_dense(), want, atol=1e-14)
    ggn = gauss_newton(model, networks.output_loss, weights, batch)
    np.testing.assert_allclose(ggn.to_dense(), want, atol=1e-14)
    fisher = empirical_fisher(losses, weights, batch)
    np.testing.assert_allclose(fisher.to_dense(), errors.T @ errors / 8, atol=1e-14)


def test_complex_parameters_are_pairs_of_real_ones():
    """The loss |z|^2 + Re(z^2) + w Im z is 2 x^2 + w y."""
    loss = lambda p, _: jnp.sum(
        jnp.abs(p["z"]) ** 2 + jnp.real(p["z"] ** 2) + p["w"] * jnp.imag(p["z"])
    )
    params = {"w": jnp.ones(1), "z": jnp.array([1.0 + 2.0j])}
    want = np.array([[0.0, 0, 1], [0, 4, 0], [1, 0, 0]])  # w, Re z, Im z
    op = hessian(loss, params, None)
    np.testing.assert_allclose(op.to_dense(), want, atol=1e-6)
    np.testing.assert_allclose(op.cached().to_dense(), want, atol=1e-6)
    product = op.matvec({"w": jnp.ones(1), "z": jnp.array([1.0 + 0.0j])})
    np.testing.assert_allclose(product["z"], [4 + 1j], atol=1e-6)
    model = lambda p, _: (p["z"], jnp.int32(3))  # an integer beside
    ggn = gauss_newton(
        model, lambda out, _: jnp.sum(jnp.abs(out[0]) ** 2) * out[1].astype(float), params, None
    )
    np.testing.assert_allclose(ggn.to_dense(), np.diag([0.0, 6, 6]), atol=1e-6)
    np.testing.assert_allclose(ggn.cached().to_dense(), np.diag([0.0, 6, 6]), atol=1e-6)


def test_a_loss_of_the_parameters_alone_needs_no_batch():
    rosenbrock = lambda w: (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2
    op = hessian(rosenbrock, jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(op.to_dense(), [[802, -400], [-400, 200]])
    op = gauss_newton(lambda w: w**2, lambda z: jnp.sum(z**2) / 2, jnp.array([3.0]))
    np.testing.assert_allclose(op.to_dense(), [[36]])


def test_halves_come_out_in_single_precision_and_empty_leaves_pass():
    params = {"w": jnp.ones(2, jnp.bfloat16), "none": None, "empty": jnp.zeros(0, jnp.bfloat16)}
    op = hessian(lambda p, _: jnp.sum(p["w"] ** 2) + jnp.sum(p["empty"]), params, None)
    assert (op.dtype, op.size) == (jnp.float32, 2)
    np.testing.assert_allclose(op.to_dense(), 2 * np.eye(2))


def test_a_loss_that_draws_and_one_with_a_state_are_given_what_they_take():
    draw = lambda w, _, key: jnp.sum(jax.random.normal(key, (2,)) * w**2)
    key = jax.random.key(3)
    op = hessian(draw, jnp.ones(2), X, key=key)
    want = 2 * jax.random.normal(key, (2,))
    np.testing.assert_allclose(op.to_dense(), jnp.diag(want), rtol=1e-6)
    kept = lambda w, _, model_state: (jnp.sum(model_state * w**2), model_state + 1)
    op = hessian(kept, jnp.ones(2), X, model_state=jnp.array([1.0, 3.0]), batch_size=3)
    np.testing.assert_allclose(op.to_dense(), [[2, 0], [0, 6]], rtol=1e-6)
    assert op.note is not None
    assert "mean of the losses of batches" in str(op)


class Nnx(nnx.Module):
    """A layer with BatchNorm."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first, self.norm = nnx.Linear(3, 2, rngs=rngs), nnx.BatchNorm(2, rngs=rngs)

    def __call__(self, x):
        return self.norm(jnp.tanh(self.first(x)))


class Linen(linen.Module):
    """The same in linen."""

    @linen.compact
    def __call__(self, x):
        x = jnp.tanh(linen.Dense(2)(x))
        return linen.BatchNorm(use_running_average=False)(x)


def of_nnx():
    model = Nnx()
    loss = lambda model, x: jnp.mean((model(x) - 1) ** 3)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return loss, model, lambda p, x: loss(nnx.merge(graph, p, rest, copy=True), x), params


def of_linen():
    model = Linen()
    variables = model.init(jax.random.key(0), jnp.ones((2, 3)))

    def loss(variables, x):
        out, updated = model.apply(variables, x, mutable=["batch_stats"])
        return jnp.mean((out - 1) ** 3), updated

    rest = {"batch_stats": variables["batch_stats"]}
    return loss, variables, lambda p, x: loss({"params": p, **rest}, x)[0], variables["params"]


def of_equinox():
    model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
    loss = lambda model, x: jnp.mean((jax.vmap(model)(x) - 1) ** 3)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    return loss, model, lambda p, x: loss(eqx.combine(p, static), x), arrays


@pytest.mark.parametrize("make", [of_nnx, of_linen, of_equinox], ids=lambda make: make.__name__)
def test_models_of_every_kind_are_differentiated_by_what_is_trained(make):
    loss, model, plain, params = make()
    x = X.astype(np.float32)
    op = hessian(loss, model, x)
    vector = jax.random.normal(jax.random.key(1), (op.size,))
    gradient = lambda p: jax.grad(plain)(p, x)
    leaves, structure = jax.tree.flatten(params)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [
        part.reshape(leaf.shape)
        for part, leaf in zip(jnp.split(vector, ends), leaves, strict=False)
    ]
    want = jax.jvp(gradient, (params,), (structure.unflatten(parts),))[1]
    want = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(want)])
    got = op.matvec(vector)
    scale = jnp.abs(want).max()
    np.testing.assert_allclose(got / scale, want / scale, atol=5e-6)
    assert sum(block.size for block in blocks(op).values()) == op.size
    assert jax.tree.structure(op.matvec(op.unravel(vector))) == jax.tree.structure(op.like)


class Callable32(eqx.Module):
    """A loss without a hash."""

    scale: jax.Array

    def __call__(self, params, _):
        return jnp.sum(self.scale * params**2)


def test_a_loss_needs_no_hash():
    op = hessian(Callable32(jnp.array([1.0, 2.0])), jnp.ones(2), None)
    np.testing.assert_allclose(op.to_dense(), np.diag([2.0, 4.0]))


MISTAKES = {
    "vector loss": (
        lambda: hessian(lambda w, _: w, jnp.ones(3), None).matvec(jnp.ones(3)), ValueError,
        "hessian needs a loss that is a real scalar, alone or first of a pair, got float32[3].",
    ),
    "vector loss of outputs": (
        lambda: gauss_newton(lambda w, _: w, lambda z, _: z, jnp.ones(3), None).to_dense(),
        ValueError,
        "gauss_newton needs a loss that is a real scalar, alone or first of a pair, got "
        "float32[3].",
    ),
    "scalar losses": (
        lambda: empirical_fisher(lambda w, _: jnp.sum(w), jnp.ones(3), None).to_dense(),
        ValueError,
        "empirical_fisher needs losses_fn to return a loss an example, an array of real numbers "
        "with one axis, got float32[].",
    ),
    "integer": (
        lambda: hessian(lambda p, _: p["w"], {"w": 1.0, "n": jnp.int32(2)}, None), TypeError,
        "hessian needs floating or complex parameters, got int32 at 'n'.",
    ),
    "key": (
        lambda: hessian(lambda p, _: p["w"], {"w": 1.0, "key": jax.random.key(0)}, None), TypeError,
        "hessian needs floating or complex parameters, got key<fry> at 'key'.",
    ),
    "integer beside a function": (
        lambda: hessian(lambda p, _: p["w"], {"act": jnp.tanh, "n": 3, "w": 1.0}, None), TypeError,
        "hessian needs floating or complex parameters, got int32 at 'n'.",
    ),
    "nothing to differentiate": (
        lambda: hessian(lambda *_: 1.0, {}, None), ValueError,
        "hessian needs at least one parameter, got none.",
    ),
    "no function": (
        lambda: gauss_newton(lambda w, _: w, 3.0, jnp.ones(3), None), TypeError,
        "gauss_newton needs a function as output_loss, got float.",
    ),
    "a loss of three": (
        lambda: hessian(lambda w, _, y: w * y, 1.0, None), TypeError,
        "hessian calls loss_fn(params, batch), got a loss of (w, _, y): missing a required "
        "argument: 'y'; a key for a loss that draws is hessian(..., key=).",
    ),
    "batch_size": (
        lambda: hessian(lambda w, _: w, 1.0, X, batch_size=9), ValueError,
        "hessian needs 1 <= batch_size <= number of examples (8), got batch_size=9.",
    ),
    "generator": (
        lambda: hessian(lambda w, _: w, 1.0, (x for x in X)), TypeError,
        "hessian needs batches that can be gone through again and again, got a generator, which "
        "can be but once: make a list of it and hand over *batches, or a class whose __iter__ "
        "starts anew.",
    ),
    "mesh": (
        lambda: hessian(lambda w, _: w, 1.0, X, mesh=2), TypeError,
        "hessian needs a mesh of jax.make_mesh, got int.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_says_what_is_wrong(name):
    make, error, sentence = MISTAKES[name]
    with pytest.raises(error) as info:
        make()
    assert str(info.value) == sentence


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_enable_x64", True)
from tests.curvature import networks

mesh = jax.make_mesh((2,), ("data",))
params, batch = networks.params("float64"), networks.data("float64")
vector = np.linspace(-1.0, 1.0, 31)
for name, make in networks.MAKERS.items():
    want = networks.dense(name, params, batch) @ vector
    op = make(params, batch, batch_size=6, mesh=mesh)
    for product in (op.matvec(vector), op.cached().matvec(vector),
                    jax.jit(lambda op, v: op.matvec(v))(op, vector)):
        np.testing.assert_allclose(product, want, rtol=0, atol=1e-12 * abs(want).max())
"""


def test_examples_may_be_split_over_two_devices():
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
