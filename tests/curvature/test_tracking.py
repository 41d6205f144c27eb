"""The tracked sharpness is the largest eigenvalue, measured independently in float64."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.flatten_util import ravel_pytree

from jaxopt_tut import datasets
from jaxopt_tut.curvature import (
    TrackedSharpness,
    adam_preconditioner,
    sharpness_probe,
    stability_limit,
)
from jaxopt_tut.landscape import record_trajectory
from jaxopt_tut.optimizers import adam
from jaxopt_tut.probes import Snapshot
from jaxopt_tut.training import Aux, fit

KEY = jax.random.key(2)


def images():
    """Return a hundred images of 4 by 4 squares, and one-hot labels."""
    split = datasets.load("mini").train
    squares = np.asarray(split.images[:100], np.float32).reshape(100, 4, 7, 4, 7).mean((2, 4))
    x = squares.reshape(100, 16)
    labels = jax.nn.one_hot(jnp.asarray(split.labels[:100]), 10)
    return jnp.asarray((x - x.mean()) / x.std()), labels


def network(key):
    widths = (16, 8, 8, 10)
    keys = jax.random.split(key, 3)
    return [
        (jax.random.normal(k, (a, b)) / np.sqrt(a).astype(np.float32), jnp.zeros(b))
        for k, a, b in zip(keys, widths[:-1], widths[1:], strict=True)
    ]


def half_squared_error(params, batch):
    x, y = batch
    for weights, bias in params[:-1]:
        x = jnp.tanh(x @ weights + bias)
    weights, bias = params[-1]
    return jnp.mean(jnp.sum((x @ weights + bias - y) ** 2, axis=-1)) / 2


def largest(path, data, scales=None):
    """Return the largest eigenvalues of dense Hessians in float64, at points along a path."""
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda a: jnp.asarray(np.asarray(a, float)), tree)
        data, points = wide(data), wide(path)
        _, unravel = ravel_pytree(jax.tree.map(lambda a: a[0], points))
        matrix = jax.jit(jax.hessian(lambda w: half_squared_error(unravel(w), data)))
        rows = jax.vmap(lambda point: ravel_pytree(point)[0])(points)
        found = []
        for at, row in enumerate(rows):
            hessian = matrix(row)
            if scales is not None:
                root = np.concatenate([np.ravel(leaf[at]) for leaf in jax.tree.leaves(scales)])
                root = np.sqrt(root.astype(float))
                hessian = root[:, None] * np.asarray(hessian) * root
            found.append(np.linalg.eigvalsh(hessian)[-1])
    return np.array(found)


@pytest.mark.slow
def test_at_the_edge_of_stability_each_of_a_hundred_measurements_is_right():
    """A learning rate at which the two largest eigenvalues are beyond the limit, and cross."""
    data, rate = images(), 0.4
    probe = sharpness_probe(half_squared_error, data, key=KEY, num_products=8)
    result = fit(
        half_squared_error, network(jax.random.key(0)), optax.sgd(rate), data, batch_size=100,
        num_epochs=990, key=jax.random.key(1), progress=False, probe_every=10,
        probes={"sharpness": probe, "path": record_trajectory()},
    )  # fmt: skip
    found, path = (result.history.probes[name] for name in ("sharpness", "path"))
    exact = largest(path, data)
    assert len(exact) == 100
    np.testing.assert_allclose(found.value, exact, rtol=1e-3)  # the bar
    over = exact[75:] / float(stability_limit(rate))
    assert 1 < np.mean(over) < 1.15  # it is the edge
    # an eigenvalue is within the residual, and rounding, of the value
    assert np.all(np.abs(found.value - exact) <= found.residual + 1e-5 * exact)
    assert np.mean(found.num_products) < 10


def test_what_adam_sees_is_the_preconditioned_hessian():
    data = images()
    numbers = {"b1": 0.5, "b2": 0.9, "eps": 1e-3}
    preconditioner = partial(adam_preconditioner, **numbers)
    probe = sharpness_probe(half_squared_error, data, key=KEY, preconditioner=preconditioner)
    scale = lambda now: preconditioner(now.opt_state)
    result = fit(
        half_squared_error, network(jax.random.key(0)), adam(0.01, **numbers), data,
        batch_size=100, num_epochs=20, key=jax.random.key(1), progress=False, probe_every=5,
        probes={
            "sharpness": probe, "path": record_trajectory(),
            "scale": (lambda _: None, lambda _, now: (None, scale(now))),
        },
    )  # fmt: skip
    probes = result.history.probes
    assert np.isnan(probes["sharpness"].value[0])  # before the first update
    later = lambda tree: jax.tree.map(lambda leaf: leaf[1:], tree)
    exact = largest(later(probes["path"]), data, later(probes["scale"]))
    np.testing.assert_allclose(probes["sharpness"].value[1:], exact, rtol=1e-3)


def quadratic(eigenvalues, params):
    return jnp.sum(eigenvalues * params**2) / 2


@pytest.mark.parametrize(
    "eigenvalues",
    [[3.0], [-2.0], [0.0, 0.0], [5.0, 5.0, 5.0], [-1.0, -4.0, -2.0], np.linspace(-9, 2, 40),
     np.r_[np.full(30, 1.0), 7.0], np.zeros(20)],
    ids=["one", "one below", "zero", "triple", "negative", "spread", "outlier", "nothing"],
)  # fmt: skip
@pytest.mark.parametrize(("num_products", "is_double"), [(1, False), (8, True), (50, False)])
def test_a_quadratic_has_its_largest_eigenvalue(eigenvalues, num_products, is_double):
    with jax.enable_x64(is_double):
        diagonal = jnp.asarray(eigenvalues, float)
        loss_fn = lambda w, diagonal: quadratic(diagonal, w)
        probe = sharpness_probe(loss_fn, diagonal, key=KEY, num_products=num_products, tol=1e-6)
        now = Snapshot(0, jnp.ones_like(diagonal))
        state = probe.init(now)
        for _ in range(4):
            state, found = probe.measure(state, now)
    value, residual = float(found.value), float(found.residual)
    spread = np.max(np.abs(eigenvalues))
    # a single product more than the three that are kept is a slow method
    if num_products > 1 or np.ptp(eigenvalues) == 0:
        assert abs(value - np.max(eigenvalues)) <= 1e-5 * spread
    assert np.min(np.abs(value - np.asarray(eigenvalues))) <= residual + 1e-5 * spread
    assert 1 <= found.num_products <= min(5 * num_products, 5 * len(eigenvalues))
    assert np.isfinite(state).all()


def test_what_is_not_finite_is_not_a_number_and_does_not_last():
    loss_fn = lambda w, _: jnp.sum(w**2) * jnp.where(w[0] > 5, jnp.nan, 2.0)
    probe = sharpness_probe(loss_fn, jnp.ones(1), key=KEY)
    state = probe.init(Snapshot(0, jnp.ones(3)))
    _, bad = probe.measure(state, Snapshot(0, jnp.full(3, 9.0)))
    state, _ = probe.measure(state, Snapshot(0, jnp.full(3, 9.0)))
    _, good = probe.measure(state, Snapshot(1, jnp.ones(3)))
    assert np.isnan(bad.value)
    assert np.isnan(bad.residual)
    np.testing.assert_allclose(good.value, 4.0, rtol=1e-5)


@pytest.mark.slow
def test_a_compiled_measurement_is_the_same():
    data, params = images(), network(jax.random.key(3))
    probe = sharpness_probe(half_squared_error, data, key=KEY, num_products=4)
    now = Snapshot(0, params)
    state = probe.init(now)
    plain = probe.measure(state, now)
    compiled = jax.jit(probe.measure)(state, now)
    assert plain[1].num_products == compiled[1].num_products
    np.testing.assert_allclose(plain[1].value, compiled[1].value, rtol=1e-4)
    assert isinstance(compiled[1], TrackedSharpness)


class Net(nnx.Module):
    def __init__(self):
        self.norm = nnx.BatchNorm(2, rngs=nnx.Rngs(0))
        self.out = nnx.Linear(2, 1, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.out(self.norm(x))


class Weight(eqx.Module):
    w: jax.Array
    act: object

    def __call__(self, x):
        return self.act(x @ self.w)


X = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.5, -1.0]])
MODELS = {
    "nnx": (Net, lambda model, x: jnp.mean(model(x) ** 2)),
    "equinox": (lambda: Weight(jnp.ones(2), jnp.tanh), lambda model, x: jnp.mean(model(x) ** 2)),
    "linen": (
        lambda: {"params": {"w": jnp.ones(2)}, "stats": {"n": jnp.float32(0.0)}},
        lambda model, x: jnp.mean((x @ model["params"]["w"]) ** 2),
    ),
    "complex": (lambda: jnp.array([1j, 1.0]), lambda w, x: jnp.mean(jnp.abs(x @ w) ** 2)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_any_kind_are_tracked_under_adam(kind):
    make, loss_fn = MODELS[kind]
    data = X.astype(complex) if kind == "complex" else X
    probe = {
        "plain": sharpness_probe(loss_fn, data, key=KEY),
        "adam": sharpness_probe(loss_fn, data, key=KEY, preconditioner=adam_preconditioner),
    }
    result = fit(
        loss_fn, make(), adam(0.01), data, batch_size=4, num_epochs=4, key=jax.random.key(0),
        progress=False, probes=probe, probe_every=2,
    )  # fmt: skip
    plain, seen = (result.history.probes[name].value for name in ("plain", "adam"))
    assert np.isfinite(plain).all()
    assert np.isfinite(seen[1:]).all()
    if kind in ("linen", "complex"):
        # 2 x.T x / 4
        exact = np.linalg.eigvalsh(np.asarray(X).T @ np.asarray(X) / 2)[-1]
        np.testing.assert_allclose(plain, exact, rtol=1e-5)


def test_a_loss_that_draws_and_has_a_state_is_given_both():
    seen = []

    def loss_fn(w, batch, key, state):
        noise = jax.random.uniform(key, ())
        seen.append(state)
        return (1 + noise) * jnp.sum(w**2) + 0 * jnp.sum(batch), Aux(model_state=state)

    probe = sharpness_probe(loss_fn, X, key=KEY)
    now = Snapshot(0, jnp.ones(2), None, {"n": jnp.float32(1.0)})
    state = probe.init(now)
    values = []
    for _ in range(2):
        state, found = probe.measure(state, now)
        values.append(float(found.value))
    assert values[0] == pytest.approx(values[1], rel=1e-6)  # the same draw
    assert 2 < values[0] < 4
    assert seen


def test_chunks_of_data_make_one_sharpness():
    now = Snapshot(0, jnp.ones(2))
    loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)
    found = []
    for batches, options in [((X,), {}), ((X,), {"batch_size": 3}), ((X[:1], X[1:]), {})]:
        probe = sharpness_probe(loss_fn, *batches, key=KEY, **options)
        found.append(probe.measure(probe.init(now), now)[1].value)
    np.testing.assert_allclose(found, found[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"num_products": 0}, ValueError,
            "sharpness_probe needs num_products >= 1, got num_products=0.",
        ),
        (
            {"num_products": 2.5}, TypeError,
            "sharpness_probe needs a whole num_products, got num_products=2.5.",
        ),
        ({"tol": 0.0}, ValueError, "sharpness_probe needs tol > 0, got tol=0.0."),
        (
            {"preconditioner": lambda _: {"w": jnp.ones(2)}}, ValueError,
            "sharpness_probe",
        ),
        (
            {"preconditioner": adam_preconditioner}, ValueError,
            "adam_preconditioner needs a state with Adam's in it",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_tracked_is_refused(options, error, message):
    now = Snapshot(0, jnp.ones(2), optax.sgd(0.1).init(jnp.ones(2)))
    loss_fn = lambda w, x: jnp.mean((x @ w) ** 2)

    def measured():
        probe = sharpness_probe(loss_fn, X, key=KEY, **options)
        return probe.measure(probe.init(now), now)

    with pytest.raises(error, match=message):
        measured()
