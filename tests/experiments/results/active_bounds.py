"""Results of `active_bounds`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import active_bounds
from experiments.descent.active_bounds import BOUNDED, CLIPPED, PROJECTED, START, TARGET


def results():
    exact = active_bounds.solution()
    on_top = np.array([0.9, 3.0])
    good = active_bounds.Result(
        paths={
            BOUNDED: np.array([START, on_top, exact]),
            PROJECTED: np.array([START, *np.linspace(on_top, exact, 10)]),
            CLIPPED: np.array([START, TARGET]),
        },
        active=np.array([-1, 0], np.int8),
        scipy=exact,
        scipy_steps=2,
        grid_ends=np.array([exact, exact]),
        grid_left=np.array([1, 0]),
    )
    yield good
    # As if the bounds hindered no one but him who clips, and no one left them.
    slow = np.linspace(START, [5.0, 3.0], 50)
    yield good._replace(
        paths={BOUNDED: slow, PROJECTED: slow, CLIPPED: np.array([START, exact])},
        active=np.array([0, 0], np.int8),
        scipy=np.zeros(2),
        grid_ends=np.zeros((2, 2)),
        grid_left=np.zeros(2),
    )
    # As if the upper bound were never touched.
    yield good._replace(paths=good.paths | {BOUNDED: np.array([START, exact])})
