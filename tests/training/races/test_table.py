import dataclasses
import math
import re
from typing import Any, cast

import jax
import numpy as np
import pandas as pd
import pytest

from jaxopt_tut.plotting import plot_comparison
from jaxopt_tut.training.races import RaceTable
from jaxopt_tut.training.races.profiles import performance_ratios
from jaxopt_tut.training.races.scores import areas
from jaxopt_tut.training.races.sign_flips import holm, sign_flip_p_values

INF = math.inf
BUDGET = 100


def table_of(times, rates=None, final=None, **changes):
    """Make a race whose runs reach their target at given steps; `times` has its four axes."""
    times = np.asarray(times, np.float64)
    num_optimizers, num_problems, num_rates, num_seeds = times.shape
    # From 1 at step 0 in a line to what makes it cross .5 at the time given.
    with np.errstate(divide="ignore"):
        last = np.where(
            np.isfinite(times), 1 - 0.5 * BUDGET / times, 1.0 if final is None else final
        )
    if rates is None:
        rates = np.tile(np.geomspace(1e-3, 1.0, num_rates), (num_optimizers, 1))
    table = RaceTable(
        optimizers=tuple(f"opt{i}" for i in range(num_optimizers)),
        problems=tuple(f"problem{i}" for i in range(num_problems)),
        learning_rates=np.asarray(rates, np.float64),
        seeds=np.arange(num_seeds),
        steps=np.array([0, BUDGET]),
        losses=np.stack([np.ones_like(last), last], axis=-1),
        training_losses=np.stack([np.ones_like(last), last], axis=-1),
        targets=np.full(num_problems, 0.5),
        seconds_per_step=np.full((num_optimizers, num_problems), 0.01),
        default_rates=np.zeros(num_optimizers, int),
    )
    return dataclasses.replace(table, **changes)


def random_times(rng, *shape, spread=0.3):
    """Draw times whose seeds have something in common, as starts and batches have."""
    shared = rng.normal(size=(1, shape[1], 1, shape[3]))
    times = 30 * np.exp(spread * (rng.normal(size=shape) + shared))
    return np.clip(times, 1.0, BUDGET)


def test_crossings_are_the_times_given():
    times = np.array([[[[10.0, 25.0, INF, 100.0]]]])
    np.testing.assert_allclose(table_of(times).crossings(), times, rtol=1e-12)


def test_rates_are_chosen_on_some_seeds_and_judged_on_the_others():
    times = np.array([[[[10.0, 10.0, 90.0, 80.0], [20.0, 20.0, 30.0, 40.0]]]])
    found = table_of(times).times()
    np.testing.assert_allclose(found.steps, [[[90.0, 80.0]]])
    assert found.seeds.tolist() == [2, 3]
    assert found.learning_rates.item() == 1e-3
    assert found.at_edge.item()
    assert "widen the grid" in repr(found)
    last = table_of(times).times(choose=1)
    assert last.seeds.tolist() == [1, 2, 3]


def test_where_no_rate_arrives_the_loss_chooses():
    last = np.array([[[[3.0, 3.0], [1.0, 1.0], [INF, INF]]]])
    found = table_of(np.full((1, 1, 3, 2), INF), final=last).times()
    assert found.learning_rates.item() == table_of(np.ones((1, 1, 3, 2))).learning_rates[0, 1]
    assert "No optimizer reaches the target of problem0." in found.notes


def test_padding_is_never_chosen():
    times = np.full((2, 1, 3, 4), INF)
    times[0] = 20.0
    rates = np.array([[0.1, 0.2, 0.3], [0.1, np.nan, np.nan]])
    losses = np.array([INF, INF])
    table = table_of(times, rates)
    table.losses[1] = losses
    found = table.times()
    assert found.learning_rates[1, 0] == 0.1
    assert not found.at_edge[1, 0]
    assert "No target is reached by opt1." in found.notes


def test_one_rate_each_leaves_all_seeds_to_judge():
    table = table_of(random_times(np.random.default_rng(0), 3, 2, 1, 5))
    assert len(table.times().seeds) == 5
    assert table.times().notes == ()


def test_one_seed_is_said_not_to_do():
    table = table_of(random_times(np.random.default_rng(0), 2, 2, 3, 1))
    assert "same seeds" in table.times().notes[0]
    assert "same seeds" in repr(table.scores())
    assert "undecidable" in repr(table.compare()) or "No pair" in repr(table.compare())


