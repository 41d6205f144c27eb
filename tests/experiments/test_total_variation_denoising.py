"""The claims hold on a good result, each can fail, and the helpers are what they say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import total_variation_denoising as denoising
from experiments.bilevel.total_variation_denoising import GRID
from jaxopt_tut.bilevel.layers import prox_tv1d


def results():
    rng = np.random.default_rng(0)
    bowl = 0.18 + 0.05 * np.log(GRID / 2.0)[:, None] ** 2
    scatter = 1 + 0.05 * rng.standard_normal((2, 60))
    good = denoising.Result(
        learned=2.0,
        train_errors=bowl * scatter[0],
        learned_train_errors=0.18 * scatter[0],
        test_errors=bowl * scatter[1],
        learned_test_errors=0.18 * scatter[1],
        oracle_errors=0.05 * scatter[1],
        segments_a_sample=0.05,
        gradient_gaps={"finite differences": 1e-11, "implicit, of the dual": 1e-12},
        example={},
    )
    yield good
    yield good._replace(
        learned=4.0,
        learned_train_errors=0.2 * scatter[0],
        learned_test_errors=0.3 * scatter[1],
        oracle_errors=0.3 * scatter[1],
        gradient_gaps=dict.fromkeys(good.gradient_gaps, 1e-3),
    )


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = denoising.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in denoising.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


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
