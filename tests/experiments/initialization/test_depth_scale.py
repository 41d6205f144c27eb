"""The fit and the pairs are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.initialization import depth_scale as scales
from jaxopt_tut.initializers import MeanField


def test_the_fit_finds_the_scale_and_its_error():
    found = [
        scales.measured_scale(
            np.exp(-np.arange(24) / 5)
            * (1 + 0.05 * np.random.default_rng(seed).standard_normal((12, 24)))
        )
        for seed in range(40)
    ]
    values, errors = np.array(found).T
    # The scatter of 40 fits is known to 1 / sqrt(80) = 11 %, a jackknife of 12 scatters more.
    np.testing.assert_allclose(values.std(ddof=1), errors.mean(), rtol=0.5)
    assert abs(values.mean() - 5) < 4 * values.std(ddof=1) / np.sqrt(40)


def test_pairs_and_triples_have_the_variance_and_correlations_asked_for():
    field = MeanField(*(jnp.float32(v) for v in (0.5, 1.2, 0.2, 5.0)))
    close = scales.pairs(jax.random.key(0), 400, field)[None]
    # Means over 32 x 400 Gaussians: relative standard error sqrt(2 / 12800) = 1.3 %.
    np.testing.assert_allclose(scales.ordered_gap(close), 0.5 * scales.CLOSE, rtol=0.06)
    near = scales.triples(jax.random.key(0), 400, field)[None]
    # Twice the reach .3 (1 - c*); each of the 192 correlations is 1 / sqrt(400) off.
    np.testing.assert_allclose(scales.chaotic_gap(near), 0.48, atol=4 * 2**0.5 / (192 * 400) ** 0.5)


@pytest.mark.slow  # compiles four networks
def test_a_quick_run_passes_and_another_theory_does_not():
    result = scales.run(scales.Config().quick())
    assert [claim.text for claim in scales.check(result) if not claim.holds] == []
    assert list(scales.plot(result)) == ["depth_scale"]
    # The theory of other points: a fifth more.
    wrong = result.predicted | {"tanh, chaotic": 1.2 * result.predicted["tanh, chaotic"]}
    failed = [c.text for c in scales.check(result._replace(predicted=wrong)) if not c.holds]
    assert len(failed) == 3  # both points, and the worst of all
