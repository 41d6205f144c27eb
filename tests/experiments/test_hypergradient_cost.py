"""The claims hold on a good result, and each can fail."""

import numpy as np
import pytest

from experiments.bilevel import hypergradient_cost as cost
from experiments.bilevel.hypergradient_cost import COUNTS, FLAT, UNROLLED


def results():
    steps = np.array(COUNTS)
    growing = {name: mode.levels for name, mode in UNROLLED.items()}
    # a constant, and one and a half sizes a checkpoint
    kept = {
        name: 10 + 1.5 * max(levels, 1) * steps ** (1 / max(levels, 1))
        for name, levels in growing.items()
    }
    flat = dict.fromkeys(FLAT, np.full(2, 5.0))
    yield cost.Result(kept | flat, {})
    # As if nothing saved memory, and each checkpoint held more than it must.
    yield cost.Result(
        dict.fromkeys(UNROLLED, 10.0 * steps**1.1) | dict.fromkeys(FLAT, steps[[0, -1]]), {}
    )


def test_every_claim_holds_on_a_good_result_and_can_fail():
    good, *falsified = results()
    claims = cost.check(good)
    assert [claim.text for claim in claims if not claim.holds] == []
    failed = {c.text for result in falsified for c in cost.check(result) if not c.holds}
    assert {claim.text for claim in claims} == failed


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = cost.check(cost.run(cost.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
