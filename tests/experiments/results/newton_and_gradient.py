"""Results of `newton_and_gradient`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import newton_and_gradient as descent
from experiments.descent.newton_and_gradient import SURFACES


def results():
    norms = np.array([3.0, 1e-2, 1e-4, 1e-8])
    good = descent.Result(
        steps={name: {"gradient": 100.0, "Newton": 1.0} for name in SURFACES},
        distance={name: {"gradient": 1e-7, "Newton": 1e-9} for name in SURFACES},
        grad_norms=dict.fromkeys(SURFACES, norms),
        paths={},
        wrong_path=2.0 ** np.arange(31),
        wrong_distance={"quadratic": 1e9, "Beale": np.nan},
        to_maximum=1e-7,
    )
    yield good
    # As if the sign were right, and the gradient as good.
    yield descent.Result(
        steps={name: {"gradient": 5.0, "Newton": 5.0} for name in SURFACES},
        distance={name: {"gradient": 1e-7, "Newton": 1.0} for name in SURFACES},
        grad_norms=dict.fromkeys(SURFACES, 0.5 ** np.arange(20.0)),
        paths={},
        wrong_path=0.5 ** np.arange(31),
        wrong_distance={"quadratic": 1e-9},
        to_maximum=1.0,
    )