@pytest.mark.parametrize(
    ("choose", "error", "match"),
    [
        (-1, ValueError, r"times needs 0 <= choose < 4, the number of seeds, got choose=-1\."),
        (4, ValueError, r"got choose=4\."),
        (0.5, TypeError, r"a whole number of seeds to choose on, got choose=0\.5\."),
        (True, TypeError, r"got choose=True\."),
    ],
)
def test_seeds_are_left_to_judge(choose, error, match):
    table = table_of(random_times(np.random.default_rng(0), 2, 2, 3, 4))
    with pytest.raises(error, match=match):
        table.times(choose=choose)
    with pytest.raises(error, match=match):
        table.tuning_cost(choose=choose)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda t: t.scores("hours"), r"unit 'steps' or 'seconds', got unit='hours'\."),
        (
            lambda t: t.scores(max_ratio=1.0),
            r"scores needs a finite max_ratio > 1, got max_ratio=1\.0\.",
        ),
        (
            lambda t: t.profiles(max_ratio=0.5),
            r"profiles needs a finite max_ratio > 1, got max_ratio=0\.5\.",
        ),
        (lambda t: t.confidence(level=1.0), r"confidence needs 0 < level < 1, got level=1\.0\."),
        (
            lambda t: t.confidence(max_ratio=1),
            r"confidence needs a finite max_ratio > 1, got max_ratio=1\.",
        ),
        (lambda t: t.confidence(num_draws=0), r"needs num_draws >= 1, got num_draws=0\."),
        (lambda t: t.compare(over="runs"), r"over 'seeds' or 'problems', got over='runs'\."),
        (lambda t: t.compare(problem="x"), r"problems problem0, problem1, got problem='x'\."),
        (lambda t: t.compare(alpha=0.0), r"compare needs 0 < alpha < 1, got alpha=0\.0\."),
        (
            lambda t: t.compare(problem="problem0", over="problems"),
            r"needs over='seeds' within a problem, got over='problems'\.",
        ),
        (lambda t: t.sensitivity(level=2.0), r"sensitivity needs 0 < level < 1, got level=2\.0\."),
    ],
)
def test_bad_options_are_refused(ask, match):
    table = table_of(random_times(np.random.default_rng(0), 2, 2, 3, 4))
    with pytest.raises(ValueError, match=match):
        ask(table)


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda t: t.confidence(num_draws=10.5), r"confidence needs .*num_draws=10\.5"),
        (lambda t: t.confidence(level="high"), r"a real number as level, got level='high'\."),
        (lambda t: t.compare(alpha=None), r"a real number as alpha, got alpha=None\."),
        (lambda t: t.scores(max_ratio="4"), r"a real number as max_ratio, got max_ratio='4'\."),
    ],
)
def test_options_that_are_no_numbers_are_refused(ask, match):
    with pytest.raises(TypeError, match=match):
        ask(table_of(random_times(np.random.default_rng(0), 2, 2, 3, 4)))


def test_a_target_that_holds_from_the_start_is_said():
    table = table_of(random_times(np.random.default_rng(0), 2, 2, 3, 4))
    given = dataclasses.replace(table, targets=np.array([2.0, 0.5]))
    assert (
        "Every run is at the target of problem0 by the first evaluation" in given.times().notes[0]
    )
    nowhere = dataclasses.replace(table, targets=np.array([np.nan, 0.5]))
    assert "No optimizer reaches the target of problem0." in nowhere.times().notes


def test_seconds_are_steps_times_those_of_a_step():
    times = random_times(np.random.default_rng(1), 2, 3, 1, 4)
    slow = table_of(times, seconds_per_step=np.array([[0.01] * 3, [0.05] * 3]))
    found = slow.times()
    np.testing.assert_allclose(found.within("seconds")[1], 0.05 * times[1, :, 0], rtol=1e-12)
    np.testing.assert_allclose(found.horizon("seconds"), 1.0)
    assert slow.scores("seconds").scores[1] < slow.scores().scores[1]
    unknown = dataclasses.replace(slow, seconds_per_step=np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="needs the seconds of a step for unit='seconds'"):
        unknown.scores("seconds")


def test_profiles_and_scores_know_one_another():
    table = table_of(random_times(np.random.default_rng(2), 4, 5, 3, 6))
    profiles, scores = table.profiles(max_ratio=4.0), table.scores()
    # The profile is constant between its taus, which hold all of its jumps.
    area = np.sum(profiles.shares[:, :-1] * np.diff(profiles.taus), axis=1) / 3
    np.testing.assert_allclose(area, scores.scores, rtol=1e-12)
    assert np.all((profiles.low <= profiles.high) & (profiles.high <= 1))
    assert np.all(np.diff(profiles.shares) >= 0)


