"""Results of `elu_node`: one as it should be, then falsified ones."""

import numpy as np

from experiments.autodiff import elu_node as node
from experiments.autodiff.elu_node import ALPHA, CUSTOM, PLAIN


def results():
    z = np.linspace(-10, 10, 401)
    exact = np.where(z > 0, 1, ALPHA * np.exp(np.minimum(z, 0)))
    z_large = np.linspace(80, 100, 401)
    ones, nan = np.ones(401), np.where(z_large > 88.7228, np.nan, 1.0)
    good = node.Result(
        num_operations={PLAIN: 5, CUSTOM: 1},
        z=z,
        slopes={PLAIN: exact, CUSTOM: exact},
        exact=exact,
        slope_at_zero=ALPHA,
        z_large=z_large,
        large_slopes={PLAIN: nan, CUSTOM: ones},
        trap_slopes={PLAIN: (np.nan, np.nan), CUSTOM: (1.0, 1.0)},
        softmax_gradient=1e-16,
        wrong_rule={"softmax": 1e-11, "weighted": 0.2},
        right_rule=1e-11,
    )
    yield good
    # The custom node behaves like the plain operations, and they like it.
    yield good._replace(
        num_operations={PLAIN: 1, CUSTOM: 5},
        slopes={PLAIN: exact, CUSTOM: np.where(z > 0, 1, ALPHA)},
        slope_at_zero=1.0,
        large_slopes={PLAIN: ones, CUSTOM: nan},
        trap_slopes={PLAIN: (1.0, 1.0), CUSTOM: (np.nan, np.nan)},
        softmax_gradient=0.1,
        wrong_rule={"softmax": 0.2, "weighted": 1e-11},
        right_rule=0.2,
    )
