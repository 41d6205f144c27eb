"""Axes that grow, factors of the maximal update parametrisation, and the check of coordinates."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxopt_tut.calibration import coordinate_check, mup_multipliers, width_axes
from jaxopt_tut.models import mlp

X = jax.random.normal(jax.random.key(5), (16, 4))


def make_params(width):
    return mlp.init(jax.random.key(0), (4, width, width, 2))


def test_axes_that_grow_are_found():
    axes = width_axes(make_params, (8, 16))
    assert [axes[f"{k}/kernel"] for k in range(3)] == [(1,), (0, 1), (0,)]
    assert [axes[f"{k}/bias"] for k in range(3)] == [(0,), (0,), ()]


@pytest.mark.parametrize(
    ("optimizer", "kernels", "biases"),
    [
        ("adam", [1.0, 0.25, 0.25], [1.0, 1.0, 1.0]),
        ("sgd", [4.0, 1.0, 0.25], [4.0, 4.0, 1.0]),
        ("momentum", [4.0, 1.0, 0.25], [4.0, 4.0, 1.0]),
    ],
)
def test_factors_are_those_of_table_3(optimizer, kernels, biases):
    factors = mup_multipliers(make_params, 16, 64, optimizer=optimizer)
    assert [layer["kernel"] for layer in factors.learning_rate] == kernels
    assert [layer["bias"] for layer in factors.learning_rate] == biases
    assert [layer["kernel"] for layer in factors.init] == [1.0, 1.0, 0.5]


def loss_fn(params, x):
    return jnp.mean((mlp.apply(params, x, jnp.tanh) - 1) ** 2)


def standard(width, key):
    return loss_fn, mlp.init(key, (4, width, width, 2)), optax.sign_sgd(1e-3)


def maximal(width, key):
    factors = mup_multipliers(make_params, 32, width)
    params = jax.tree.map(jnp.multiply, mlp.init(key, (4, width, width, 2)), factors.init)
    scale = optax.stateless(lambda u, _: jax.tree.map(jnp.multiply, u, factors.learning_rate))
    return loss_fn, params, optax.chain(optax.sign_sgd(1e-3), scale)


@pytest.mark.slow
def test_only_the_maximal_update_parametrisation_passes():
    widths = (33, 96, 288)
    fixed = coordinate_check(maximal, widths, X, key=jax.random.key(0))
    grows = coordinate_check(standard, widths, X, key=jax.random.key(0))
    assert fixed.ok
    assert not grows.ok
    assert grows.slopes[1] > 0.5
    assert fixed.names == ("0/kernel", "1/kernel", "2/kernel")
    assert fixed.changes.shape == (3, 3)


@pytest.mark.slow
def test_changes_are_those_of_training():
    found = coordinate_check(standard, (8, 16), X, key=jax.random.key(0), steps=1, num_seeds=1)
    (own,) = jax.random.split(jax.random.key(0), 1)
    params = standard(8, own)[1]
    moved = jax.tree.map(lambda w, g: w - 1e-3 * jnp.sign(g), params, jax.grad(loss_fn)(params, X))
    before, after = (
        mlp.apply(one, X, jnp.tanh, return_pre_activations=True)[1] for one in (params, moved)
    )
    for k in range(3):
        # A difference of values near 1 that agree to 1e-3 keeps four digits.
        expected = jnp.sqrt(jnp.mean((after[k] - before[k]) ** 2))
        np.testing.assert_allclose(found.changes[0, k], expected, rtol=2e-3)


def test_bad_widths_are_refused():
    with pytest.raises(ValueError, match="width_axes needs two different widths, got 8 twice"):
        width_axes(make_params, (8, 8))
    with pytest.raises(ValueError, match=r"at least two increasing widths, got widths=\(8,\)"):
        coordinate_check(standard, (8,), X, key=jax.random.key(0))
    with pytest.raises(ValueError, match="steps >= 1 and num_seeds >= 1, got steps=0"):
        coordinate_check(standard, (8, 16), X, key=jax.random.key(0), steps=0)
    with pytest.raises(ValueError, match="needs optimizer 'sgd', 'momentum' or 'adam', got"):
        mup_multipliers(make_params, 8, 16, optimizer="lion")
    with pytest.raises(ValueError, match="width_axes needs trees with the same leaves"):
        width_axes(lambda n: mlp.init(jax.random.key(0), (4,) * (n // 4)), (8, 16))


class Nnx(nnx.Module):
    """Two layers, with running averages and a key of its own between them."""

    def __init__(self, width, rngs):
        self.first = nnx.Linear(4, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(width, 2, rngs=rngs)

    def __call__(self, x):
        """Return two numbers an example."""
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class Linen(linen.Module):
    """The same without the key."""

    width: int

    @linen.compact
    def __call__(self, x):
        """Return two numbers an example."""
        hidden = linen.Dense(self.width, name="first")(x)
        hidden = linen.BatchNorm(use_running_average=False)(hidden)
        return linen.Dense(2, name="last")(linen.relu(hidden))


def of_nnx(width, key):
    return lambda model, x: jnp.mean((model(x) - 1) ** 2), Nnx(width, nnx.Rngs(key))


def of_linen(width, key):
    model = Linen(width)

    def loss_fn(variables, x):
        outputs, _ = model.apply(variables, x, mutable=["batch_stats"])
        return jnp.mean((outputs - 1) ** 2)

    return loss_fn, model.init(key, X)


def of_equinox(width, key):
    def loss_fn(model, x):
        return jnp.mean((jax.vmap(model)(x) - 1) ** 2)

    return loss_fn, eqx.nn.MLP(4, 2, width, 1, key=key)


MODELS = {
    "nnx": (of_nnx, ("first/kernel", "last/kernel")),
    "linen": (of_linen, ("first/kernel", "last/kernel")),
    "equinox": (of_equinox, ("layers/0/weight", "layers/1/weight")),
}


@pytest.mark.parametrize("library", MODELS)
def test_models_are_taken_and_a_layer_that_hears_of_no_width_changes_alike(library):
    make, names = MODELS[library]
    found = coordinate_check(
        lambda width, key: (*make(width, key), optax.sign_sgd(1e-3)),
        (8, 32), X, key=jax.random.key(0), steps=1, num_seeds=1,
    )  # fmt: skip
    slopes = {
        name.removeprefix("params/"): s for name, s in zip(found.names, found.slopes, strict=True)
    }
    assert set(slopes) == set(names)
    # One step moves each weight by the rate: z of the first layer by at most 1e-3 (|x|_1 + 1).
    # Of the data alone depends by how much, but for the signs, which are those of each unit.
    assert abs(slopes[names[0]]) < 0.1
    # With the sum over 4 times as many units whose slopes agree at most 4 times as much: s <= 1.
    assert 0.2 < slopes[names[1]] <= 1.1


def noisy(params, x, key):
    return loss_fn(params, x + jax.random.normal(key, x.shape))


def test_a_loss_that_draws_is_handed_keys_and_draws_the_same_before_and_after():
    make = lambda rate, width, key: (noisy, standard(width, key)[1], optax.sgd(rate))
    check = lambda rate: coordinate_check(
        lambda width, key: make(rate, width, key), (8, 16), X, key=jax.random.key(0), num_seeds=1
    )
    assert (check(1e-2).changes > 0).all()
    # without a step nothing changes, so that nothing else was drawn
    np.testing.assert_array_equal(check(0.0).changes, 0)


def test_each_step_draws_anew():
    seen = []

    def note(params, x, key):
        jax.debug.callback(
            lambda data: seen.append(tuple(np.asarray(data).tolist())), jax.random.key_data(key)
        )
        return loss_fn(params, x)

    make = lambda width, key: (note, standard(width, key)[1], optax.sgd(1e-2))
    coordinate_check(make, (8, 16), X, key=jax.random.key(0), num_seeds=1, steps=3)
    jax.effects_barrier()
    # of each width that of the measurement and one a step, the same for both
    assert len(set(seen)) == 4


BAD = {
    "no function": ((3, 1.0, optax.sgd(1.0)), "needs a function, got int"),
    "no loss of a batch": ((lambda _: 0.0, 1.0, optax.sgd(1.0)), "calls fn(params, batch), "),
    "no scalar": ((lambda params, x: params * x, 1.0, optax.sgd(1.0)), "needs a loss that is a "),
    "no optimizer": ((loss_fn, 1.0, optax.sgd), "needs an optax transformation as optimizer"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_make_must_not_return(what):
    made, sentence = BAD[what]
    with pytest.raises((TypeError, ValueError), match=re.escape(f"coordinate_check {sentence}")):
        coordinate_check(lambda _, __: made, (8, 16), X, key=jax.random.key(0))
