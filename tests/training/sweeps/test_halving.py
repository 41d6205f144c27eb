"""`halving` keeps the better half, and says which."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.training import halving

KEYS = jax.random.split(jax.random.key(0), 2)
RATES = jnp.array([0.05, 0.5, 0.9, 0.2, 30.0, 0.7])


def start(rate, key):
    del rate
    return {"w": 1.0 + 0.01 * jax.random.normal(key), "steps": 0}


def advance(state, rate, key, num_steps):
    del key
    w = state["w"] * (1 - rate) ** num_steps
    return {"w": w, "steps": state["steps"] + num_steps}, w**2


def run(**options):
    given = {"keys": KEYS, "rungs": (1, 2, 3), **options}
    functions = given.pop("start", start), given.pop("advance", advance)
    return halving(*functions, given.pop("hyperparameters", RATES), **given)


def test_the_better_half_is_kept_after_each_rung():
    result = run()
    order = sorted(range(6), key=lambda at: abs(1 - float(RATES[at])))
    assert result.survivors[0].tolist() == [0, 1, 2, 3, 4, 5]
    assert result.survivors[1].tolist() == result.survived(0).tolist() == order[:3]
    assert result.survivors[2].tolist() == result.survived(1).tolist() == order[:2]
    assert result.survived(2).tolist() == order[:2]
    assert result.best == order[0] == 2
    assert result.num_steps == 2 * (6 * 1 + 3 * 2 + 2 * 3)
    assert result.num_steps_of_all == 2 * 6 * 6
    np.testing.assert_array_equal(result.states["steps"], 6)
    assert result.states["w"].shape == (2, 2)


def test_losses_are_means_over_the_keys_in_closed_form():
    result = run()
    starts = np.array([float(start(None, key)["w"]) for key in KEYS])
    for rung, steps in enumerate((1, 3, 6)):
        kept = result.survivors[rung]
        rates = np.asarray(RATES, float)[kept]
        expected = np.mean(starts[None] ** 2 * ((1 - rates) ** (2 * steps))[:, None], axis=1)
        # six float32 products, and 1 - rate off by 2^-25 in at least 0.1
        np.testing.assert_allclose(result.losses[rung, kept], expected, rtol=2e-5)
        out = np.setdiff1d(np.arange(6), kept)
        assert np.isnan(result.losses[rung, out]).all()


def test_what_is_not_finite_comes_last():
    spoilt = lambda state, rate, *_: (state, jnp.where(rate > 0.4, jnp.nan, rate))
    result = run(advance=spoilt)
    assert set(result.survivors[1].tolist()) == {0, 3, 1}
    assert result.best == 0
    assert np.isinf(result.losses[0, [1, 2, 4, 5]]).all()


def test_keys_differ_from_rung_to_rung_and_from_key_to_key():
    def draws(state, rate, key, num_steps):
        del state, rate, num_steps
        return {"w": jax.random.normal(key)}, jax.random.normal(key)

    result = run(advance=draws)
    assert len(np.unique(result.states["w"][0])) == 2
    assert len(np.unique(result.losses[~np.isnan(result.losses)])) == 3  # alike in a rung


def test_another_part_is_kept_where_asked_for():
    rates = jnp.linspace(0.1, 0.9, 10)
    assert [len(kept) for kept in run(hyperparameters=rates, keep=0.3).survivors] == [10, 3, 1]
    assert [len(kept) for kept in run(hyperparameters=rates[:1], keep=0.3).survivors] == [1, 1, 1]


@pytest.mark.parametrize(("options", "sentence"), [
    ({"keep": 1.0}, r"halving needs 0 < keep < 1, got keep=1\.0\."),
    ({"keep": 0}, r"halving needs 0 < keep < 1, got keep=0\."),
    ({"rungs": ()}, r"halving needs rungs of at least one step, got rungs=\(\)\."),
    ({"rungs": (2, 0)}, r"halving needs rungs of at least one step, got rungs=\(2, 0\)\."),
    ({"rungs": (1.5,)}, r"halving needs an integer rung, got rung=1\.5\."),
    ({"start": 1.0}, r"halving needs a function start, got float\."),
    ({"advance": lambda state: state}, r"halving calls advance\(state, hyperparameters, key, num_"),
    ({"advance": lambda s, *_: s}, r"return \(state, loss\) with a real scalar, got a dict\."),
    ({"advance": lambda s, *_: (s, jnp.ones(2))}, r"real scalar, got float32\[2\] as loss\."),
    ({"hyperparameters": (jnp.ones(2), jnp.ones(3))}, r"halving needs hyperparameters of one"),
    ({"keys": jax.random.key(0)}, r"halving needs keys along one axis"),
])  # fmt: skip
def test_refuses_what_is_no_ladder(options, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        run(**options)
