"""What `mode_connectivity` measures, at small size."""

import numpy as np
import pytest

from experiments.curvature import mode_connectivity as modes


@pytest.mark.slow  # compiles three trainings
def test_a_quick_run_has_three_paths_a_pair_of_which_two_share_their_ends():
    result = modes.run(modes.Config().quick())
    assert {kind: loss.shape for kind, loss in result.losses.items()} == dict.fromkeys(
        modes.KINDS, (2, 5)
    )
    straight, _, curve = (result.losses[kind] for kind in modes.KINDS)
    # the same two points: blocks of a batched program may sum in another order
    np.testing.assert_allclose(straight[:, [0, -1]], curve[:, [0, -1]], rtol=1e-4)
    assert all(np.all(barrier >= 0) for barrier in result.barriers.values())
    assert set(modes.plot(result)) == {"paths"}
