"""The heat map of a sweep shows means over keys, each where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.plotting import plot_sweep
from jaxopt_tut.training import Map, grid, sweep

KEYS = jax.random.split(jax.random.key(0), 3)
CONFIGURATIONS = grid(rate=[0.1, 1.0, 10.0], decay=[0.0, 0.9], width=[2.0, 1.0])


def run(h, key):
    value = h["rate"] * h["width"] + h["decay"] + 0.01 * jax.random.uniform(key)
    return jnp.where(h["rate"] + h["decay"] > 10.5, jnp.nan, value)


def test_cells_are_means_over_keys_and_the_best_of_what_is_not_shown():
    swept = sweep(run, CONFIGURATIONS, keys=KEYS, strategy=Map())
    ax = plot_sweep(swept, "rate", "decay", title="A title", ylabel="loss")
    cells = ax.images[0].get_array()
    scores = swept.scores().mean(axis=1).reshape(3, 2, 2).min(axis=2).T
    np.testing.assert_allclose(np.where(cells.mask, np.inf, cells.data), scores)
    assert cells.mask.tolist() == [[False] * 3, [False, False, True]]
    assert ax.lines[0].get_xydata().tolist() == [[2.0, 1.0]]  # the cross
    assert ax.lines[1].get_xydata().tolist() == [[0.0, 0.0]]  # the ring
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rate", "decay")
    assert ax.get_title() == "A title\n(mean over 3 keys)"
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0.1", "1", "10"]


def test_nothing_finite_and_equal_scores_are_drawn_too():
    for value in (jnp.nan, 1.0, -1.0, 0.0):
        run = lambda h, _, value=value: 0 * h["rate"] + value
        swept = sweep(run, CONFIGURATIONS, keys=KEYS[:1], strategy=Map())
        assert plot_sweep(swept, "rate", "width").has_data()


def test_a_name_that_is_none_is_a_sentence():
    swept = sweep(run, CONFIGURATIONS, keys=KEYS[:1], strategy=Map())
    with pytest.raises(
        ValueError, match=r"that is a number, got 'eps'; there are decay, rate, width"
    ):
        plot_sweep(swept, "rate", "eps")