def test_bootstrap_intervals_hold_the_score_and_probabilities_add_up():
    table = table_of(random_times(np.random.default_rng(3), 4, 6, 1, 12))
    found = table.confidence(num_draws=400)
    for ends in (found.given_problems, found.over_problems):
        assert np.all(ends[:, 0] <= ends[:, 1])
    width = [np.diff(ends).mean() for ends in (found.given_problems, found.over_problems)]
    assert width[0] < width[1]
    for chance in (found.best_given_problems, found.best_over_problems):
        np.testing.assert_allclose(chance.sum(), 1.0)
    assert "6 problems are few" in repr(found)
    again = table.confidence(num_draws=400)
    np.testing.assert_array_equal(found.over_problems, again.over_problems)


@pytest.mark.parametrize(("num_optimizers", "num_seeds"), [(2, 5), (8, 5), (8, 15)])
def test_intervals_given_the_problems_cover_the_score_of_many_seeds(num_optimizers, num_seeds):
    rng = np.random.default_rng(4)
    # Medians of the distribution itself: times are log-normal, but for few that meet the budget.
    middle = 20 * np.exp(0.3 * rng.normal(size=(num_optimizers, 6, 1, 1)))
    truth = areas(performance_ratios(middle[:, :, 0, 0]), 4.0)
    inside = []
    for _ in range(80):
        noise = random_times(rng, num_optimizers, 6, 1, num_seeds, spread=0.2) / 30
        table = table_of(np.minimum(middle * noise, BUDGET))
        low, high = table.confidence(num_draws=200).given_problems.T
        inside.append((low <= truth) & (truth <= high))
    # Between 93 and 98 % in longer simulations; percentile intervals would have 70 % for the
    # second case. The mean over optimizers of 80 races has a standard error of 2 %.
    assert np.mean(inside) >= 0.87


def test_intervals_over_problems_cover_the_score_of_many_problems():
    rng = np.random.default_rng(4)
    speeds = 20 * np.exp(0.3 * rng.normal(size=(6, 1)))
    truth = areas(performance_ratios(speeds * np.exp(0.3 * rng.normal(size=(6, 20_000)))), 4.0)
    inside = []
    for _ in range(80):
        middle = speeds * np.exp(0.3 * rng.normal(size=(6, 6)))
        noise = random_times(rng, 6, 6, 1, 8, spread=0.2) / 30
        table = table_of(np.minimum(middle[:, :, None, None] * noise, BUDGET))
        low, high = table.confidence(num_draws=200).over_problems.T
        inside.append((low <= truth) & (truth <= high))
    # 96 to 97 % in longer simulations, with 2 % of standard error here.
    assert np.mean(inside) >= 0.88


def test_identical_optimizers_tie_for_the_first_place():
    times = np.tile(random_times(np.random.default_rng(5), 1, 3, 1, 6), (4, 1, 1, 1))
    table = table_of(times)
    np.testing.assert_allclose(table.confidence(num_draws=50).best_over_problems, 0.25)
    found = table.compare()
    assert not found.significant.any()
    assert "6 of 6 pairs have the same times" in repr(found)


def test_one_optimizer_has_nobody_to_be_compared_with():
    table = table_of(random_times(np.random.default_rng(5), 1, 3, 2, 6))
    assert "One optimizer alone" in repr(table.compare())
    np.testing.assert_array_equal(table.scores().scores, 1.0)
    np.testing.assert_array_equal(table.confidence(num_draws=10).best_over_problems, 1.0)


def test_comparisons_are_sign_flips_with_holm():
    times = random_times(np.random.default_rng(6), 3, 2, 1, 5)
    times[2] = np.minimum(2 * times[2], BUDGET)
    found = table_of(times).compare()
    logs = np.log(times[:, :, 0].reshape(3, -1))
    flips = sign_flip_p_values(np.stack([logs[0] - logs[1], logs[0] - logs[2], logs[1] - logs[2]]))
    np.testing.assert_allclose(found.p_values[np.triu_indices(3, 1)], flips, rtol=1e-9)
    np.testing.assert_allclose(found.adjusted[np.triu_indices(3, 1)], holm(flips), rtol=1e-9)
    np.testing.assert_allclose(found.ratios[0, 2], np.exp(np.mean(logs[0] - logs[2])), rtol=1e-9)
    np.testing.assert_array_equal(found.adjusted, found.adjusted.T)


