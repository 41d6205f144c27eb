"""Results of `maml_sinusoids`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import maml_sinusoids as sinusoids
from experiments.bilevel.maml_sinusoids import FIRST_ORDER, JOINT, MAML


def results():
    scatter = 1 + 0.02 * np.random.default_rng(0).standard_normal((5, 1))
    curve = lambda *values: np.array(values) * scatter
    errors = {
        MAML: curve(3.5, 1.0, 0.8),
        FIRST_ORDER: curve(3.5, 1.5, 1.0) * scatter,
        JOINT: curve(3.5, 3.2, 2.5) / scatter,
    }
    good = sinusoids.Result(errors, {}, {})
    yield good
    yield good._replace(
        errors={
            MAML: curve(2.0, 3.0, 3.0),
            FIRST_ORDER: curve(3.5, 3.0, 1.0) / scatter,
            JOINT: curve(3.5, 2.5, 2.0) * scatter,
        }
    )
