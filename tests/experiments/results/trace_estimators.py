"""Results of `trace_estimators`: one as it should be, then falsified ones."""

import numpy as np

from experiments.curvature import trace_estimators as script

SIZES = {"Hutchinson": 0.04, "Hutch++": 0.014, "XTrace": 0.012, "XNysTrace": 0.5, "Krylov": 0.01}
TRAINED = {"Krylov": 0.001, "XTrace": 0.0015, "Hutch++": 0.0024}


def results():
    keys = 64
    signs = np.where(np.arange(keys) % 2, 1.0, -1.0)

    def result(krylov=1.0, slope=-0.5, covers=0.95, sem=0.75, is_flagged=True):
        traces = {"at the start": 30.0, "trained": 50.0}
        estimates, errors, covered = {}, {}, {}
        for state, truth in traces.items():
            sizes = SIZES if state == "at the start" else SIZES | TRAINED
            sizes = sizes | {"Krylov": sizes["Krylov"] * krylov}
            estimates[state], errors[state], covered[state] = {}, {}, {}
            for name, size in sizes.items():
                at = size * np.array([0.25**slope, 1.0])[:, None]
                estimates[state][name] = truth * (1 + at * signs)
                factor = sem if name == "XTrace" else 1.0
                if name == "XNysTrace" and state == "at the start" and is_flagged:
                    factor = np.nan
                errors[state][name] = truth * at * factor * np.ones(keys)
                share = np.arange(keys) < covers * keys
                covered[state][name] = np.stack([share, share])
        return script.Result((25, 100), traces, estimates, errors, covered)

    yield result()
    yield result(krylov=100.0)
    yield result(slope=-2.0)
    yield result(covers=0.5)
    yield result(sem=1.1)
    yield result(is_flagged=False)