def test_what_no_outcome_could_decide_is_said():
    table = table_of(random_times(np.random.default_rng(7), 12, 2, 1, 10))
    within = table.compare(problem="problem0")
    assert not within.significant.any()
    assert within.smallest_p == 2 / 1024
    assert "No pair can be told apart" in repr(within)
    assert "66 pairs" in repr(within)
    assert "12 judging seeds would do" in repr(within)
    assert "No pair" not in repr(table.compare())
    assert "12 problems would do" in repr(table.compare(over="problems"))


@pytest.mark.parametrize("num_seeds", [1, 2, 6])
@pytest.mark.parametrize("faster", [1.0, 0.5])
@pytest.mark.parametrize("num_optimizers", [2, 3])
def test_one_pair_and_one_seed_are_in_the_singular(num_optimizers, faster, num_seeds):
    times = np.full((num_optimizers, 1, 1, num_seeds), 50.0)
    times[0] *= faster
    found = table_of(times).compare(problem="problem0")
    said = repr(found) + plot_comparison(found).get_title()
    assert (
        re.findall(
            r"(?<![\d.])1 (?:pairs|judging seeds|problems)|1 of \d+ pairs? (?:have|differ) ", said
        )
        == []
    )
    number = int(found.significant.sum()) // 2
    of = "1 pair" if num_optimizers == 2 else "3 pairs"
    assert said.count(f"{number} of {of} {'differs' if number == 1 else 'differ'} ") == 2
    assert ("with 1 judging seed p >= 1," in said) == (num_seeds == 1)


def test_the_number_of_seeds_that_would_do_does():
    rng = np.random.default_rng(8)
    for num_seeds, expected in ((11, False), (12, True)):
        times = random_times(rng, 12, 1, 1, num_seeds) / np.arange(1, 13)[:, None, None, None] ** 3
        found = table_of(np.maximum(times, 1.0)).compare()
        assert found.significant.any() == expected


def test_runs_that_never_arrive_count_with_the_budget():
    times = np.array([[[[INF, INF, 50.0]]], [[[INF, 50.0, 50.0]]]])
    found = table_of(times).compare()
    np.testing.assert_allclose(found.ratios[0, 1], 2 ** (1 / 3))
    assert "differ on too few" not in repr(found)  # no outcome of 3 seeds decides anyway
    assert "No pair can be told apart" in repr(found)


def test_twelve_identical_optimizers_seldom_differ():
    rng = np.random.default_rng(9)
    found = 0
    for _ in range(200):
        found += table_of(random_times(rng, 12, 3, 1, 6)).compare().significant.any()
    # 5 % at most by Holm; 20 of 200 are 4 standard deviations of 3 above 10.
    assert found <= 20


@pytest.mark.parametrize(("choose", "low", "high"), [(None, 0.0, 0.1), (0, 0.8, 1.0)])
def test_twenty_rates_do_not_beat_one_unless_judged_where_they_were_chosen(choose, low, high):
    # 400 races of 6 problems each, against a copy with one rate
    times = random_times(np.random.default_rng(10), 2, 400 * 6, 20, 10)
    rates = np.full((2, 20), np.nan)
    rates[0], rates[1, 0] = np.geomspace(1e-3, 1, 20), 0.1
    table = table_of(times, rates)
    table.losses[1, :, 1:] = INF
    steps = table.times(choose=choose).steps
    p = sign_flip_p_values((np.log(steps[0]) - np.log(steps[1])).reshape(400, -1))
    # The standard error of 5 % of 400 is 1.1 %.
    assert low <= np.mean(p <= 0.05) <= high


def test_a_true_difference_is_found():
    rng = np.random.default_rng(11)
    speeds = np.array([1.0, 2.0, 2.0, 2.0])[:, None, None, None]
    hits = 0
    for _ in range(20):
        found = table_of(np.minimum(speeds * random_times(rng, 4, 4, 3, 12), BUDGET)).compare()
        hits += found.significant[0, 1:].all() and np.all(found.ratios[0, 1:] < 1)
    assert hits >= 18


def test_sensitivity_reports_medians_with_intervals_that_may_reach_to_never():
    times = np.array([[[[INF] * 7, [80, 80, 80, 80, INF, INF, INF], [30.0] * 7, [40.0] * 7]]])
    found = table_of(times, [[0.001, 0.01, 0.1, 1.0]]).sensitivity()
    np.testing.assert_allclose(found.times[0, 0], [INF, 80, 30, 40])
    np.testing.assert_allclose(found.time_intervals[0, 0, 1], [80, INF])
    np.testing.assert_allclose(found.widths, [[1.0]])
    assert "decades" in repr(found)
    assert "4 seeds cannot give a 95% interval" in repr(table_of(times[..., :4]).sensitivity())


