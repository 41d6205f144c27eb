"""The data are those of scikit-learn, and a quick run passes."""

import numpy as np
import pytest
from sklearn.datasets import make_regression

from experiments.bilevel import argmin_gradients as gradients


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
