"""A layer that contracts, and a quick run that passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import deep_equilibrium as deep


def test_the_layer_contracts_however_large_its_weights_are():
    params = jax.tree.map(lambda leaf: 10 * leaf, deep.start(jax.random.key(0), 3, 5))
    x, (a, b) = jnp.ones((1, 3)), jax.random.normal(jax.random.key(1), (2, 1, 5))
    # so that tanh does not saturate
    params["outer"], params["bias"] = 0 * params["outer"], 0 * params["bias"]
    moved = deep.layer(params, 1e-3 * a, x) - deep.layer(params, 1e-3 * b, x)
    apart = 1e-3 * jnp.max(jnp.abs(a - b))
    assert float(jnp.max(jnp.abs(moved))) <= deep.LIPSCHITZ * float(apart) * (1 + 1e-4)
    assert float(jnp.max(jnp.abs(moved))) > 0


@pytest.mark.slow
def test_the_claims_hold_when_run():
    result = deep.run(deep.Config().quick())
    assert [claim.text for claim in deep.check(result) if not claim.holds] == []
    np.testing.assert_array_equal([len(values) for values in result.losses.values()], 150)
