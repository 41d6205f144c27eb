"""Results of `adversarial_example`: one as it should be, then falsified ones."""

import numpy as np

from experiments.descent import adversarial_example as adversarial
from experiments.descent.adversarial_example import NORMS


def results():
    yes, no = np.ones(20, bool), np.zeros(20, bool)
    images = np.zeros((3, 28, 28))
    both = dict.fromkeys
    good = adversarial.Result(
        0.85,
        both(NORMS, yes),
        both(NORMS, no),
        both(NORMS, np.ones(20)),
        {"LInf": 0.0},
        images,
        ("Bag", "Shirt"),
    )
    yield good
    # As if no change but a random one did it, out of the ball and the range.
    yield good._replace(
        accuracy=0.1,
        flipped=both(NORMS, no),
        flipped_at_random=both(NORMS, yes),
        sizes=both(NORMS, np.full(20, 1.1)),
        out_of_range={"LInf": 0.1},
    )
    yield good._replace(sizes=both(NORMS, np.full(20, 0.5)))
