import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.initializers import constant, normal, uniform
from jaxopt_tut.initializers.distributions import standard_draw

NUM = 200_000


def check_moments(draws, variance, kurtosis):
    """Compare mean and E|w|^2 with their values, to four standard errors of NUM draws."""
    draws = np.asarray(draws).astype(complex if np.iscomplexobj(draws) else float)
    assert abs(draws.mean()) < 4 * np.sqrt(variance / NUM)
    error = variance * np.sqrt((kurtosis - 1) / NUM)
    assert abs((np.abs(draws) ** 2).mean() - variance) < 4 * error


# Kurtosis E|w|^4 / (E|w|^2)^2: of the real normal 3, of the complex one 2, of the real uniform
# 9/5, of the disc 4/3. Half types round each draw by 2^-9: invisible behind the standard error.
@pytest.mark.parametrize(
    ("init", "dtype", "variance", "kurtosis"),
    [
        (normal(0.3), "float32", 0.09, 3),
        (normal(0.3), "bfloat16", 0.09, 3),
        (normal(0.3), "complex64", 0.09, 2),
        (uniform(0.3), "float32", 0.03, 9 / 5),
        (uniform(0.3), "float16", 0.03, 9 / 5),
        (uniform(0.3), "complex64", 0.045, 4 / 3),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_moments_are_the_stated_ones(init, dtype, variance, kurtosis):
    check_moments(init(jax.random.key(0), (NUM,), jnp.dtype(dtype)), variance, kurtosis)


def test_normal_draws_the_numbers_of_jax():
    key = jax.random.key(0)
    peer = jax.nn.initializers.normal(0.2)(key, (40, 50))
    # The last bit depends on where the compiler puts the product.
    np.testing.assert_allclose(normal(0.2)(key, (40, 50)), peer, rtol=2 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_uniform_stays_within_its_bound_and_comes_close_to_it(dtype):
    bound = 0.25  # exact in all three types
    size = jnp.abs(uniform(bound)(jax.random.key(0), (NUM,), jnp.dtype(dtype)))
    largest = float(size.max().astype(jnp.float32))
    # A complex modulus is rounded after a square root: one unit in the last place.
    assert bound * 0.999 < largest <= bound * (1 + (dtype == "complex64") * 2**-22)


def test_low_precision_keeps_the_tails():
    # Drawn in bfloat16 itself, a uniform number has 8 bits and a normal never passes 2.7.
    draws = normal(1.0)(jax.random.key(0), (NUM,), jnp.bfloat16)
    assert float(jnp.abs(draws).max()) > 3.5


@pytest.mark.parametrize(
    ("dtype", "exact"),
    # A complex |z|^2 is exponential: cut at 4 its mean is 1 - 4 e^-4 / (1 - e^-4).
    [("float32", 0.87962566103423978**2), ("complex64", 1 - 4 * np.exp(-4) / (1 - np.exp(-4)))],
)
def test_truncated_normal_knows_its_variance(dtype, exact):
    draws, variance = standard_draw(jax.random.key(1), (NUM,), jnp.dtype(dtype), "truncated_normal")
    assert float(jnp.abs(draws).max()) <= 2 * (1 + 2**-22)
    np.testing.assert_allclose(variance, exact, rtol=1e-12)
    kurtosis = float((jnp.abs(draws) ** 4).mean()) / exact**2
    check_moments(draws, exact, kurtosis)


def test_complex_phases_are_uniform():
    for distribution in ("uniform", "truncated_normal"):
        draws, _ = standard_draw(jax.random.key(2), (NUM,), jnp.dtype("complex64"), distribution)
        for harmonic in (1, 2, 3):  # E exp(i k angle) = 0, each component of variance 1/2
            mean = np.exp(1j * harmonic * np.angle(np.asarray(draws))).mean()
            assert abs(mean.real) < 4 * np.sqrt(0.5 / NUM)
            assert abs(mean.imag) < 4 * np.sqrt(0.5 / NUM)


def test_constant_takes_arrays_complex_numbers_and_tracers():
    key = jax.random.key(0)
    row = constant(np.array([1.0, 2.0]))(key, (3, 2))
    np.testing.assert_array_equal(row, [[1.0, 2.0]] * 3)
    assert constant(1 + 2j)(key, (2,), jnp.complex64)[0] == 1 + 2j
    total = jax.grad(lambda c: constant(c)(key, (3, 2)).sum())(1.5)
    assert total == 6.0


@pytest.mark.parametrize(
    ("build", "error", "sentence"),
    [
        (lambda: normal(-0.1), ValueError, "normal needs a finite stddev >= 0, got stddev=-0.1."),
        (
            lambda: normal(np.nan),
            ValueError,
            "normal needs a finite stddev >= 0, got stddev=nan.",
        ),
        (
            lambda: normal(np.ones(2)),
            ValueError,
            "normal needs a scalar stddev, got shape (2,).",
        ),
        (
            lambda: normal("0.1"),
            TypeError,
            "normal needs a real number as stddev, got stddev='0.1'.",
        ),
        (
            lambda: normal(None),
            TypeError,
            "normal needs a real number as stddev, got stddev=None.",
        ),
        (lambda: uniform(-1), ValueError, "uniform needs a finite bound >= 0, got bound=-1."),
        (
            lambda: uniform(np.inf),
            ValueError,
            "uniform needs a finite bound >= 0, got bound=inf.",
        ),
        (lambda: uniform(1j), TypeError, "uniform needs a real number as bound, got bound=1j."),
        (
            lambda: constant(np.ones(3))(jax.random.key(0), (3, 2)),
            ValueError,
            "constant needs a value that broadcasts to shape (3, 2), got a value of shape (3,).",
        ),
        (
            lambda: constant(1j)(jax.random.key(0), (3, 2)),
            TypeError,
            "constant needs a complex dtype for value=1j, got float32.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_bad_input_is_refused_with_a_sentence(build, error, sentence):
    with pytest.raises(error, match=rf"^{re.escape(sentence)}$"):
        build()
