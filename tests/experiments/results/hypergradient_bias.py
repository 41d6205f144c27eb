"""Results of `hypergradient_bias`: one as it should be, then falsified ones."""

import numpy as np

from experiments.bilevel import hypergradient_bias as bias
from experiments.bilevel.hypergradient_bias import MOMENTUM, NEWTON, TRUNCATED, WAYS

COUNTS = np.array([1, 8])


def results():
    problems = bias.make_problems(bias.Config(num_problems=2))
    every = [bias.by_law(bias.Problem(*row), range(1, 9)) for row in zip(*problems, strict=True)]
    laws = {name: np.stack([law[name] for law in every], axis=1) for name in WAYS}
    last = {"gradient": laws[TRUNCATED][0], "momentum": laws[MOMENTUM][0], NEWTON: np.zeros((2, 6))}
    good = bias.Result(
        counts=COUNTS,
        errors={name: law[COUNTS - 1] for name, law in laws.items()},
        laws=laws,
        last_errors=last,
        last_laws=last,
        truths=problems.z - problems.target,
        axes=np.stack([np.eye(6)] * 2),
        curvatures=np.linalg.eigvalsh(problems.hessian[0]),
    )
    yield good
    # As if nothing were left out, but by Newton's step.
    yield good._replace(
        errors={name: 0 * errors for name, errors in good.errors.items()},
        last_errors={name: 0 * e + (name == NEWTON) for name, e in last.items()},
    )