def test_tuning_cost_judges_on_other_seeds_than_it_ranks():
    times = np.array([[[[10.0, 40.0], [20.0, 20.0], [30.0, 30.0]]]])
    found = table_of(times).tuning_cost()
    np.testing.assert_allclose(found.defaults, [[40.0]])
    np.testing.assert_allclose(found.steps[0, 0, 0], (40 * 20 * 30) ** (1 / 3), rtol=1e-12)
    np.testing.assert_allclose(found.steps[0, 0, 1], (40 * 40 * 20) ** (1 / 3), rtol=1e-12)
    np.testing.assert_allclose(found.steps[0, 0, 2], 40.0, rtol=1e-12)


def test_tuning_cost_ends_where_rates_end_and_knows_no_default_where_there_is_none():
    times = random_times(np.random.default_rng(12), 2, 2, 3, 4)
    rates = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, np.nan]])
    found = table_of(times, rates, default_rates=np.array([1, -1])).tuning_cost(replacement=True)
    assert np.isnan(found.steps[1, :, 2]).all()
    assert np.isfinite(found.steps[0]).all()
    assert np.isnan(found.defaults).tolist() == [[False, False], [True, True]]
    assert "No default rate is known of opt1." in repr(found)


def test_the_best_of_all_rates_is_the_one_that_is_judged():
    table = table_of(random_times(np.random.default_rng(13), 3, 4, 5, 6))
    expected = np.exp(np.log(table.times().steps).mean(axis=-1))
    np.testing.assert_allclose(table.tuning_cost().steps[..., -1], expected, rtol=1e-9)


def test_rows_hold_every_run(tmp_path):
    times = random_times(np.random.default_rng(14), 2, 2, 3, 4)
    times[0, 1, 2, 3] = INF
    rates = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, np.nan]])
    table = table_of(times, rates, optimizers=("sgd, plain", "adam"))
    table.to_csv(tmp_path / "race.csv")
    rows = pd.read_csv(tmp_path / "race.csv")
    assert len(rows) == 2 * 3 * 4 + 2 * 2 * 4
    assert set(rows.optimizer) == {"sgd, plain", "adam"}
    row = rows[(rows.optimizer == "sgd, plain") & (rows.problem == "problem1")].iloc[-1]
    assert (row.learning_rate, row.seed, row.steps_to_target) == (0.3, 3, INF)
    first = rows.iloc[0]
    np.testing.assert_allclose(first.steps_to_target, times[0, 0, 0, 0])
    np.testing.assert_allclose(first.seconds_to_target, 0.01 * times[0, 0, 0, 0])
    assert first.is_default


def test_a_missing_folder_is_made_and_a_folder_is_no_file(tmp_path):
    table, no_path = table_of(np.ones((1, 1, 1, 1)), np.array([[0.1]])), cast(Any, 3)
    table.to_csv(tmp_path / "a" / "b" / "race.csv")
    assert len(pd.read_csv(tmp_path / "a" / "b" / "race.csv")) == 1
    with pytest.raises(IsADirectoryError, match=r"RaceTable\.to_csv needs a file, got the folder"):
        table.to_csv(tmp_path)
    with pytest.raises(TypeError, match=r"RaceTable\.to_csv needs a path, got 3\."):
        table.to_csv(no_path)


RESULTS = {
    "table": lambda t: t,
    "times": lambda t: t.times(),
    "profiles": lambda t: t.profiles(),
    "scores": lambda t: t.scores("seconds", algoperf=True),
    "confidence": lambda t: t.confidence(num_draws=20),
    "compare": lambda t: t.compare(),
    "sensitivity": lambda t: t.sensitivity(),
    "tuning_cost": lambda t: t.tuning_cost(),
}


@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("shape", [(12, 6, 20, 10), (30, 9, 2, 5), (1, 1, 1, 1), (2, 1, 3, 2)])
@pytest.mark.parametrize("arrives", [0.0, 0.5, 1.0])
def test_results_are_trees_that_read_in_a_screen(name, shape, arrives):
    rng = np.random.default_rng(15)
    times = np.where(rng.uniform(size=shape) < arrives, random_times(rng, *shape), INF)
    result = RESULTS[name](table_of(times))
    text = repr(result)
    assert len(text.splitlines()) <= 25
    assert "nan" not in text
    assert type(jax.tree.map(np.asarray, result)) is type(result)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.notes = ()
