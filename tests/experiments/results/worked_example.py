"""Results of `worked_example`: one as it should be, then falsified ones."""

import numpy as np

from experiments.autodiff import worked_example as example


def results():
    exact = example.by_hand(*example.POINT)
    gradients = np.array([[13.9, 6.97], [1.0, 2.0]])
    good = example.Result(*exact, *exact, gradients, gradients, gradients)
    yield good
    # Float32 has eight digits.
    rough = [np.float64(np.float32(1.1 * array)) for array in (*exact, gradients)]
    yield example.Result(*rough[:3], *exact, rough[3], rough[3], gradients)
    yield good._replace(tangents=1.1 * good.tangents)
    # The product appears twice: no fan-out.
    yield good._replace(
        values=np.insert(good.values, 3, 2.0), hand_values=np.insert(good.hand_values, 3, 2.0)
    )
