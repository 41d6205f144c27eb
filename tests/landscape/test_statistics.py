"""Running averages are re-estimated without their momentum, in whatever library they are kept."""

import re

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_tut.landscape import reestimate_statistics
from jaxopt_tut.training import Aux

X = np.random.default_rng(0).normal(2.0, 3.0, (48, 5)).astype(np.float32)


def tolerance(momentum):
    """1 - a is known to the rounding of a, beside some roundings of sums over 48 examples."""
    return float(np.finfo(np.float32).eps) * (30 + 1 / (1 - momentum))


class Norms(nnx.Module):
    def __init__(self, momentum=0.9, seed=0):
        rngs = nnx.Rngs(seed)
        self.dense = nnx.Linear(5, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, momentum=momentum, rngs=rngs)
        self.drop = nnx.Dropout(0.0, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)
        self.last = nnx.BatchNorm(3, momentum=momentum, rngs=rngs)

    def __call__(self, x):
        return self.last(self.head(jax.nn.relu(self.drop(self.norm(self.dense(x))))))


def squares(model, x):
    return jnp.mean(model(x) ** 2)


def by_hand(model, x):
    """Both layers' means and variances over the batch, in NumPy and double precision."""
    take = lambda leaf: np.asarray(leaf[...], np.float64)
    z = x.astype(np.float64) @ take(model.dense.kernel) + take(model.dense.bias)
    h = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), 0)
    last = h @ take(model.head.kernel) + take(model.head.bias)
    return [z.mean(0), z.var(0), last.mean(0), last.var(0)]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99, 0.999])
def test_averages_of_flax_nnx_are_those_of_the_batch(momentum):
    model = Norms(momentum)
    model.eval()
    new = reestimate_statistics(squares, model, X)
    found = [new.norm.mean, new.norm.var, new.last.mean, new.last.var]
    for one, expected in zip(found, by_hand(model, X), strict=True):
        np.testing.assert_allclose(
            one[...], expected, rtol=tolerance(momentum), atol=tolerance(momentum)
        )
    assert new.norm.use_running_average  # the mode stays that of the user
    assert not np.any(model.norm.mean[...])  # and their model as it was


def test_averages_of_flax_linen_are_weighted_by_examples():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

    def loss_fn(variables, x):
        out, new = Net().apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.mean(out), Aux({"largest": jnp.max(out)}, new)

    variables = Net().init(jax.random.key(0), X, train=False)
    new = reestimate_statistics(loss_fn, variables, X[:16], X[16:])
    found = new["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], X.mean(0, np.float64), rtol=tolerance(0.9))
    each = [part.astype(np.float64).var(0) for part in (X[:16], X[16:])]
    np.testing.assert_allclose(found["var"], (each[0] + 2 * each[1]) / 3, rtol=tolerance(0.9))


def test_averages_of_equinox_are_read_as_after_many_updates():
    class Net(eqx.Module):
        norm: eqx.nn.BatchNorm

        def __call__(self, x, state):
            return self.norm(x, state)

    def loss_fn(model, x, state):
        every = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        out, state = every(x, state)
        return jnp.mean(out**2), Aux(model_state=state)

    make = lambda: Net(eqx.nn.BatchNorm(5, "batch", mode="batch"))
    model, state = eqx.nn.make_with_state(make)()
    for _ in range(2):  # a count of two, by which what is kept is corrected
        state = loss_fn(model, X + 5, state)[1].model_state
    new = reestimate_statistics(loss_fn, model, X, model_state=state)
    every = jax.vmap(eqx.nn.inference_mode(model), in_axes=(0, None), out_axes=(0, None))
    out, _ = every(X, new)
    wide = X.astype(np.float64)
    expected = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5)
    np.testing.assert_allclose(out, expected, atol=10 * tolerance(0.99))


def own_loss(momentum):
    """A norm by hand: averages of two momenta, a count, a key, a buffer, and the largest so far."""

    def loss_fn(w, x, state):
        mean, var = jnp.mean(w * x, axis=0), jnp.var(w * x, axis=0)
        blend = lambda old, new, a: a * old + (1 - a) * new
        return jnp.mean((w * x - mean) ** 2 * state["buffer"]), Aux(
            {"mean": jnp.mean(mean)},
            {
                "mean": jax.lax.stop_gradient(blend(state["mean"], mean, momentum)),
                "var": blend(state["var"], var, momentum / 2),
                "count": state["count"] + 1,
                "key": state["key"],
                "buffer": state["buffer"],
                "largest": jnp.maximum(state["largest"], jnp.max(x, axis=0)),
                "total": state["total"] + mean,
            },
        )

    return loss_fn


def own_state(dtype=jnp.float32):
    return {
        "mean": jnp.full(5, 9, dtype),
        "var": jnp.full(5, 7, dtype),
        "count": jnp.int32(3),
        "key": jax.random.key(3),
        "buffer": jnp.full(5, 2, dtype),
        "largest": jnp.full(5, 1, dtype),
        "total": jnp.full(5, 1, dtype),
    }


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.95])
def test_what_is_no_average_stays(momentum):
    state = own_state()
    new = reestimate_statistics(own_loss(momentum), 2.0, X, model_state=state, batch_size=16)
    wide = 2 * X.astype(np.float64)
    np.testing.assert_allclose(new["mean"], wide.mean(0), rtol=tolerance(momentum))
    variance = wide.reshape(3, 16, 5).var(1).mean(0)
    np.testing.assert_allclose(new["var"], variance, rtol=tolerance(momentum))
    for name in ("count", "buffer", "largest", "total"):
        np.testing.assert_array_equal(new[name], state[name])
    assert jax.random.key_data(new["key"]).tolist() == jax.random.key_data(state["key"]).tolist()


