"""The Hessian by hand is right."""

import numpy as np

from experiments.autodiff import linear_layer as linear
from tests.experiments.results.linear_layer import draw


def test_the_hessian_by_hand_is_the_second_difference_of_the_loss():
    primals, v, _, u, target = draw()
    hv = linear.by_hand(primals, v, u, target)[2]

    def value(h):
        x, weight, bias = (p[0] + h * d[0] for p, d in zip(primals, v, strict=True))
        return np.sum((x @ weight + bias - target[0]) ** 2) / 2

    # The loss is a polynomial of degree four: the second difference is h^2 / 12 of its fourth
    # derivative off, which is 12 |dx dW|^2; rounding adds four eps of the loss over h^2.
    h = 1e-2
    second = (value(h) - 2 * value(0.0) + value(-h)) / h**2
    second -= h**2 * np.sum((v[0][0] @ v[1][0]) ** 2)
    rounding = 4 * np.finfo(np.float64).eps * value(0.0) / h**2
    np.testing.assert_allclose(linear.pair(v, hv)[0], second, rtol=0, atol=10 * rounding)
