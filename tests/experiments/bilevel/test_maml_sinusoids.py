"""The helpers are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bilevel import maml_sinusoids as sinusoids
from experiments.bilevel.maml_sinusoids import MAML


def test_support_and_query_of_a_task_lie_on_one_sinusoid():
    tasks = sinusoids.draw_tasks(np.random.default_rng(0), 5, 20)
    assert tasks.support[0].shape == (5, sinusoids.POINTS, 1)
    assert tasks.query[1].shape == (5, 20, 1)
    for task in range(5):
        x, y = (np.concatenate([s[task], q[task]])[:, 0] for s, q in zip(*tasks, strict=True))
        columns = np.stack([np.sin(x), np.cos(x)], axis=1)
        weights, *_ = np.linalg.lstsq(columns, y, rcond=None)
        # float32 numbers up to 5
        np.testing.assert_allclose(columns @ weights, y, atol=20 * 5 * 1.2e-7)
        assert 0.1 <= np.hypot(*weights) <= 5


@pytest.mark.slow
def test_the_first_step_of_adaptation_is_the_gradient_step_that_maml_learns_for():
    rng = np.random.default_rng(0)
    tasks = sinusoids.draw_tasks(rng, 3, 10)
    start = sinusoids.init(rng)
    one_seed = jax.tree.map(lambda a: a[None], tasks)
    errors, _ = sinusoids.adapt(jax.tree.map(lambda a: a[None, None], start), one_seed)
    # what MAML descends, at a rate at which its start does not move
    params = jax.tree.map(lambda a: a[None], start)
    learned = sinusoids.train(params, one_seed, 0.0, MAML, 1)
    np.testing.assert_allclose(errors[0, 0, 1], learned.losses[0, 0], rtol=1e-5)


@pytest.mark.usefixtures("full_products")
def test_the_network_is_that_of_numpy():
    params = sinusoids.init(np.random.default_rng(0))
    x = np.linspace(-1, 1, 5, dtype=np.float32)[:, None]
    expected = np.tanh(np.tanh(x @ params[0][0]) @ params[1][0]) @ params[2][0]
    np.testing.assert_allclose(sinusoids.predict(params, jnp.asarray(x)), expected, atol=1e-5)


@pytest.mark.slow
def test_a_quick_run_passes_and_one_that_adapts_to_other_tasks_does_not(monkeypatch):
    config = sinusoids.Config().quick()
    assert [c.text for c in sinusoids.check(sinusoids.run(config)) if not c.holds] == []
    honest = sinusoids.adapt

    def mistaken(starts, tasks):
        return honest(starts, tasks._replace(query=tuple(q[:, ::-1] for q in tasks.query)))

    monkeypatch.setattr(sinusoids, "adapt", mistaken)
    failed = [claim.text for claim in sinusoids.check(sinusoids.run(config)) if not claim.holds]
    assert "one step: MAML's error over that of joint training" in failed
