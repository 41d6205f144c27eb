"""Results of `zig_zag`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import zig_zag
from experiments.descent.zig_zag import METHODS, SAME_STEP


def results():
    t = np.arange(501)
    # Condition number 50: factors of the theory.
    factors = [(49 / 51) ** 2, (49 / 51) ** 2, 0.7, 0.9, 0.01, 1e-20]
    losses = {name: rate**t for name, rate in zip(METHODS, factors, strict=True)}
    corners = np.stack([t / 2, (t % 2) / 2], axis=1)
    straight = np.stack([t / 2, t / 2], axis=1)
    good = zig_zag.Result(
        losses=losses,
        points={"gradient": corners, "momentum": corners, SAME_STEP: straight},
        cosines=np.full(10, 1e-9),
        step_error=1e-12,
        condition={"before": 50.0, "after": 1.2},
        hessian=np.eye(2),
    )
    yield good
    # As if the remedies were none, and the gradient went straight.
    yield good._replace(
        losses=dict.fromkeys(METHODS, 0.99**t),
        points={"gradient": straight, "momentum": straight, SAME_STEP: corners},
        cosines=np.full(10, 0.9),
        step_error=0.5,
        condition={"before": 20.0, "after": 20.0},
    )
