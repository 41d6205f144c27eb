"""Results of `where_the_time_goes`: one as it should be, then falsified ones."""

import numpy as np

from experiments.training import where_the_time_goes


def results():
    def result(loop=2e-4, plain=1.5e-5, inside=2.0, num_steps=10_000):
        step = {
            "drawn before": 2e-5,
            "drawn inside": 2e-5,
            "plain steps": plain,
            "loop of calls": loop,
        }
        compiling = {"drawn before": 1.0, "drawn inside": inside, "plain steps": 0.8}
        step = {name: np.full(3, seconds) for name, seconds in step.items()}
        return where_the_time_goes.Result(compiling, step, num_steps)

    yield result()
    yield result(loop=2e-5)
    yield result(plain=1e-6)
    yield result(inside=1.0)
    yield result(num_steps=10**8)
