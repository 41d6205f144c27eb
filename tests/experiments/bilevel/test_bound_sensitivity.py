"""The closed form fulfils the conditions of a minimum, and a quick run passes."""

import numpy as np
import pytest

from experiments.bilevel import bound_sensitivity as sensitivity


def test_the_closed_form_is_a_bounded_minimum():
    rng = np.random.default_rng(1)
    factor = rng.normal(size=(4, 4))
    hessian, pull = factor @ factor.T + np.eye(4), 5 * rng.normal(size=4)
    bounds = rng.uniform(0, 0.3, size=4)
    y, multipliers = sensitivity.closed_form(hessian, pull, bounds)
    assert 0 < np.sum(multipliers > 0) < 4
    np.testing.assert_allclose(y, np.minimum(y - (hessian @ y - pull), bounds), atol=1e-13)
    np.testing.assert_allclose(multipliers, np.maximum(pull - hessian @ y, 0), atol=1e-13)


def test_the_formulas_of_the_sweep_are_those_of_the_closed_form():
    for bound in (0.25, 1.5):
        pull = sensitivity.HESSIAN @ np.full(2, sensitivity.KINK)
        y, multipliers = sensitivity.closed_form(sensitivity.HESSIAN, pull, np.array([bound, 1e9]))
        law = sensitivity.swept_by_formula(np.array([bound]))
        np.testing.assert_allclose(law["solutions"][0], y, atol=1e-15)
        np.testing.assert_allclose(law["multipliers"], multipliers[:1], atol=1e-15)


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = sensitivity.check(sensitivity.run(sensitivity.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
