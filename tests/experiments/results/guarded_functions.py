"""Results of `guarded_functions`: one as it should be, then falsified ones."""

import numpy as np

from experiments.autodiff import guarded_functions as guarded
from experiments.autodiff.guarded_functions import CONVENTION, FUNCTIONS, PLAIN, SAFE


def results():
    truths = {name: function.truth for name, function in FUNCTIONS.items()}
    rows = {name: guarded.Row(True, np.nan, truth, truth, truth) for name, truth in truths.items()}
    rows[CONVENTION] = guarded.Row(True, np.nan, 0.0, 0.0, 1.0)
    z = np.linspace(80, 100, 401)
    nan = np.where(z > 88.7228, np.nan, 1.0)
    good = guarded.Result(
        rows=rows,
        z=z,
        slopes={PLAIN: nan, SAFE: np.ones(401)},
        second=0.0,
        site="exp, guarded_functions.py",
    )
    yield good
    wrong = {name: guarded.Row(False, 1.0, np.nan, 2.0, row.truth) for name, row in rows.items()}
    yield good._replace(
        rows=wrong, slopes={PLAIN: np.ones(401), SAFE: nan}, second=np.nan, site="log, other.py"
    )
    few = {name: row for name, row in rows.items() if name in ("elu", CONVENTION)}
    yield good._replace(rows=few)
