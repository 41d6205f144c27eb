"""What `edge_of_stability` measures, at small size."""

import numpy as np

from experiments.curvature import edge_of_stability as edge


def test_every_run_is_measured_over_its_limit():
    result = edge.run(edge.Config(num_steps=20, num_seeds=1, width=4, measure_every=10))
    assert result.steps.tolist() == [0, 10, 20]
    assert set(result.sharpness) == set(edge.RATES)
    for name, values in result.sharpness.items():
        assert values.shape == (1, 3)
        assert np.isnan(values[0, 0]) == (name == "Adam")
        assert np.all(values[0, 1:] > 0)
    assert all(loss.shape == (1, 20) for loss in result.loss.values())
    assert result.critical.shape == (1, 3)
    assert set(edge.plot(result)) == {"sharpness", "loss"}


def test_the_last_quarter_is_averaged_by_seed():
    values = np.array([np.arange(8.0), np.ones(8)])
    assert edge.last_quarter(values).tolist() == [6.5, 1.0]
