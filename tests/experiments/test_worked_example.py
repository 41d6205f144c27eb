"""The claims hold on a good result, and each can fail."""

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


def test_the_tutorial_numbers_follow_by_hand():
    values, adjoints, tangents = example.by_hand(*example.POINT)
    np.testing.assert_allclose([values[-1], *adjoints[:2]], example.TUTORIAL, atol=5e-13)
    np.testing.assert_allclose(tangents[:, -1], adjoints[:2], rtol=1e-15)


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    assert [claim.text for claim in example.check(good) if not claim.holds] == []
    failed = {
        claim.text for result in falsified for claim in example.check(result) if not claim.holds
    }
    assert {claim.text for claim in example.check(good)} == failed
