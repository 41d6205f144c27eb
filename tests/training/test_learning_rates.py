"""The rate that is found: where theory puts it, and close to the best of a grid."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Split, load_fashion_mnist_mini, normalize
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Aux, RateRange, find_learning_rate, shuffled, train
from jaxopt_tut.training.learning_rates import _rate_range

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 4)).astype(np.float32)
Y = (X @ np.array([1.0, -1.0, 2.0, 0.0]) + 0.1 * RNG.normal(size=96)).astype(np.float32)


def regression(w, batch):
    return jnp.mean((batch[0] @ w - batch[1]) ** 2)


def find(loss_fn=regression, params=None, factory=optax.sgd, data=(X, Y), **options):
    options = {"batch_size": 16, "key": KEY, "seeds": 3, **options}
    params = jnp.zeros(4) if params is None else params
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes in places
        return find_learning_rate(loss_fn, params, factory, data, **options)


def test_losses_are_those_of_a_plain_loop():
    found = find(factory=optax.adam, seeds=2, num_steps=9, lowest=1e-3, highest=1.0)
    np.testing.assert_allclose(found.rates, np.geomspace(1e-3, 1.0, 9))
    for seed in range(2):
        shuffle_key = jax.random.split(jax.random.fold_in(KEY, seed))[1]
        order = lambda epoch, key=shuffle_key: jax.random.permutation(
            jax.random.fold_in(key, epoch), 96
        )
        train_rows = np.concatenate([order(0), order(1)]).reshape(-1, 16)
        w, state, losses = jnp.zeros(4), optax.adam(0.0).init(jnp.zeros(4)), []
        for rows, rate in zip(train_rows, found.rates, strict=False):
            losses.append(
                regression(w, (X[order(2)], Y[order(2)]))
            )  # all examples, as they are few
            grad = jax.grad(regression)(w, (X[rows], Y[rows]))
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optax.adam(rate).update(grad, state)
            w = optax.apply_updates(w, updates)
        np.testing.assert_allclose(found.losses[seed], losses, rtol=1e-5)


@pytest.mark.parametrize("curvature", [0.01, 1.0, 100.0])
def test_it_is_a_tenth_of_what_a_parabola_bears(curvature):
    """Steps on c w^2 shrink w at rates below 1/c, and the loss is least where that ends."""
    loss_fn = lambda w, batch: curvature * jnp.mean(batch * w**2)
    found = find(
        loss_fn, jnp.array(1.0), data=jnp.ones(16), lowest=1e-6 / curvature,
        highest=1e6 / curvature,
    )  # fmt: skip
    # the loss turns within the few steps before the rate 1/c, a factor of 1.76 each
    assert 0.1 < found.suggestion * 10 * curvature < 1.76
    assert found.spread == 1
    assert found.diverged.all()
    assert not found.at_edge.any()
    assert np.isnan(found.losses[0, -1])


def test_it_is_the_geometric_median_over_seeds():
    rates = np.geomspace(1e-3, 1e3, 61)  # ten a decade
    valley = lambda rate: np.log10(rates / rate) ** 2
    losses = np.stack([valley(rate) for rate in (0.1, 1.0, 10.0, 100.0)])
    found = _rate_range(rates, losses)
    np.testing.assert_allclose(found.suggestions, [0.01, 0.1, 1.0, 10.0], rtol=1e-6)
    np.testing.assert_allclose(found.suggestion, 0.1**0.5, rtol=1e-6)
    np.testing.assert_allclose(found.spread, 1000, rtol=1e-6)
    losses[3] = np.nan
    found = _rate_range(rates, losses)
    np.testing.assert_allclose(found.suggestion, 0.1, rtol=1e-6)
    assert found.diverged[[0, 2, 3]].tolist() == [True, False, True]
    assert found.message == "0.1 (within a factor of 1e+02 over 4 seeds)."
    assert _rate_range(rates, losses[1:2]).message == "0.1 (within a factor of 1 over 1 seed)."


def test_a_spike_and_an_overflow_do_not_hide_the_minimum():
    rates = np.geomspace(1e-3, 1e3, 61)
    losses = 1 + np.log10(rates / 1.0) ** 2
    losses[35:] = 1e30
    losses[40:] = np.nan
    found = _rate_range(rates, losses[None])
    np.testing.assert_allclose(found.suggestion, 0.1, rtol=0.3)
    assert found.diverged.all()


def test_a_minimum_at_an_end_is_flagged():
    loss_fn = lambda w, batch: jnp.mean(batch * w**2)
    found = find(loss_fn, jnp.array(1.0), data=jnp.ones(16), highest=1e-2)
    assert found.at_edge.all()
    assert found.message == (
        "0.001 (within a factor of 1 over 3 seeds), but 3 of 3 minima are at an end of the range "
        "of rates: widen it, or take more steps."
    )


def test_a_loss_that_is_never_finite_is_flagged():
    found = find(lambda w, batch: jnp.sum(w) / 0.0 + jnp.mean(batch[0]))
    assert math.isnan(found.suggestion)
    assert math.isnan(found.spread)
    assert found.diverged.all()
    assert found.message == "No loss was finite."


def test_negative_losses_have_a_minimum_too():
    found = find(lambda w, batch: regression(w, batch) - 100)
    other = find()
    np.testing.assert_allclose(found.suggestions, other.suggestions, rtol=1e-5)


def test_seeds_draw_other_parameters_and_batches():
    found = find(params=lambda key: jax.random.normal(key, (4,)))
    assert len(set(found.losses[:, 0].tolist())) == 3
    again = find(params=lambda key: jax.random.normal(key, (4,)))
    np.testing.assert_array_equal(found.losses, again.losses)
    more = find(params=lambda key: jax.random.normal(key, (4,)), seeds=4)
    np.testing.assert_allclose(more.losses[:3], found.losses, rtol=1e-6)


@pytest.mark.parametrize(
    "factory",
    [
        lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
        lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate),
        lambda rate: optax.chain(optax.polyak_sgd(), optax.scale(rate)),
        optimizers.momentum,
        optimizers.steepest_descent,
        lambda rate: optimizers.adamw(rate, weight_decay=1e-3),
    ],
)
def test_any_factory_of_a_traced_rate_will_do(factory):
    found = find(factory=factory, seeds=1)
    assert 1e-6 < found.suggestion < 10
    assert np.nanmin(found.losses) < 0.5 * found.losses[0, 0]


def test_keys_and_states_are_handed_over():
    def loss_fn(w, batch, key, state):
        noisy = jnp.where(jax.random.bernoulli(key, 0.9, batch[0].shape), batch[0], 0.0)
        loss = jnp.mean((noisy @ w - batch[1] - state) ** 2)
        return loss, Aux(model_state=0.9 * state + 0.1 * jnp.mean(batch[1]))

    found = find(loss_fn, model_state=jnp.array(0.0))
    assert np.nanmin(found.losses) < found.losses[0, 0]
    assert 1e-4 < found.suggestion < 1


def test_models_of_flax_and_equinox_are_taken():
    def loss(model, batch):
        return jnp.mean((model(batch[0])[:, 0] - batch[1]) ** 2)

    def mapped(model, batch):
        return jnp.mean((jax.vmap(model)(batch[0])[:, 0] - batch[1]) ** 2)

    linear = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    kernel = np.asarray(linear.kernel[...])
    for loss_fn, model in (
        (loss, linear),
        (lambda model, batch: loss(model, batch), lambda key: nnx.Linear(4, 1, rngs=nnx.Rngs(key))),
        (mapped, eqx.nn.MLP(4, 1, 8, 1, key=KEY)),
    ):
        assert 1e-5 < find(loss_fn, model, optax.adam, seeds=1).suggestion < 1
    np.testing.assert_array_equal(linear.kernel[...], kernel)


def test_doubles_are_taken():
    with jax.enable_x64(True):
        data = X.astype(float), Y.astype(float)
        found = find_learning_rate(
            regression, jnp.zeros(4), optax.sgd, data, batch_size=16, key=KEY, seeds=1
        )
        assert 1e-3 < found.suggestion < 1


def test_the_result_is_a_tree():
    found = find(seeds=1)
    assert isinstance(jax.tree.map(np.asarray, found), RateRange)


DATA = load_fashion_mnist_mini()
SMALL = DATA._replace(train=Split(DATA.train.images[:3000], DATA.train.labels[:3000]))


def cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


PROBLEMS = {
    "network": (
        lambda params, batch: cross_entropy(mlp.apply(params, batch.images), batch.labels),
        lambda key: mlp.init(key, (784, 32, 10)),
    ),
    "logistic": (
        lambda w, batch: cross_entropy(batch.images.reshape(-1, 784) @ w, batch.labels),
        lambda _: jnp.zeros((784, 10)),
    ),
}
FACTORIES = {
    "sgd": (optax.sgd, 1e-4),
    "momentum": (optimizers.momentum, 1e-4),
    "adam": (optimizers.adam, 1e-6),
}


@pytest.mark.slow
@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", FACTORIES)
def test_the_suggestion_is_as_good_as_the_best_of_a_grid(problem, name):
    """Loss on the test images after 10 epochs, within 1.15 of that of the best of 20 rates."""
    (loss_fn, init), (factory, lowest) = PROBLEMS[problem], FACTORIES[name]
    found = find_learning_rate(loss_fn, init, factory, SMALL, batch_size=32, key=jax.random.key(1))
    test = Split(normalize(jnp.asarray(DATA.test.images), DATA.mean, DATA.std), DATA.test.labels)
    keys = list(jax.random.split(jax.random.key(2), 2))
    batches = [shuffled(SMALL, batch_size=32, num_epochs=10, key=key) for key in keys]

    @jax.jit
    def final(rate):
        results = [
            train(loss_fn, init(key), factory(rate), one, num_steps=930, guarded=False)
            for key, one in zip(keys, batches, strict=True)
        ]
        return jnp.mean(jnp.stack([loss_fn(result.params, test) for result in results]))

    rates = np.append(np.geomspace(lowest, 1e5 * lowest, 20), found.suggestion)
    *grid, ours = [float(final(rate)) for rate in rates.astype(np.float32)]
    best = np.nanmin(grid)
    assert grid[0] > 1.15 * best  # the grid reaches beyond
    assert ours <= 1.15 * best
    assert found.spread <= 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"factory": optax.adam(0.1)}, TypeError, "got GradientTransformationExtraArgs: hand over"),
        ({"factory": 0.1}, TypeError, "needs a function as optimizer_factory, got float"),
        (
            {"factory": lambda: None},
            TypeError,
            r"calls optimizer_factory\(learning_rate\)",
        ),
        (
            {"factory": lambda rate: rate},
            TypeError,
            "find_learning_rate needs an optax transformation",
        ),
        ({"seeds": 0}, ValueError, "find_learning_rate needs seeds >= 1, got seeds=0"),
        ({"num_steps": 1}, ValueError, "needs num_steps >= 2, got num_steps=1"),
        ({"batch_size": 97}, ValueError, r"examples \(96\), got batch_size=97"),
        ({"batch_size": 2.0}, TypeError, "needs an integer batch_size, got batch_size=2.0"),
        ({"lowest": 0.0}, ValueError, "needs 0 < lowest < highest < inf, got lowest=0.0"),
        ({"lowest": 1.0, "highest": 0.1}, ValueError, "lowest=1.0, highest=0.1"),
        ({"params": jnp.zeros(4, int)}, TypeError, "find_learning_rate needs floating or complex"),
        ({"key": 3}, TypeError, "needs one key"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        find(**options)
