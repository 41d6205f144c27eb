"""The tutorial's numbers follow by hand."""

import numpy as np

from experiments.autodiff import worked_example as example


def test_the_tutorial_numbers_follow_by_hand():
    values, adjoints, tangents = example.by_hand(*example.POINT)
    np.testing.assert_allclose([values[-1], *adjoints[:2]], example.TUTORIAL, atol=5e-13)
    np.testing.assert_allclose(tangents[:, -1], adjoints[:2], rtol=1e-15)
