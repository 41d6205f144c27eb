"""The players move by the rules of their methods, and a quick run passes."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import circling_game as circling
from experiments.bilevel.circling_game import EXTRA, IN_TURNS, OPTIMISTIC, TOGETHER


def test_two_steps_on_the_product_of_two_numbers():
    points = circling.play(lambda x, y, z: z * x * y, (jnp.ones([]), jnp.ones([])), 1.0, 0.5, 2)
    expected = {  # by hand
        TOGETHER: ([1, 0.5, -0.25], [1, 1.5, 1.75]),
        IN_TURNS: ([1, 0.5, -0.125], [1, 1.25, 1.1875]),
        EXTRA: ([1, 0.25, -0.4375], [1, 1.25, 1.0625]),
        # x2 = x1 - r (2 y1 - y0), y2 = y1 + r (2 x1 - x0)
        OPTIMISTIC: ([1, 0.5, -0.5], [1, 1.5, 1.5]),
    }
    for name, (x, y) in expected.items():
        np.testing.assert_array_equal(points[name], (x, y), err_msg=name)


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = circling.check(circling.run(circling.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
