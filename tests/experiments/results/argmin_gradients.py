"""Results of `argmin_gradients`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import argmin_gradients as gradients
from experiments.bilevel.argmin_gradients import DIFFERENCES, IMPLICIT, UNROLLED


def results():
    exact = {"l1": 0.002, "l2": 0.001}
    good = gradients.Result(
        gradients=dict.fromkeys([IMPLICIT, UNROLLED, DIFFERENCES], exact),
        formula=exact,
        value=2e-4,
        start_gradient=np.full(20, 1e-30),
        cotangent=np.ones(20),
        contraction=0.5,
        weights=np.ones(20),
        singular=1e-13,
        negative_is_definite=False,
        penalties=np.array([0.0, 0.1]),
        curves={},
    )
    yield good
    # As the tutorial has it.
    zero = {"l1": 0.0, "l2": 0.0}
    yield good._replace(
        gradients=dict.fromkeys(good.gradients, zero),
        start_gradient=good.cotangent,
        singular=0.5,
        negative_is_definite=True,
    )
