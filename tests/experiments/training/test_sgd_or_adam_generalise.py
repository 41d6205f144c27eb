import numpy as np
import pytest
from scipy.stats import ttest_1samp

from experiments.training.sgd_or_adam_generalise import Config, Result, difference, run


def test_the_interval_is_that_of_students_t():
    adam, sgd = np.random.default_rng(0).uniform(0.7, 0.8, (2, 20))
    accuracy = {"SGD": sgd, "Adam": adam}
    result = Result(accuracy, *[{} for _ in Result._fields[1:]])
    mean, low, high = difference(result, "SGD")
    expected = ttest_1samp(100 * (sgd - adam), 0.0).confidence_interval(0.95)
    np.testing.assert_allclose((low, high), expected, rtol=0.01)  # 2.09 for 2.093
    assert low < mean < high


@pytest.mark.slow
def test_a_quick_run_compares_at_equal_training_loss():
    config = Config().quick()
    result = run(config)
    for name in ("SGD", "Adam"):
        there = result.reached[name].astype(bool)
        assert there.any()
        assert np.all(result.train_loss[name][there] <= config.target)
        assert np.all(result.steps[name] <= config.num_steps)
        assert np.all((result.accuracy[name] > 0.3) & (result.accuracy[name] < 1))
