"""`grid` is the product of its axes, `sample` draws from the ranges that it is given."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut.training import Choice, LogUniform, Uniform, grid, sample


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=3), min_size=1, max_size=3))
def test_grid_is_the_product_of_its_axes(axes):
    named = {f"axis{at}": values for at, values in enumerate(axes)}
    rows = list(zip(*(column.tolist() for column in grid(**named).values()), strict=True))
    assert rows == list(itertools.product(*axes))


def test_grid_counts_the_first_axis_of_an_array():
    made = grid(rate=[0.5, 1.0], weights=np.eye(3))
    np.testing.assert_array_equal(made["weights"], np.tile(np.eye(3), (2, 1)))
    assert made["rate"].dtype == jnp.float32


def test_logarithms_are_uniform():
    drawn = sample(jax.random.key(0), 4000, rate=LogUniform(1e-4, 1.0))["rate"]
    # A quarter of the draws in each decade: four standard errors of a binomial share.
    shares = jnp.histogram(jnp.log10(drawn), bins=4, range=(-4.0, 0.0))[0] / 4000
    np.testing.assert_allclose(shares, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / 4000))
    assert float(drawn.min()) >= np.float32(1e-4)
    assert float(drawn.max()) <= 1.0


def test_uniform_and_choice_have_their_means():
    drawn = sample(jax.random.key(1), 4000, x=Uniform(-1.0, 3.0), m=Choice([2, 4, 9]))
    np.testing.assert_allclose(jnp.mean(drawn["x"]), 1.0, atol=4 * 4 / np.sqrt(12 * 4000))
    assert jnp.unique(drawn["m"]).tolist() == [2, 4, 9]
    np.testing.assert_allclose(jnp.mean(drawn["m"]), 5.0, atol=4 * 2.95 / np.sqrt(4000))


def test_what_is_drawn_for_a_name_does_not_depend_on_the_others():
    key, rate = jax.random.key(2), LogUniform(0.1, 1.0)
    alone = sample(key, 5, rate=rate)
    beside = sample(key, 5, decay=rate, rate=rate)
    np.testing.assert_array_equal(alone["rate"], beside["rate"])
    assert not np.array_equal(beside["decay"], beside["rate"])
    traced = jax.jit(lambda key: sample(key, 5, rate=rate))(key)
    np.testing.assert_allclose(traced["rate"], alone["rate"], rtol=1e-6)  # exp of another program


def test_a_function_may_draw_arrays():
    drawn = sample(jax.random.key(3), 4, w=lambda key, n: jax.random.normal(key, (n, 2)))
    assert drawn["w"].shape == (4, 2)


KEY = jax.random.key(0)


@pytest.mark.parametrize(("make", "sentence"), [
    (grid, r"grid needs at least one axis, got none\."),
    (lambda: grid(rate=[]), r"grid needs at least one value of rate along an axis, got \[\]\."),
    (lambda: grid(rate=0.1), r"grid needs at least one value of rate along an axis, got 0\.1\."),
    (lambda: grid(rate=["a"]), r"grid needs numbers, or arrays of one shape, as rate, got \['a'\]"),
    (lambda: grid(rate=[[1], [1, 2]]), r"grid needs numbers, or arrays of one shape, as rate"),
    (lambda: sample(KEY, 0, rate=Uniform(0, 1)), r"sample needs n >= 1, got n=0\."),
    (lambda: sample(KEY, 2.0, rate=Uniform(0, 1)), r"sample needs an integer n, got n=2\.0\."),
    (lambda: sample(KEY, 2), r"sample needs at least one range, got none\."),
    (lambda: sample(KEY, 2, rate=(0, 1)),
     r"sample needs a range for 'rate', LogUniform\(low, high\) or a function \(key, n\) -> array, "
     r"got \(0, 1\)\."),
    (lambda: sample(KEY, 2, rate=lambda *_: jnp.ones(3)), r"2 values of 'rate', got .* \(3,\)\."),
    (lambda: LogUniform(0.0, 1.0), r"LogUniform needs low > 0, got low=0\.0\."),
    (lambda: LogUniform(2.0, 1.0), r"LogUniform needs low <= high, got low=2\.0, high=1\.0\."),
    (lambda: Uniform(2.0, 1.0), r"Uniform needs low <= high, got low=2\.0, high=1\.0\."),
    (lambda: Uniform(0.0, np.inf), r"Uniform needs a finite high, got high=inf\."),
    (lambda: sample(0, 2, rate=Uniform(0, 1)), r"sample needs one key of .*, got 0\."),
    (lambda: sample(jax.random.split(KEY), 2, rate=Uniform(0, 1)), r"sample needs one key of"),
    (lambda: Choice(3), r"Choice needs values in a sequence, got 3\."),
    (lambda: Choice(np.array(3)), r"Choice needs values in a sequence, got array\(3\)\."),
    (lambda: Choice(x for x in (1, 2)), r"Choice needs values in a sequence, got <generator"),
    (lambda: Choice([]), r"Choice needs at least one value, got none\."),
])  # fmt: skip
def test_refuses_what_is_no_range(make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()
