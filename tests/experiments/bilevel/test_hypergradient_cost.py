"""A quick run passes."""

import pytest

from experiments.bilevel import hypergradient_cost as cost


@pytest.mark.slow
def test_the_claims_hold_when_run():
    claims = cost.check(cost.run(cost.Config().quick()))
    assert [claim.text for claim in claims if not claim.holds] == []
