"""The forms of a loss that `fit` trains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Aux, evaluator, fit
from jaxopt_tut.training.fitting import LOSS

X = jnp.linspace(-1.0, 1.0, 12)
KEY = jax.random.key(3)


def run(loss_fn, params=0.0, **options):
    options = {"num_epochs": 2, "key": KEY, "batch_size": 4, "progress": False, **options}
    return fit(loss_fn, jnp.asarray(params), optax.sgd(0.1), (X, 3 * X), **options)


def error(w, batch):
    return jnp.mean((w * batch[0] - batch[1]) ** 2)


def drawing(w, batch, key):
    return error(w + 0.1 * jax.random.normal(key), batch), {"drawn": jax.random.normal(key)}


def counting(w, batch, key, model_state):
    loss, metrics = drawing(w, batch, key)
    return loss, Aux(metrics, {"steps": model_state["steps"] + 1})


FORMS = {
    "key": (drawing, {}),
    "key and state": (counting, {"model_state": {"steps": jnp.int32(0)}}),
    "by name": (lambda w, batch, *, key: drawing(w, batch, key), {}),
    "with a default": (lambda w, batch, key=None: drawing(w, batch, key), {}),
    "older key": (drawing, {"key": jax.random.PRNGKey(3)}),
}


@pytest.mark.parametrize("steps_per_call", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_each_step_has_a_key_of_its_own(form, steps_per_call):
    loss_fn, options = FORMS[form]
    result = run(loss_fn, steps_per_call=steps_per_call, **options)
    loss_key = jax.random.fold_in(KEY, LOSS)
    expected = [jax.random.normal(jax.random.fold_in(loss_key, step)) for step in range(6)]
    np.testing.assert_array_equal(result.history.steps["drawn"], expected)
    if "model_state" in options:
        assert result.model_state["steps"] == 6


def test_a_loss_that_draws_sees_the_examples_in_the_order_of_one_that_does_not():
    sums = lambda w, batch: (error(w, batch), {"sum": jnp.sum(batch[0])})
    with_key = lambda w, batch, key: (drawing(w, batch, key)[0], {"sum": jnp.sum(batch[0])})
    one, other = (run(loss_fn).history.steps["sum"] for loss_fn in (sums, with_key))
    np.testing.assert_array_equal(one, other)


def test_the_key_of_the_loss_is_none_that_a_user_or_fit_has():
    """Users count the calls of `fit` by `fold_in(key, 1)`, which begins like a split."""
    derived = [jax.random.fold_in(KEY, n) for n in range(100)] + list(jax.random.split(KEY, 100))
    bits = {tuple(jax.random.key_data(key).tolist()) for key in derived}
    assert tuple(jax.random.key_data(jax.random.fold_in(KEY, LOSS)).tolist()) not in bits


def test_a_line_search_looks_at_the_loss_that_was_drawn():
    seen = []
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(5))

    def loss_fn(w, batch, key):
        noise = jax.random.normal(key)
        jax.debug.callback(lambda value: seen.append(float(value)), noise)
        return error(w + noise, batch)

    fit(
        loss_fn, jnp.array(0.0), search, (X, 3 * X),
        batch_size=12, num_epochs=1, key=KEY, progress=False,
    )  # fmt: skip
    jax.effects_barrier()
    assert len(seen) > 1
    assert len(set(seen)) == 1


def test_a_loss_that_draws_is_diagnosed_on_what_its_step_draws():
    def loss_fn(params, batch, key):
        mask = jax.random.bernoulli(key, 0.5, (len(batch[0]), 3))
        hidden = jnp.where(mask, jnp.tanh(batch[0][:, None] @ params["a"]), 0)
        loss = jnp.mean((hidden @ params["b"] - batch[1][:, None]) ** 2)
        return loss, {"loss again": loss}

    params = {
        "a": jax.random.normal(jax.random.key(1), (1, 3)),
        "b": jax.random.normal(jax.random.key(2), (3, 1)),
    }
    result = fit(
        loss_fn, params, optax.sgd(0.1), (X, 3 * X),
        batch_size=4, num_epochs=2, key=KEY, progress=False, diagnose_every=2,
    )  # fmt: skip
    assert sorted(result.history.diagnoses) == [0, 2, 4]
    for step, diagnosis in result.history.diagnoses.items():
        # two programs of the same numbers: some roundings of a mean of four
        np.testing.assert_allclose(
            diagnosis.statistics.loss, result.history.steps["loss"][step], rtol=1e-5
        )


def test_metrics_get_no_key():
    evaluate = evaluator(lambda w, batch: {"loss": error(w, batch)}, (X, 3 * X))
    result = run(drawing, evaluate=evaluate)
    assert result.best_score == -result.history.validation["loss"].min()


def test_a_key_that_is_bound_stays():
    own = functools.partial(drawing, key=jax.random.key(9))
    assert len(set(run(own).history.steps["drawn"])) == 1
