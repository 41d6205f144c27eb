"""A message begins with the function that the user called, also where functions share work."""

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxopt_tut import autodiff, optimizers, training
from jaxopt_tut.bilevel import layers

KEY = jax.random.key(0)
ONES = jnp.ones(10)
VECTOR = lambda params, batch: params * batch
SQUARE = lambda params, batch: jnp.sum((params - batch) ** 2)
DOUBLE = lambda x, params: params * x


def bad_losses():
    """Return by name a loss that is none, and the options that go with it."""
    scalar = jnp.sum
    return {
        "no function": (3.0, {}),
        "a vector": (VECTOR, {}),
        "an integer": (lambda *_: 1, {}),
        "a text": (lambda *_: "a", {}),
        "three": (lambda params, _: (scalar(params), {}, 1), {}),
        "metrics": (lambda params, _: (scalar(params), 3.0), {}),
        "a vector as metric": (lambda params, batch: (scalar(params), {"a": batch}), {}),
        "a metric loss": (lambda params, _: (scalar(params), {"loss": 1.0}), {}),
        "no new state": (lambda params, _, state: scalar(params * state), {"model_state": 1.0}),
        "a state": (lambda params, _: (scalar(params), training.Aux({}, 1.0)), {}),
        "another state": (
            lambda params, _, state: (scalar(params), training.Aux({}, {"b": state})),
            {"model_state": 1.0},
        ),
    }


def train(loss_fn=SQUARE, **options):
    return training.train(loss_fn, 1.0, optax.sgd(0.1), jnp.ones((3, 2)), num_steps=2, **options)


def find(loss_fn=SQUARE, key=KEY, **options):
    return training.find_learning_rate(
        loss_fn, jnp.ones(()), optax.sgd, ONES, key=key, batch_size=2, **options
    )


def fit(loss_fn=SQUARE, key=KEY, **options):
    rest = {"num_epochs": 1, "batch_size": 2, "progress": False}
    return training.fit(loss_fn, jnp.ones(()), optax.sgd(0.1), ONES, key=key, **rest, **options)


CALLERS = {"train": train, "find_learning_rate": find, "fit": fit}
LOSSES = bad_losses()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("caller", CALLERS)
def test_who_takes_a_loss_refuses_it_in_its_own_name(caller, loss):
    loss_fn, options = LOSSES[loss]
    with pytest.raises((TypeError, ValueError), match=f"^{caller} needs "):
        CALLERS[caller](loss_fn, **options)


CALLS = {
    "train": lambda: train(lambda params, _, key: jax.random.normal(key) * params, key=3),
    "find_learning_rate": lambda: find(key=3),
    "fit": lambda: fit(key=3),
    "shuffled": lambda: training.shuffled(ONES, key=3, batch_size=2, num_epochs=1),
    "minimize": lambda: optimizers.minimize(jnp.sum, "a"),
    "least_squares": lambda: optimizers.least_squares(lambda params: params, "a"),
    "curve_fit": lambda: optimizers.curve_fit(DOUBLE, ONES, ONES, "a"),
    "covariance": lambda: optimizers.covariance(lambda params: params, "a"),
    "qp": lambda: layers.qp(jnp.eye(2), ONES),
    "qp_solution": lambda: layers.qp_solution(jnp.eye(2), ONES),
    "grad": lambda: autodiff.grad(lambda x: x)(ONES),
    "value_and_grad": lambda: autodiff.value_and_grad(lambda x: x)(ONES),
    "adam": lambda: optimizers.adam(0.1, b1=2.0),
    "adamw": lambda: optimizers.adamw(0.1, b1=2.0),
}


@pytest.mark.parametrize("caller", CALLS)
def test_who_shares_work_with_another_keeps_its_name(caller):
    with pytest.raises((TypeError, ValueError), match=f"^{caller} needs "):
        CALLS[caller]()


PAIRS = {
    "no function": lambda of: of(3.0),
    "argnums": lambda of: of(lambda x: x, "x"),
    "a position": lambda of: of(lambda x: x, 3)(1.0),
    "an integer": lambda of: of(lambda x: x * 1.0)(1),
    "no number": lambda of: of(lambda _: 1.0)("x"),
    "an output": lambda of: of(lambda x: x.astype(int).sum())(ONES),
}


@pytest.mark.parametrize("given", PAIRS)
@pytest.mark.parametrize("caller", ["grad", "value_and_grad"])
def test_both_gradients_refuse_in_their_own_name(caller, given):
    with pytest.raises((TypeError, ValueError), match=f"^{caller} needs "):
        PAIRS[given](getattr(autodiff, caller))
