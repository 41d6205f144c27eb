"""The claims hold on a good result, and each can fail; the data are those of scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import make_regression

from experiments.bilevel import argmin_gradients as gradients
from experiments.bilevel.argmin_gradients import DIFFERENCES, IMPLICIT, UNROLLED


def results():
    exact = {"l1": 0.002, "l2": 0.001}
    good = gradients.Result(
        gradients=dict.fromkeys([IMPLICIT, UNROLLED, DIFFERENCES], exact),
        formula=exact,
        value=2e-4,
        start_gradient=np.full(20, 1e-30),
        cotangent=np.ones(20),
        contraction=0.5,
        weights=np.ones(20),
        singular=1e-13,
        negative_is_definite=False,
        penalties=np.array([0.0, 0.1]),
        curves={},
    )
    yield good
    # As the tutorial has it.
    zero = {"l1": 0.0, "l2": 0.0}
    yield good._replace(
        gradients=dict.fromkeys(good.gradients, zero),
        start_gradient=good.cotangent,
        singular=0.5,
        negative_is_definite=True,
    )


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = gradients.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in gradients.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


def test_the_data_are_those_of_the_tutorial():
    inputs, targets = gradients.make_data()
    theirs, their_targets = map(
        np.asarray, make_regression(1000, 20, bias=10, noise=1, random_state=42)[:2]
    )
    their_targets = (their_targets - their_targets.mean()) / their_targets.std()
    # the products with the targets don't depend on the order of rows
    theirs = (theirs - theirs.mean(axis=0)) / theirs.std(axis=0)
    np.testing.assert_allclose(np.sort(targets), np.sort(their_targets), rtol=1e-10)
    np.testing.assert_allclose(
        np.sort(inputs.T @ targets), np.sort(theirs.T @ their_targets), atol=1e-9
    )


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = gradients.check(gradients.run(gradients.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
