"""The laws are right where they are short, and a quick run passes."""

import numpy as np
import pytest

from experiments.bilevel import hypergradient_bias as bias
from experiments.bilevel.hypergradient_bias import DECAY, MOMENTUM, RATE, TRUNCATED


def test_the_laws_in_one_dimension():
    curvature, z, target, start = 3.0, 2.0, -1.0, 0.5
    one = lambda number: np.array([number])
    problem = bias.Problem(one(one(curvature)), one(z), one(target), one(start))
    laws = bias.by_law(problem, [1, 2])
    shrink, gain = 1 - RATE * curvature, (1 - DECAY) * curvature
    np.testing.assert_allclose(laws[TRUNCATED][:, 0], [-shrink, -(shrink**2)])
    np.testing.assert_allclose(
        laws[MOMENTUM][:, 0],
        # after two steps: e'' = e' - eta (b m' + gain e') with e' = 1 - eta gain, m' = gain
        [-(1 - RATE * gain), -((1 - RATE * gain) ** 2 - RATE * DECAY * gain)],
    )


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = bias.check(bias.run(bias.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
