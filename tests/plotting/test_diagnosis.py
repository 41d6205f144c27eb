"""The picture of a diagnosis shows its histograms and marks what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.plotting import plot_diagnosis, save_figure


def loss_fn(params, x):
    hidden, _ = jax.lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, params["stack"])
    return jnp.mean((hidden @ params["head"]) ** 2)


@pytest.mark.slow
def test_panels_are_the_histograms_and_sick_layers_are_red(tmp_path):
    stack = jax.random.normal(jax.random.key(0), (10, 8, 8)) * 0.02
    params = {"stack": stack, "head": jax.random.normal(jax.random.key(1), (8, 2))}
    diagnosis = diagnose(loss_fn, params, jax.random.normal(jax.random.key(2), (32, 8)))
    figure = plot_diagnosis(diagnosis)
    assert len(figure.axes) == 5 * 8 + 1  # eight of the eleven layers
    assert figure.axes[0].get_title() == "stack[0]"
    assert figure.axes[7].get_title() == "head"
    sick = {verdict.layer for verdict in diagnosis.verdicts}
    assert "stack[0]" in sick
    for ax in figure.axes[:8]:
        assert (ax.title.get_color() == "#B00000") == (ax.get_title() in sick)
    counts, edges = diagnosis.layers["stack"].weights.histogram
    values, drawn_edges, _ = figure.axes[0].patches[0].get_data()
    np.testing.assert_allclose(drawn_edges, edges[0], rtol=1e-6)
    np.testing.assert_allclose(values / values.sum(), counts[0] / counts[0].sum(), rtol=1e-6)
    profile = figure.axes[-1].lines[0].get_ydata()
    np.testing.assert_allclose(
        profile[:10], diagnosis.layers["stack"].pre_activations.variance, rtol=1e-6
    )
    assert all(path.stat().st_size > 1000 for path in save_figure(figure, tmp_path / "doctor"))