def test_a_state_that_the_training_reads_is_no_average():
    def loss_fn(w, x, state):  # as spectral norms do
        new = 0.9 * state["u"] + 0.1 * x.mean(0)
        return jnp.mean((w * x) @ new), Aux(model_state={"u": new, "m": 0.5 * state["m"] + w})

    state = {"u": jnp.ones(5), "m": jnp.array(0.0)}
    new = reestimate_statistics(loss_fn, jnp.array(3.0), X, model_state=state)
    np.testing.assert_array_equal(new["u"], state["u"])
    np.testing.assert_allclose(new["m"], 6.0, rtol=1e-6)  # the fixed point of m / 2 + 3


def test_grey_values_lose_no_digits_and_double_precision_keeps_its():
    grey = 100 * X + 1000
    new = reestimate_statistics(own_loss(0.99), 1.0, grey, model_state=own_state())
    wide = grey.astype(np.float64)
    np.testing.assert_allclose(new["mean"], wide.mean(0), rtol=tolerance(0.99))
    # squares of deviations of a hundred from a mean of a thousand: ten roundings of the mean more
    np.testing.assert_allclose(new["var"], wide.var(0), rtol=20 * tolerance(0.99))
    with jax.enable_x64(True):
        new = reestimate_statistics(
            own_loss(0.99), 1.0, jnp.asarray(wide), model_state=own_state(jnp.float64)
        )
        np.testing.assert_allclose(new["mean"], wide.mean(0), rtol=1e-13)
        np.testing.assert_allclose(new["var"], wide.var(0), rtol=1e-12)


def test_a_network_that_is_not_finite_has_averages_that_are_not():
    new = reestimate_statistics(own_loss(0.9), np.nan, X, model_state=own_state())
    assert np.all(np.isnan(new["mean"]))


def test_compiled_and_vectorised_as_called_one_by_one():
    state, call = own_state(), own_loss(0.9)
    del state["key"]

    def loss_fn(w, x, state):
        loss, aux = call(w, x, state | {"key": None})
        return loss, Aux(None, {k: v for k, v in aux.model_state.items() if k != "key"})

    variance = lambda w: reestimate_statistics(loss_fn, w, X, model_state=state, batch_size=20)[
        "var"
    ]
    weights = jnp.array([1.0, -2.0])
    one_by_one = jnp.stack([variance(w) for w in weights])
    np.testing.assert_allclose(
        jax.jit(jax.vmap(variance))(weights), one_by_one, rtol=tolerance(0.9)
    )
    # the variance of w x is that of x times the square of w
    slope = jax.jacobian(variance)(weights[0])
    np.testing.assert_allclose(slope, 2 * one_by_one[0], rtol=tolerance(0.9))


def stateless(w, x):
    return jnp.mean(w * x)


def renews_nothing(w, x, state):
    return jnp.mean(w * x) * state["m"]


def renews_another(w, x, state):
    return jnp.mean(w * x), Aux(model_state={"n": state["m"]})


BAD = {
    "no state": (
        lambda: reestimate_statistics(stateless, 1.0, X),
        ValueError,
        "reestimate_statistics re-estimates running averages by what a loss in training returns, "
        "(loss, Aux(metrics, model_state)), got a loss that returns none: hand over that of the "
        "training.",
    ),
    "no new state": (
        lambda: reestimate_statistics(renews_nothing, 1.0, X, model_state={"m": 1.0}),
        ValueError,
        "reestimate_statistics re-estimates running averages by what a loss in training returns, "
        "(loss, Aux(metrics, model_state)), got a loss that returns none: hand over that of the "
        "training.",
    ),
    "another state": (
        lambda: reestimate_statistics(renews_another, 1.0, X, model_state={"m": 1.0}),
        ValueError,
        "reestimate_statistics needs trees with the same leaves, got 'm' on one side and 'n' on "
        "the other.",
    ),
    "no averages": (
        lambda: reestimate_statistics(squares, nnx.Linear(5, 2, rngs=nnx.Rngs(0)), X),
        ValueError,
        "reestimate_statistics needs a loss with running averages, which it renews in training "
        "and does not read there, got one without.",
    ),
    "a state that is not asked for": (
        lambda: reestimate_statistics(
            lambda w, x: (jnp.mean(w * x), Aux(model_state={"m": w})), 1.0, X
        ),
        ValueError,
        "reestimate_statistics needs model_state= for a loss that returns a new one, got None.",
    ),
    "a generator": (
        lambda: reestimate_statistics(own_loss(0.9), 1.0, iter([X]), model_state=own_state()),
        TypeError,
        "reestimate_statistics needs batches that can be gone through again and again, ",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_a_sentence(call, error, sentence):
    with pytest.raises(error, match=f"^{re.escape(sentence)}"):
        call()
