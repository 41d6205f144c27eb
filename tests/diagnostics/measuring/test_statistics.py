"""Statistics of layers against values recorded by the taps and by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxopt_tut import diagnostics, taps
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.initializers import constant
from jaxopt_tut.models import mlp

statistics = jax.jit(diagnostics.statistics, static_argnums=0, static_argnames="optimizer")
X = jax.random.normal(jax.random.key(1), (12, 6))
PARAMS = mlp.init(jax.random.key(0), (6, 8, 5, 3))


def mlp_loss(params, x):
    return jnp.mean(jnp.sum(mlp.apply(params, x, jnp.tanh) ** 2, axis=-1))


@pytest.mark.slow
def test_statistics_are_those_of_the_recorded_values():
    layers = statistics(mlp_loss, PARAMS, X).layers
    _, gradients, values, cotangents = taps.record_gradients(mlp_loss)(PARAMS, X)
    assert list(layers) == ["0/kernel", "1/kernel", "2/kernel"]
    for i, (name, layer) in enumerate(layers.items()):
        bent = values.get(f"{name}/activation", values[name])
        for summary, array in (
            (layer.weights, PARAMS[i]["kernel"]),
            (layer.pre_activations, values[name]),
            (layer.activations, bent),
            (layer.cotangents, cotangents[name]),
            (layer.weight_gradients, gradients[i]["kernel"]),
        ):
            # Two orders of summation of at most 100 values differ by some eps * log2(100).
            np.testing.assert_allclose(summary.mean, array.mean(), rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(summary.variance, array.var(), rtol=1e-5)


@pytest.mark.slow
def test_saturation_is_the_share_of_small_slopes():
    params = jax.tree.map(lambda leaf: 4 * leaf, PARAMS)
    layer = statistics(mlp_loss, params, X).layers["0/kernel"]
    slope = 1 - jnp.tanh(mlp.apply(params[:1], X)) ** 2
    assert 0.1 < layer.fraction_saturated < 0.9
    np.testing.assert_allclose(layer.fraction_saturated, (slope < 0.05).mean(), rtol=1e-6)


@pytest.mark.slow
def test_units_that_are_off_for_all_examples_are_dead():
    params = mlp.init(jax.random.key(0), (6, 8, 3))
    params[0]["bias"] = jnp.zeros(8).at[:2].set(-100.0)
    layer = statistics(lambda p, x: jnp.mean(mlp.apply(p, x) ** 2), params, X).layers["0/kernel"]
    on = (mlp.apply(params[:1], X) > 0).any(axis=0)
    assert layer.fraction_dead == 1 - on.mean()
    assert layer.fraction_dead >= 0.25


def test_correlation_is_the_mean_over_pairs():
    layer = statistics(mlp_loss, PARAMS, X).layers["1/kernel"]
    z = np.asarray(mlp.apply(PARAMS[:2], X, jnp.tanh), np.float64)
    gram = z @ z.T
    pairs = gram[~np.eye(len(z), dtype=bool)].mean() / np.diag(gram).mean()
    np.testing.assert_allclose(layer.correlation, pairs, rtol=1e-5)


@pytest.mark.slow
def test_a_constant_start_has_one_distinct_gradient_a_layer():
    params = mlp.init(jax.random.key(0), (6, 8, 8, 3), kernel_init=constant(0.1))
    labels = jnp.arange(12) % 3

    def loss_fn(params, x):
        return optax.softmax_cross_entropy_with_integer_labels(mlp.apply(params, x), labels).mean()

    layers = statistics(loss_fn, params, jnp.abs(X) + X[:, ::-1] ** 2).layers
    # The last layer's gradients differ over the classes only.
    assert [int(layer.distinct_gradients) for layer in layers.values()][:2] == [1, 1]
    assert layers["2/kernel"].distinct_gradients == 3


@pytest.mark.slow
def test_update_ratio_and_promised_change_are_those_of_the_step():
    measured = statistics(mlp_loss, PARAMS, X, optimizer=optax.sgd(0.1))
    gradient = jax.grad(mlp_loss)(PARAMS, X)
    for i, layer in enumerate(measured.layers.values()):
        ratio = 0.1 * jnp.linalg.norm(gradient[i]["kernel"]) / jnp.linalg.norm(PARAMS[i]["kernel"])
        np.testing.assert_allclose(layer.update_ratio, ratio, rtol=1e-5)
    np.testing.assert_allclose(
        measured.expected_change, -0.1 * optax.tree.norm(gradient) ** 2, rtol=1e-5
    )
    after = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, gradient)
    np.testing.assert_allclose(measured.loss_after_update, mlp_loss(after, X), rtol=1e-5)


@pytest.mark.slow
def test_a_scanned_layer_is_measured_at_each_step():
    keys = jax.random.split(jax.random.key(4), 3)
    stack = jnp.stack([jax.random.normal(key, (6, 6)) for key in keys])

    def scanned(params, x):
        hidden, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params)
        return jnp.mean(hidden[:, 0])

    def unrolled(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return jnp.mean(x[:, 0])

    (layer,) = statistics(scanned, stack, X).layers.values()
    alone = statistics(unrolled, tuple(stack), X).layers
    assert layer.pre_activations.variance.shape == (3,)
    assert layer.update_ratio.shape == (3,)
    for k, other in enumerate(alone.values()):
        for field in ("weights", "pre_activations", "activations", "cotangents"):
            ours, theirs = getattr(layer, field), getattr(other, field)
            np.testing.assert_allclose(ours.variance[k], theirs.variance, rtol=1e-4)
        assert layer.distinct_gradients[k] == other.distinct_gradients


@pytest.mark.slow
def test_the_data_that_a_scan_hands_to_its_steps_are_known():
    def loss_fn(params, batch):
        step = lambda h, x: (jnp.tanh(x @ params["w"] + h @ params["u"]), None)
        hidden, _ = jax.lax.scan(step, jnp.zeros((3, 6)), jnp.swapaxes(batch["x"], 0, 1))
        return jnp.mean((hidden[:, :2] - batch["y"]) ** 2)

    params = {"w": PARAMS[0]["kernel"][:, :6], "u": jnp.eye(6)}
    batch = {"x": X.reshape(3, 4, 6), "y": X[:3, :2]}
    layers = statistics(loss_fn, params, batch).layers
    assert layers["u"].inputs is None  # its own state
    assert layers["w"].inputs.mean.shape == (4,)
    np.testing.assert_allclose(layers["w"].inputs.variance, np.full(4, X.var()), rtol=1e-5)


def _linen():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(3)(jnp.tanh(linen.Dense(8)(x)))

    model = Net()
    params = model.init(jax.random.key(0), X)
    return lambda p, x: (jnp.mean(jnp.asarray(model.apply(p, x)) ** 2), {"aux": x}), params


def _nnx():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.inner = nnx.Linear(6, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.outer = nnx.Linear(8, 3, rngs=rngs)

    graphdef, params, rest = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)

    def loss_fn(params, x):
        net = nnx.merge(graphdef, params, rest, copy=True)
        return jnp.mean(net.outer(jnp.tanh(net.norm(net.inner(x)))) ** 2)

    return loss_fn, params


def _equinox():
    model = eqx.nn.MLP(6, 3, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    return lambda m, x: jnp.mean(jax.vmap(m)(x) ** 2), model


@pytest.mark.slow
@pytest.mark.parametrize("make", [_linen, _nnx, _equinox], ids=["linen", "nnx", "equinox"])
def test_models_of_every_library_are_read(make):
    loss_fn, params = make()
    diagnosis = diagnose(loss_fn, params, X, optimizer=optax.sgd(0.1))
    inner, outer = diagnosis.layers.values()
    assert inner.weights.variance > 0
    assert (inner.active_gradients, outer.active_gradients) == (8, 3)
    assert np.abs(inner.activations.mean) < 1  # tanh's, behind the normalisation
    assert np.isfinite(outer.update_ratio)


@pytest.mark.slow
def test_statistics_under_jit_are_those_without():
    def loss_fn(weight, x):
        return jnp.mean((x @ weight) ** 2)

    weight = PARAMS[0]["kernel"]
    eager = diagnostics.statistics(loss_fn, weight, X).layers["(root)"]
    compiled = statistics(loss_fn, weight, X).layers["(root)"]
    np.testing.assert_allclose(compiled.cotangents.variance, eager.cotangents.variance, rtol=1e-5)
    assert compiled.distinct_gradients == eager.distinct_gradients


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_double_precision_is_kept():
    params = jax.tree.map(lambda leaf: leaf.astype("float64"), PARAMS)
    layer = statistics(mlp_loss, params, X.astype("float64")).layers["0/kernel"]
    assert layer.pre_activations.variance.dtype == "float64"


@pytest.mark.parametrize(
    ("loss_fn", "params", "x", "error", "message"),
    [
        (lambda p, x: jnp.sum(x) * p["a"], {"a": jnp.ones(())}, X, ValueError, "found no layer"),
        (mlp_loss, PARAMS, X[:1], ValueError, "at least two examples, got one at '0/kernel'"),
        (mlp_loss, PARAMS, X[:0], ValueError, "at least two examples, got none"),
        (lambda p, x: jnp.sum(x @ p), jnp.ones((6, 0)), X, ValueError, "found no layer"),
        (mlp_loss, {"w": jnp.arange(3)}, X, TypeError, "got int32 at 'w'"),
        (lambda p, x: x @ p, jnp.ones((6, 2)), X, ValueError, r"real scalar.*got float32\[12"),
        (lambda p, x: 0.0 if (x @ p)[0, 0] > 0 else 1.0, X.T, X, TypeError, "cannot trace"),
    ],
    ids=[
        "no weights", "one example", "no example", "no units", "integers", "no scalar",
        "untraceable",
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused(loss_fn, params, x, error, message):
    with pytest.raises(error, match="statistics .*" + message):
        statistics(loss_fn, params, x)


def test_a_layer_of_no_units_is_left_out():
    params = {"empty": jnp.ones((6, 0)), "full": jnp.ones((6, 2))}
    found = statistics(lambda p, x: sum(jnp.sum(x @ p[k]) for k in p), params, X)
    assert list(found.layers) == ["full"]


def test_a_layer_out_of_reach_is_named():
    def loss_fn(w, x):
        return jnp.sum(jax.lax.while_loop(lambda h: jnp.sum(h) < 0, lambda h: h @ w, x))

    with pytest.raises(ValueError, match=r"cannot reach '.*': it lies inside while_loop"):
        statistics(loss_fn, jnp.eye(6), X)
