"""The helpers are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import price_forecast as prices
from jaxopt_tut.datasets import load_daily_closes


def test_segments_stay_within_a_share_and_between_the_days():
    series = load_daily_closes()
    cuts = prices.segments(series, prices.FIRST, prices.TRAIN_END, 7)
    assert cuts.start.min() >= prices.FIRST
    row = 0
    for dates, _, adjusted in series.values():
        days = np.flatnonzero(dates < prices.TRAIN_END)
        for first in range(0, len(days) - 39, 7):
            np.testing.assert_array_equal(cuts.base[row], adjusted[first : first + 30])
            np.testing.assert_array_equal(cuts.target[row], adjusted[first + 30 : first + 40])
            assert cuts.start[row] == dates[first]
            row += 1
    assert row == len(cuts.base)


def test_normalized_segments_do_not_depend_on_level_or_scale_of_the_prices():
    rng = np.random.default_rng(0)
    cuts = prices.Segments(rng.random((3, 30)), rng.random((3, 10)), np.arange(3))
    moved = cuts._replace(base=7 * cuts.base + 100, target=7 * cuts.target + 100)
    expected, found = prices.normalize(cuts), prices.normalize(moved)
    # subtracting 100 loses two digits of sixteen
    np.testing.assert_allclose(found.target, expected.target, atol=1e-12)
    np.testing.assert_allclose(expected.base[:, -1], 0, atol=0)
    np.testing.assert_allclose(expected.base.std(axis=1), 1, rtol=1e-12)


@pytest.mark.usefixtures("full_products")
def test_convolution_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, 9, 3)), rng.standard_normal((5, 3, 4))
    x, kernel = x.astype(np.float32), kernel.astype(np.float32)
    found = prices.convolve(jnp.asarray(x), jnp.asarray(kernel))
    columns = [
        sum(np.convolve(x[1, :, i], kernel[::-1, i, o], "same") for i in range(3)) for o in range(4)
    ]
    # fifteen products of float32 numbers of size 1
    np.testing.assert_allclose(found[1], np.stack(columns, axis=1), atol=4 * 15 * 1.2e-7)


def test_a_continued_regression_is_exact_for_channels_that_obey_one():
    days = np.arange(30)
    channels = np.stack([np.cos(0.3 * days + phase) for phase in range(16)])
    ahead = prices.carry_on(jnp.asarray(channels, jnp.float32), 1e-4)
    expected = np.stack([np.cos(0.3 * (days[-10:] + 10) + phase) for phase in range(16)])
    # Two of the regression's 20 directions are used, of squared size 16 * 20 / 4 = 80 each: the
    # penalty shrinks them by 1e-4 / 80; rounding of float32 over 1e-4 is seen at the root of that.
    np.testing.assert_allclose(ahead, expected, atol=2e-3)


def test_the_encoder_takes_its_moments_from_the_known_segments_alone():
    params = {"encoder": prices.init(np.random.default_rng(0))["encoder"][:1]}
    rng = np.random.default_rng(1)
    known = jnp.asarray(rng.standard_normal((4, 30)), jnp.float32)
    others = jnp.asarray(rng.standard_normal((3, 30)), jnp.float32)
    every = jnp.concatenate([known, others])
    encode = jax.jit(prices.encode, static_argnums=2)
    alone, beside = encode(params, known, 4), encode(params, every, 4)
    np.testing.assert_allclose(beside[:4], alone, atol=1e-5)
    assert not np.allclose(encode(params, every, 7)[:4], alone, atol=1e-2)


@pytest.mark.slow
def test_a_quick_run_passes_and_one_with_the_future_in_its_base_does_not(monkeypatch):
    config = prices.Config().quick()
    assert [c.text for c in prices.check(prices.run(config)) if not c.holds] == []
    honest = prices.normalize

    def leak(cuts):
        cuts = honest(cuts)
        return cuts._replace(base=np.concatenate([cuts.base[:, :20], cuts.target], axis=1))

    monkeypatch.setattr(prices, "normalize", leak)
    failed = [claim.text for claim in prices.check(prices.run(config)) if not claim.holds]
    assert any(text.startswith("ridge: squared error") for text in failed)
