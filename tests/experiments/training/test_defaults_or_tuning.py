"""The expected result of the best of k options, against all subsets."""

from itertools import combinations

import numpy as np

from experiments.training.defaults_or_tuning import best_of, interval


def test_the_best_of_k_is_the_mean_over_all_subsets():
    losses = np.random.default_rng(0).normal(size=(5, 6))
    choosing, judging = losses[:, :3].mean(axis=1), losses[:, 3:]
    for k in range(1, 6):
        best = [min(subset, key=choosing.__getitem__) for subset in combinations(range(5), k)]
        np.testing.assert_allclose(best_of(losses, 5)[k - 1], judging[best].mean(axis=0))


def test_the_interval_is_of_the_mean():
    differences = np.random.default_rng(1).normal(size=(1, 400))
    mean, low, high = interval(differences, 4000)[0]
    assert mean == differences.mean()
    # 1.96 standard errors of a mean of 400; quantiles of 4000 draws scatter by 3 % of that
    np.testing.assert_allclose([low - mean, high - mean], [-0.098, 0.098], atol=0.012)
