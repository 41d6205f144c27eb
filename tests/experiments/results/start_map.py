"""Results of `start_map`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import start_map
from experiments.descent.start_map import BARE_NEWTON, NOT_A_MINIMUM, NOWHERE, shares


def results():
    quarters = np.kron(np.array([[0, 1], [2, 3]]), np.ones((50, 50), int))
    some = quarters.copy()
    some[:5] = 3 - some[:5]  # a twentieth elsewhere
    other = quarters.copy()
    other[:30] = 3 - other[:30]
    newton = quarters.copy()
    newton[30:70] = NOT_A_MINIMUM
    reached = {"gradient": quarters, "momentum": other, "Adam": some, BARE_NEWTON: newton}
    half = {name: shares(places[::2, ::2])[:4] for name, places in reached.items()}
    good = start_map.Result(reached, half)
    yield good
    # As if the gradient got stuck, and nothing depended on the optimizer.
    lost = np.full((100, 100), NOWHERE)
    yield start_map.Result(dict.fromkeys(reached, lost), half)
