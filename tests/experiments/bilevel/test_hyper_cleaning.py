"""The helpers are what they say, and a quick run passes."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from experiments.bilevel import hyper_cleaning as cleaning


def test_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    kept, clean = rng.random((2, 3, 50)) > 0.4
    expected = [f1_score(c, k) for c, k in zip(clean, kept, strict=True)]
    np.testing.assert_allclose(cleaning.f1(kept, clean), expected, rtol=1e-14)


def test_half_of_the_labels_is_corrupted_and_each_of_these_is_wrong():
    labels = np.arange(1000) % 10
    spoiled, is_clean = cleaning.corrupt(np.random.default_rng(0), labels)
    assert is_clean.sum() == 500
    np.testing.assert_array_equal(spoiled == labels, is_clean)


def test_components_do_not_correlate_and_vary_by_the_root_of_their_deviation():
    images = np.random.default_rng(0).random((300, 28, 28)).astype(np.float32)
    images[:, :14] *= 3
    inputs = cleaning.components(images, 6).astype(np.float64)
    moments = inputs.T @ inputs / 300
    # 300 products of float32 numbers of size 1
    np.testing.assert_allclose(moments, np.diag(np.diag(moments)), atol=300 * 1.2e-7)
    coarse = images.reshape(300, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(300, -1)
    deviations = np.linalg.svd(coarse - coarse.mean(axis=0), compute_uv=False)[:6][::-1]
    squares = np.diag(moments)[:-1]
    np.testing.assert_allclose(squares / squares[-1], deviations / deviations[-1], rtol=1e-4)


def test_mistakes_are_shared_by_equal_sortings_and_not_by_independent_ones():
    rng = np.random.default_rng(0)
    is_clean = rng.random(100_000) > 0.5
    one, other = (is_clean ^ (rng.random(100_000) < 0.1) for _ in range(2))
    assert cleaning.shared_mistakes(one, one, is_clean) == 1.0
    # .18 of 100 000 pairs differ by chance: standard error .0012, over the .18
    assert abs(cleaning.shared_mistakes(one, other, is_clean)) < 4 * 0.0012 / 0.18


@pytest.mark.slow
def test_a_quick_run_passes_and_one_without_wrong_labels_does_not(monkeypatch):
    config = cleaning.Config().quick()
    assert all(claim.holds for claim in cleaning.check(cleaning.run(config)))
    keep_all = lambda rng, labels: (labels, rng.permutation(len(labels)) >= len(labels) // 2)
    monkeypatch.setattr(cleaning, "corrupt", keep_all)
    failed = [claim.text for claim in cleaning.check(cleaning.run(config)) if not claim.holds]
    assert "accuracy on the kept images less that on all" in failed
