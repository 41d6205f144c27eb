import numpy as np
import pytest

from experiments.curvature.trace_estimators import METHODS, STATES, Config, run


@pytest.mark.slow
def test_a_quick_run_estimates_the_trace_by_every_method():
    result = run(Config().quick())
    for state in STATES:
        for name in METHODS.keys() - {"XNysTrace"}:
            off = np.abs(result.estimates[state][name] - result.traces[state])
            assert np.all(off <= 10 * result.errors[state][name])
