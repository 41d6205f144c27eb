"""The figure and the helpers are what they say, and a quick run passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.initialization import phase_diagram as phases
from experiments.initialization.phase_diagram import ACTIVATIONS
from tests.experiments.results.phase_diagram import results


def test_the_figure_has_a_panel_for_each_activation():
    figure = phases.plot(next(results()))["phases"]
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[: len(ACTIVATIONS)] == list(ACTIVATIONS)


def test_pooled_images_are_means_of_squares():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28)).astype(np.uint8)
    found = np.asarray(phases.pooled(images, 0.3, 0.4)).reshape(5, 14, 14)
    assert np.isclose(found.std(), 1, rtol=1e-5)
    means = images[2, 4:6, 10:12].mean(), images[3, :2, :2].mean()
    ratio = [mean / 255 - 0.3 for mean in means]
    assert np.isclose(found[2, 2, 5] / found[3, 0, 0], ratio[0] / ratio[1], rtol=1e-4)


@pytest.mark.slow  # compiles a training run
def test_a_quick_run_passes():
    result = phases.run(phases.Config().quick())
    assert [claim.text for claim in phases.check(result) if not claim.holds] == []
    # Each activation is its own: only the chi of tanh depends on the variance of the biases.
    assert (
        np.ptp(result.chi["ReLU"], axis=0).max() < 1e-5 < np.ptp(result.chi["tanh"], axis=0).min()
    )


@pytest.mark.slow  # compiles a training run
def test_no_steps_at_a_rate_of_zero_leave_every_point_at_its_start():
    images = jax.random.normal(jax.random.key(1), (8, phases.NUM_PIXELS))
    data = images, jnp.zeros(8, jnp.int32)
    points = jnp.array([[1.0, 0.1], [1.0, 0.1], [2.0, 0.5]])
    args = (jax.random.key(0), 0, points, jnp.arange(8), 0.0, data, data, 2, 4, 4)
    found = phases.train(*args)
    assert found[0] == found[1]
    trained = phases.train(*args[:4], 0.05, *args[5:])
    assert np.all(
        trained >= found
    )  # all labels are one class, and the images are those of training
