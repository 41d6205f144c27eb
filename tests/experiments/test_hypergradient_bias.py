"""The claims hold on a good result, and each can fail; the laws are right where they are short."""

import numpy as np
import pytest

from experiments.bilevel import hypergradient_bias as bias
from experiments.bilevel.hypergradient_bias import DECAY, MOMENTUM, NEWTON, RATE, TRUNCATED, WAYS

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


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = bias.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in bias.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


def test_the_laws_in_one_dimension():
    curvature, z, target, start = 3.0, 2.0, -1.0, 0.5
    one = lambda number: np.array([number])
    problem = bias.Problem(one(one(curvature)), one(z), one(target), one(start))
    laws = bias.by_law(problem, [1, 2])
    shrink, gain = 1 - RATE * curvature, (1 - DECAY) * curvature
    np.testing.assert_allclose(laws[TRUNCATED][:, 0], [-shrink, -(shrink**2)])
    np.testing.assert_allclose(
        laws[MOMENTUM][:, 0],
        # after two steps: e'' = e' - eta (b m' + gain e') with e' = 1 - eta gain, m' = gain
        [-(1 - RATE * gain), -((1 - RATE * gain) ** 2 - RATE * DECAY * gain)],
    )


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = bias.check(bias.run(bias.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
