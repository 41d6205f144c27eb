"""Plots of races show the numbers of their results, those that never arrive among them."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from jaxopt_tut import plotting
from jaxopt_tut.training.races import RaceTable

INF = math.inf
BUDGET = 100


def race(num_optimizers=3, num_problems=4, num_rates=5, num_seeds=8, lost=0.05):
    """Draw a race in which the first optimizer is the fastest, and some runs never arrive."""
    rng = np.random.default_rng(0)
    shape = num_optimizers, num_problems, num_rates, num_seeds
    times = 20 * np.linspace(1, 2, num_optimizers)[:, None, None, None] * np.ones(shape)
    times = times * np.exp(0.1 * rng.normal(size=shape))
    times[rng.uniform(size=shape) < lost] = INF
    last = np.where(np.isfinite(times), 1 - 0.5 * BUDGET / times, 1.0)
    losses = np.stack([np.ones(shape), last], axis=-1)
    return RaceTable(
        optimizers=tuple(f"opt{i}" for i in range(num_optimizers)),
        problems=tuple(f"problem{i}" for i in range(num_problems)),
        learning_rates=np.tile(np.geomspace(1e-3, 1.0, num_rates), (num_optimizers, 1)),
        seeds=np.arange(num_seeds),
        steps=np.array([0, BUDGET]),
        losses=losses,
        training_losses=losses,
        targets=np.full(num_problems, 0.5),
        seconds_per_step=np.full((num_optimizers, num_problems), 0.01),
        default_rates=np.full(num_optimizers, num_rates // 2),
    )


PLOTS = {
    "profiles": lambda t, **kw: plotting.plot_performance_profiles(t.profiles(), **kw),
    "scores": lambda t, **kw: plotting.plot_scores(t.confidence(num_draws=50), **kw),
    "comparison": lambda t, **kw: plotting.plot_comparison(t.compare(), **kw),
    "rates": lambda t, **kw: plotting.plot_rate_sensitivity(t.sensitivity(), "problem0", **kw),
    "losses": lambda t, **kw: plotting.plot_rate_sensitivity(
        t.sensitivity(), "problem0", quantity="loss", **kw
    ),
    "tuning": lambda t, **kw: plotting.plot_tuning_cost(t.tuning_cost(), **kw),
}
every_plot = pytest.mark.parametrize("name", PLOTS)


@every_plot
def test_a_plot_of_a_race_labels_the_axes_it_is_given(name):
    ax = plotting.new_figure().add_subplot()
    assert PLOTS[name](race(), ax=ax, title="A title") is ax
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    assert ax.get_title().startswith("A title")
    assert ax.has_data()


@every_plot
@pytest.mark.parametrize(
    ("shape", "lost"),
    [((14, 2, 3, 4), 0.2), ((1, 1, 1, 1), 0.0), ((1, 1, 1, 1), 1.0), ((3, 1, 2, 2), 1.0)],
    ids=["many", "one of each", "one of each, never", "none arrives"],
)
def test_races_of_any_size_can_be_laid_out(name, shape, lost):
    PLOTS[name](race(*shape, lost=lost)).figure.draw_without_rendering()  # warnings are errors


@pytest.mark.parametrize(
    ("draw", "match"),
    [
        (
            plotting.plot_performance_profiles,
            "profiles returns, a Profiles, or a RaceTable, got float",
        ),
        (plotting.plot_scores, "plot_scores needs what RaceTable.confidence returns, a"),
        (plotting.plot_comparison, "compare returns, a Comparison, or a RaceTable, got float"),
        (
            lambda x: plotting.plot_rate_sensitivity(x, "a"),
            "RaceTable.sensitivity returns, a Sensitivity, or a RaceTable, got float",
        ),
        (plotting.plot_tuning_cost, "returns, a TuningCost, or a RaceTable, got float"),
    ],
)
def test_other_things_than_results_are_refused(draw, match):
    with pytest.raises(TypeError, match=match):
        draw(1.0)


def test_problems_and_quantities_that_are_not_there_are_refused():
    table = race(2, 2)
    with pytest.raises(ValueError, match=r"problems problem0, problem1, got problem='x'\."):
        plotting.plot_rate_sensitivity(table.sensitivity(), "x")
    with pytest.raises(ValueError, match=r"problems problem0, problem1, got problem='x'\."):
        plotting.plot_tuning_cost(table.tuning_cost(), "x")
    with pytest.raises(ValueError, match=r"quantity 'steps' or 'loss', got quantity='time'\."):
        plotting.plot_rate_sensitivity(table.sensitivity(), "problem0", quantity="time")


def test_profiles_are_steps_with_a_band_each():
    profiles = race().profiles()
    ax = plotting.plot_performance_profiles(profiles)
    for line, shares in zip(ax.lines, profiles.shares, strict=True):
        assert line.get_drawstyle() == "steps-post"
        np.testing.assert_array_equal(line.get_ydata(), shares)
    assert len(ax.collections) == 3


def test_the_forest_has_the_best_score_on_top_and_both_intervals():
    found = race().confidence(num_draws=50)
    ax = plotting.plot_scores(found)
    over, given = ax.collections
    assert over.get_linewidth()[0] < given.get_linewidth()[0]
    best = int(np.argmax(found.scores))
    np.testing.assert_allclose(given.get_segments()[-1][:, 0], found.given_problems[best])
    np.testing.assert_allclose(over.get_segments()[-1][:, 0], found.over_problems[best])
    assert ax.get_yticklabels()[-1].get_text().startswith(f"opt{best}")


def test_the_matrix_colours_only_what_differs():
    found = race().compare()
    assert found.significant[0, 2]
    ax = plotting.plot_comparison(found)
    shown = ax.images[0].get_array()
    assert np.all((shown != 0) == found.significant)  # opt0, opt1, opt2 is their order
    assert shown[0, 2] < 0 < shown[2, 0]
    same = race(2, 1, 1, 2, lost=1.0).compare()
    assert not np.any(plotting.plot_comparison(same).images[0].get_array())


def test_rates_that_never_arrive_have_no_point():
    table = race(1, 1, 3, 7, lost=0.0)
    table.losses[0, 0, 0, :, 1] = 1.0
    ax = plotting.plot_rate_sensitivity(table.sensitivity(), "problem0")
    points = ax.lines[0].get_ydata()
    assert np.isnan(points).tolist() == [True, False, False]
    assert ax.get_ylim()[1] > BUDGET
    table.losses[..., 1] = 1.0
    ax = plotting.plot_rate_sensitivity(table.sensitivity(), "problem0")
    assert ax.get_legend().get_texts()[0].get_text() == "opt0 (never)"


def test_tuning_has_the_defaults_beside_the_trials():
    cost = race().tuning_cost()
    ax = plotting.plot_tuning_cost(cost)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), cost.overall[0])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), cost.overall_defaults[:1])
    assert ax.get_xticklabels()[0].get_text() == "default"
    one = plotting.plot_tuning_cost(cost, "problem1")
    np.testing.assert_allclose(one.lines[0].get_ydata(), cost.steps[0, 1])


def test_fourteen_curves_all_look_different():
    ax = plotting.plot_tuning_cost(race(14).tuning_cost())
    curves = ax.lines[:28:2]
    looks = {(to_rgba(c.get_color()), str(c.get_linestyle()), c.get_marker()) for c in curves}
    assert len(looks) == 14
