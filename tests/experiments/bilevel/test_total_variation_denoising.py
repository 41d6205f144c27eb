"""The helpers are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import total_variation_denoising as denoising
from jaxopt_tut.bilevel.layers import prox_tv1d


def test_drawn_signals_are_constant_on_as_many_segments_as_asked():
    signals = denoising.draw(np.random.default_rng(0), 20, 50, 6)
    assert ((np.diff(signals.clean) != 0).sum(axis=1) == 5).all()
    np.testing.assert_array_equal(np.diff(signals.clean) != 0, np.diff(signals.segment) != 0)
    noise = signals.seen - signals.clean
    # a thousand samples of variance 1: the standard error of the variance is sqrt(2 / 1000)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / 1000)


def test_the_oracle_is_the_least_squares_fit_on_the_segments():
    signals = denoising.draw(np.random.default_rng(1), 3, 30, 4)
    for row, fit in enumerate(denoising.known_jumps(signals)):
        columns = signals.segment[row][:, None] == np.arange(4)
        levels = np.linalg.lstsq(columns.astype(float), signals.seen[row], rcond=None)[0]
        np.testing.assert_allclose(fit, columns @ levels, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_dual_solution_is_that_of_the_sweep():
    seen = jnp.asarray(denoising.draw(np.random.default_rng(2), 1, 24, 4).seen[0])
    found = jax.jit(denoising.solve_dual)(seen, 1.5)
    # 4000 steps contract by 1 - (pi / 24)^2 / 4 each at worst: 3e-8 of what was left
    np.testing.assert_allclose(found, prox_tv1d(seen, 1.5), atol=1e-7)


@pytest.mark.slow
def test_a_quick_run_passes_and_one_that_learns_from_other_noise_does_not(monkeypatch):
    config = denoising.Config().quick()
    assert [c.text for c in denoising.check(denoising.run(config)) if not c.holds] == []
    learn = denoising.learn_weight
    louder = lambda clean, seen, num_steps: learn(clean, clean + 3 * (seen - clean), num_steps)
    monkeypatch.setattr(denoising, "learn_weight", louder)
    failed = [claim.text for claim in denoising.check(denoising.run(config)) if not claim.holds]
    assert "logarithm of the learned weight" in failed
