"""AdamW: optax's path, decay beside the averages, derivatives at zero gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.optimizers import adamw

START = {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.25, -1.0])}
GRADIENTS = {
    "kernel": np.random.default_rng(0).normal(size=(20, 2, 2)) * [1.0, 1e-3],
    "bias": np.random.default_rng(1).normal(size=(20, 2)) * [1e2, 0.0],
}


def end_of(optimizer, dtype=float):
    """Follow an optimizer along the gradients."""
    cast = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)
    params = cast(START)

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimizer.init(params)), cast(GRADIENTS))[0][0]


SAME = {
    "defaults": ((0.1,), {}),
    "decay": ((0.1,), {"weight_decay": 0.3, "b1": 0.5, "b2": 0.8, "eps": 1e-3, "eps_root": 1e-4}),
    "schedules": (
        (optax.linear_schedule(0.1, 0.01, 20),),
        {"weight_decay": optax.linear_schedule(0.0, 0.5, 20)},
    ),
    "mask": ((0.1,), {"weight_decay": 0.3, "mask": {"kernel": True, "bias": False}}),
    "mask_function": (
        (0.1,),
        {"weight_decay": 0.3, "mask": lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)},
    ),
}


@pytest.mark.parametrize(("rate", "options"), SAME.values(), ids=SAME)
@pytest.mark.usefixtures("x64")
def test_ends_where_optax_ends(rate, options):
    ours = end_of(adamw(*rate, **options))
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of counts
        theirs = end_of(optax.adamw(*rate, **options))
    for name in START:  # twenty steps of some roundings; 1 / (1 - b2) of them where it divides
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-12)


def test_decay_is_beside_the_averages_and_multiplied_by_the_learning_rate():
    optimizer = adamw(0.5, weight_decay=0.1)
    w = jnp.array([4.0, -4.0, 0.0])
    updates, _ = optimizer.update(jnp.array([1e3, 0.0, 1e-3]), optimizer.init(w), w)
    # the sign of the gradient and the weight itself; eps = 1e-8 is 1e-5 of the last gradient
    np.testing.assert_allclose(updates, [-0.7, 0.2, -0.5], rtol=2e-5)


@pytest.mark.parametrize("name", ["learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"])
@pytest.mark.usefixtures("x64")
def test_derivatives_in_all_numbers_are_finite_and_right_at_zero_gradients(name):
    options = {"learning_rate": 0.1, "b1": 0.8, "b2": 0.9, "eps": 0.1, "weight_decay": 0.3}
    options = {**options, "eps_root": 0.01 if name == "eps_root" else 0.0}
    w = jnp.array([1.0, 0.0, -2.0])

    def loss(value):
        optimizer = adamw(**{**options, name: value})
        params, state = w, optimizer.init(w)
        for _ in range(3):  # the gradient of the second weight is 0 throughout
            updates, state = optimizer.update(2 * params, state, params)
            params = optax.apply_updates(params, updates)
        return jnp.sum(jnp.sin(params) + params**2)

    value, step = options[name], 1e-6
    slope = (loss(value + step) - loss(value - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(loss)(value), slope, rtol=1e-7, atol=1e-9)


def test_low_precision_weights_stay_what_they_are():
    end = end_of(adamw(0.01, weight_decay=jnp.float32(0.1), nu_dtype="float32"), "bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(end)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: adamw(0.1, weight_decay=-1.0), ValueError, "a finite weight_decay >= 0, got"),
        (lambda: adamw(0.1, weight_decay="x"), TypeError, "a real number as weight_decay"),
        (lambda: adamw(np.nan), ValueError, "a finite learning_rate, got learning_rate=nan"),
        (lambda: end_of(adamw(0.1), int), TypeError, "floating or complex"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_the_parameters_must_be_handed_over():
    optimizer, w = adamw(0.1), jnp.ones(2)
    with pytest.raises(ValueError, match=r"adamw needs params: call update"):
        optimizer.update(w, optimizer.init(w))
    with pytest.raises(ValueError, match="adamw needs"):
        optimizer.update(jnp.ones(2), optimizer.init(w), jnp.ones(3))
