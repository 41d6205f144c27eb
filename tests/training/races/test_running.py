"""A race is every run that a loop would make, and says at once what it cannot run."""

import dataclasses
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.training import Problem, race
from jaxopt_tut.training.races.entries import check_rates
from jaxopt_tut.training.races.problem import check_problem
from jaxopt_tut.training.races.running import finite_so_far

KEY = jax.random.key(3)
RATES = [0.01, 0.1, 0.3]
rng = np.random.default_rng(0)
X = rng.normal(size=(10, 3)).astype(np.float32)
DATA = (X, X @ np.array([1.0, -2.0, 0.5], np.float32))


def squares(w, batch):
    return jnp.mean((batch[0] @ w - batch[1]) ** 2)


def start(key):
    return jax.random.normal(key, (3,))


REGRESSION = Problem("regression", start, squares, DATA, batch_size=4, target=0.5)
CENTRE = Problem(
    "centre",
    lambda key: {"w": jax.random.normal(key, (2,))},
    lambda params, batch: (jnp.sum((params["w"] - batch) ** 2), "more"),
    lambda key: 0.1 * jax.random.normal(key, (2,)),
    validation=jnp.zeros((1, 2)),
)


def run(entrants=None, problems: Any = REGRESSION, **options: Any):
    entrants = {"momentum": optimizers.momentum} if entrants is None else entrants
    options = {
        "learning_rates": RATES, "seeds": 2, "steps": 6, "key": KEY, "evaluate_every": 2,
        "time_steps": False, "progress": False,
    } | options  # fmt: skip
    return race(entrants, problems, **options)


def same_bits(a, b):
    np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def by_hand(rate, seed):
    """Train with momentum in double precision, from the same draws: epochs of 2 batches of 4."""
    own = jax.random.fold_in(jax.random.fold_in(KEY, crc32(b"regression")), seed)
    start_key, shuffle_key = jax.random.split(own)
    w, average = np.asarray(start(start_key), np.float64), np.zeros(3)
    x, y = np.asarray(DATA[0], np.float64), np.asarray(DATA[1], np.float64)
    judged, trained = [], []
    for epoch in range(3):
        order = jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), 10)
        for at in (order[:4], order[4:8]):
            residual = x[at] @ w - y[at]
            trained.append(np.mean(residual**2))
            average = 0.9 * average + 0.1 * (2 / 4) * x[at].T @ residual
            w = w - rate * average
        judged.append(np.mean((x @ w - y) ** 2))
    return judged, np.reshape(trained, (3, 2)).mean(axis=1)


def test_every_run_is_that_of_a_loop():
    table = run()
    assert table.losses.shape == table.training_losses.shape == (1, 1, 3, 2, 3)
    assert table.steps.tolist() == [2, 4, 6]
    for r, rate in enumerate(RATES):
        for seed in range(2):
            judged, trained = by_hand(rate, seed)
            # six steps of a dozen roundings each, of numbers that are squared
            np.testing.assert_allclose(table.losses[0, 0, r, seed], judged, rtol=1e-5)
            np.testing.assert_allclose(table.training_losses[0, 0, r, seed], trained, rtol=1e-5)


def test_the_same_key_gives_the_same_bits_and_another_one_others():
    first, again, other = run(), run(), run(key=jax.random.key(4))
    same_bits(first.losses, again.losses)
    assert np.all(first.losses != other.losses)


def test_more_seeds_optimizers_or_problems_repeat_the_bits_of_the_others():
    small = run()
    entrants = {"adam": optimizers.adam, "momentum": optimizers.momentum}
    large = run(entrants, [CENTRE, REGRESSION], seeds=3)
    same_bits(small.losses[0, 0], large.losses[1, 1, :, :2])
    chosen = run(seeds=[2, 0])
    same_bits(large.losses[1, 1][:, [2, 0]], chosen.losses[0, 0])


def test_seeds_may_train_beside_one_another():
    alone, together = run(seeds=3), run(seeds=3, seeds_at_once=2)
    np.testing.assert_allclose(alone.losses, together.losses, rtol=1e-5)


def test_all_start_at_the_same_place_on_the_same_batches():
    """At a rate of next to nothing all optimizers see the losses of the start."""
    entrants = {"sgd": optax.sgd, "adam": optimizers.adam}
    table = run(entrants, learning_rates=[1e-12, 2e-12])
    same_bits(table.training_losses[0], table.training_losses[1])
    assert len(np.unique(table.training_losses[0, 0, 0])) == 6


def test_a_run_that_diverges_stays_in_its_lane():
    table = run({"sgd": optax.sgd}, learning_rates=[0.1, 1e30])
    assert np.all(np.isinf(table.losses[0, 0, 1]))
    assert np.all(np.isinf(table.training_losses[0, 0, 1]))
    same_bits(
        table.losses[0, 0, 0], run({"sgd": optax.sgd}, learning_rates=[0.1, 0.2]).losses[0, 0, 0]
    )


def test_what_diverged_once_does_not_come_back():
    judged = np.array([3.0, 2.0, 1.0, 0.5]), np.array([3.0, np.inf, 1.0, 0.5])
    trained = np.array([3.0, 2.0, np.nan, 1.0]), np.array([4.0, 3.0, 2.0, 1.0])
    both = finite_so_far((np.stack(judged), np.stack(trained)))
    np.testing.assert_array_equal(both[0], [[3, 2, np.inf, np.inf], [3] + [np.inf] * 3])
    np.testing.assert_array_equal(both[1], [[3, 2, np.inf, np.inf], [4] + [np.inf] * 3])


def test_optimizers_may_have_rates_of_their_own_and_defaults():
    rates = {"sgd": [0.3, 0.1], "adam": [0.01, 0.1, 0.03]}
    table = run(
        {"sgd": optax.sgd, "adam": optimizers.adam},
        learning_rates=rates,
        default_rates={"sgd": 0.2},
    )
    np.testing.assert_array_equal(table.learning_rates, [[0.1, 0.2, 0.3], [0.01, 0.03, 0.1]])
    assert table.default_rates.tolist() == [1, -1]
    table = run(
        {"sgd": optax.sgd, "adam": optimizers.adam},
        learning_rates={"sgd": 0.1 * np.ones(1), "adam": RATES},
    )
    assert np.isnan(table.learning_rates[0, 1:]).all()
    assert np.isinf(table.losses[0, 0, 1:]).all()
    assert np.isfinite(table.losses[0, 0, 0]).all()


@pytest.mark.parametrize("single", [np.array([0.1, 0.3], "f4"), jnp.array([0.3, 0.1]), [0.1, 0.3]])
@pytest.mark.parametrize("default", [0.1, np.float32(0.1), jnp.float32(0.1), 0.1 + 1e-12])
def test_a_default_is_found_among_the_rates_that_are_raced(single, default):
    field = check_rates(["sgd", "adam"], single, {"sgd": default})
    assert field.rates.shape == (2, 2)
    assert field.defaults.tolist() == [0, -1]
    np.testing.assert_array_equal(field.rates[0], np.sort(np.asarray(single, np.float64)))


def test_optimizers_that_ask_for_the_loss_get_it():
    entrants = {
        "Polyak": lambda rate: optax.polyak_sgd(max_learning_rate=rate),
        "search": lambda rate: optax.chain(
            optax.scale(-rate), optax.scale_by_backtracking_linesearch(5)
        ),
        "schedule": lambda rate: optax.sgd(optax.cosine_decay_schedule(rate, 6)),
        "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate)),
    }  # fmt: skip
    with jax.numpy_dtype_promotion("standard"):  # optax's schedules ask for it
        table = run(entrants, learning_rates=[0.1], seeds=1)
    assert np.all(np.diff(table.losses[:, 0, 0, 0, ::2], axis=-1) < 0)


def test_a_loss_may_return_more_and_batches_may_be_drawn():
    table = run(problems=CENTRE, steps=20, evaluate_every=20, learning_rates=[1.0])
    assert np.all(table.losses < 0.1)
    assert table.losses.shape[-1] == 1


def test_a_data_set_trains_on_one_part_and_is_judged_on_the_other():
    images = np.zeros((6, 28, 28), np.uint8)
    train, test = Split(images, np.full(6, 3)), Split(images, np.full(6, 5))
    loss = lambda w, batch: jnp.mean((w - batch.labels.astype(float)) ** 2) + 0 * batch.images.sum()
    data = Dataset(train, test, 0.0, 1.0)
    problem = Problem("means", lambda _: jnp.array(0.0), loss, data, validation=data, batch_size=2)
    table = run({"sgd": optax.sgd}, problem, learning_rates=[0.5], seeds=1)
    np.testing.assert_allclose(table.losses.ravel(), [4.0, 4.0, 4.0])
    np.testing.assert_allclose(table.training_losses.ravel(), [4.5, 0.0, 0.0])


def test_runs_are_judged_by_what_the_problem_names():
    wrong = lambda w, batch: jnp.mean(jnp.abs(batch[0] @ w - batch[1]) > 1e-3)
    problem = dataclasses.replace(REGRESSION, evaluate=wrong)
    table = run(problems=problem)
    assert set(np.unique(table.losses * 10) % 1) == {0.0}
    same_bits(table.training_losses, run().training_losses)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64])
def test_parameters_of_any_precision_race(dtype, x64):
    del x64
    problem = Problem(
        "parabola", lambda key: 9 + jax.random.normal(key, (2,), dtype),
        lambda w, batch: jnp.sum((w - batch.astype(dtype)) ** 2), jnp.zeros((4, 2)), batch_size=1,
    )  # fmt: skip
    table = run({"adam": optimizers.adam}, problem, learning_rates=[0.1])
    assert np.all(np.diff(table.losses) < 0)
    assert table.losses.dtype == np.float32


def test_a_step_is_timed_alone():
    table = run(time_steps=True)
    assert table.seconds_per_step.shape == (1, 1)
    assert 0 < table.seconds_per_step[0, 0] < 0.1
    assert np.isnan(run().seconds_per_step).all()


def test_targets_are_the_problem_s_or_those_of_the_reference():
    without = dataclasses.replace(REGRESSION, target=None)
    entrants = {"sgd": optax.sgd, "adam": optimizers.adam}
    assert run(entrants).targets.tolist() == [0.5]
    table = run(entrants, without, reference="sgd")
    # 3/4 of three evaluations are two
    reached = np.median(table.losses[0, 0, :, :, :2].min(axis=-1), axis=-1).min()
    assert table.targets.tolist() == [reached]


def test_progress_says_which_race_is_over(monkeypatch):
    from jaxopt_tut.training.races import running

    seen = []

    class Line:
        def __init__(self, num_epochs, *, enabled, unit):
            seen.append((num_epochs, enabled, unit))

        def show(self, epoch, metrics):
            seen.append((epoch, *metrics))

        def close(self):
            seen.append("end")

    monkeypatch.setattr(running, "ProgressLine", Line)
    run({"sgd": optax.sgd, "adam": optimizers.adam}, progress=True)
    wanted = [(1, "sgd on regression"), (2, "adam on regression"), "end"]
    assert seen == [(2, True, "race"), *wanted]


def traced_by_value(rate):
    return optax.sgd(rate if rate > 0 else 0.1)


NAMED = "race needs {} in problem 'regression', got {}."
BAD = {
    "no dictionary": (
        [optax.sgd],
        {},
        TypeError,
        "race needs a dictionary of optimizers by name, got list.",
    ),
    "no optimizer": ({}, {}, ValueError, "race needs one optimizer at least, got none."),
    "no name": ({1: optax.sgd}, {}, TypeError, "race needs a str as name of an optimizer, got 1."),
    "an optimizer, made": (
        {"sgd": optax.sgd(0.1)},
        {},
        TypeError,
        "race needs a function from the learning rate to an optimizer as 'sgd', got an optimizer: "
        "lambda rate: ... makes one.",
    ),
    "no function": ({"sgd": 0.1}, {}, TypeError, "as 'sgd', got 0.1: lambda rate"),
    "a function of something else": (
        {"sgd": lambda rate: rate},
        {},
        TypeError,
        r"race \('sgd'\) needs an optax transformation as optimizer",
    ),
    "a function of nothing": (
        {"sgd": lambda: optax.sgd(0.1)},
        {},
        TypeError,
        r"race calls optimizers\['sgd'\]\(learning_rate\), got one of \(\): too many",
    ),
    "a function of two": (
        {"sgd": lambda rate, decay: optax.sgd(rate, decay)},
        {},
        TypeError,
        r"race calls optimizers\['sgd'\]\(learning_rate\), got one of \(rate, decay\): missing",
    ),
    "a function that calls another wrongly": (
        {"sgd": lambda rate: optax.sgd(rate, **{"bad": 1})},
        {},
        TypeError,
        r"race needs optimizers\['sgd'\] to make an optimizer of a learning rate, which fails: "
        "sgd\\(\\) got an unexpected keyword argument 'bad'.",
    ),
    "a function with a bad value": (
        {"m": lambda rate: optimizers.momentum(rate, decay=2.0)},
        {},
        ValueError,
        r"race needs optimizers\['m'\] to make .* which fails: momentum needs .*decay=2.0.$",
    ),
    "asks for the rate": (
        {"a": traced_by_value},
        {},
        TypeError,
        "race trains all rates of 'a' in one program, in which the learning rate is traced, "
        "and its factory asks for the value",
    ),
    "no problem": (
        None,
        {"problems": []},
        ValueError,
        "race needs one problem at least, got none.",
    ),
    "another thing": (
        None,
        {"problems": [squares]},
        TypeError,
        "race needs problems of class Problem, got function.",
    ),
    "one name twice": (
        None,
        {"problems": [REGRESSION, REGRESSION]},
        ValueError,
        "race needs a name of its own for each problem, got 'regression' twice.",
    ),
    "rate of zero": (
        None,
        {"learning_rates": [0.0, 0.1]},
        ValueError,
        r"race \('momentum'\) needs a finite learning_rate > 0, got learning_rate=0.0.",
    ),
    "negative rate": (None, {"learning_rates": [-1.0]}, ValueError, "got learning_rate=-1.0."),
    "rate of nan": (None, {"learning_rates": [np.nan]}, ValueError, "got learning_rate=nan."),
    "one rate": (
        None,
        {"learning_rates": 0.1},
        ValueError,
        r"race needs a sequence of learning rates, got shape \(\) for 'momentum'.",
    ),
    "no rates": (None, {"learning_rates": []}, ValueError, r"got shape \(0,\)"),
    "a rate twice": (
        None,
        {"learning_rates": [0.1, 0.1]},
        ValueError,
        r"race needs learning rates that differ in float32, got \[0.1, 0.1\] for 'momentum'.",
    ),
    "a rate twice in float32": (
        None,
        {"learning_rates": [0.1, 0.1 + 1e-12]},
        ValueError,
        r"that differ in float32, got \[0.1, 0.10000000000100001\] for 'momentum'.",
    ),
    "a rate that float32 rounds to zero": (
        None,
        {"learning_rates": [1e-60, 0.1]},
        ValueError,
        r"race \('momentum'\) needs a learning_rate within the range of float32, "
        "got learning_rate=1e-60.",
    ),
    "a default that is infinite in float32": (
        None,
        {"default_rates": {"momentum": 1e60}},
        ValueError,
        r"within the range of float32, got learning_rate=1e\+60.",
    ),
    "rates of a stranger": (
        None,
        {"learning_rates": {"momentum": RATES, "sgd": RATES}},
        ValueError,
        r"race needs learning_rates of \['momentum'\], got one of 'sgd'.",
    ),
    "rates of nobody": (
        None,
        {"learning_rates": {}},
        ValueError,
        r"race needs learning_rates of every optimizer, got none of \['momentum'\].",
    ),
    "default of a stranger": (
        None,
        {"default_rates": {"sgd": 0.1}},
        ValueError,
        r"race needs default_rates of \['momentum'\], got one of 'sgd'.",
    ),
    "bad default": (None, {"default_rates": {"momentum": 0}}, ValueError, "got learning_rate=0.0."),
    "a rate that is no number": (
        None,
        {"learning_rates": ["fast"]},
        TypeError,
        "race needs numbers as learning rates, got .*fast.* for 'momentum'.",
    ),
    "no seeds": (None, {"seeds": 0}, ValueError, "race needs seeds >= 1, got seeds=0."),
    "empty seeds": (None, {"seeds": []}, ValueError, "race needs seeds >= 0 that differ"),
    "a seed twice": (
        None,
        {"seeds": [1, 1]},
        ValueError,
        r"race needs seeds >= 0 that differ, got seeds=\[1, 1\].",
    ),
    "half a seed": (None, {"seeds": 2.5}, TypeError, "race needs an integer seeds, got seeds=2.5."),
    "no steps": (None, {"steps": 0}, ValueError, "race needs steps >= 1, got steps=0."),
    "steps left over": (
        None,
        {"steps": 5},
        ValueError,
        "race needs a number of steps that evaluate_every divides, got steps=5, evaluate_every=2.",
    ),
    "no evaluations": (
        None,
        {"evaluate_every": 0},
        ValueError,
        "race needs evaluate_every >= 1, got evaluate_every=0.",
    ),
    "no key": (None, {"key": 0}, TypeError, "race needs one key of jax.random.key, got 0."),
    "no seeds at once": (
        None,
        {"seeds_at_once": 0},
        ValueError,
        "race needs seeds_at_once >= 1, got seeds_at_once=0.",
    ),
    "unknown reference": (
        None,
        {"reference": "sgd"},
        ValueError,
        r"race needs a reference of \['momentum'\], got 'sgd'.",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_run_is_refused_in_a_sentence(case):
    entrants, options, kind, sentence = BAD[case]
    with pytest.raises(kind, match=sentence):
        run(entrants, **options)


PROBLEMS = {
    "no name": ({"name": 3}, TypeError, "race needs a str as name of a problem, got 3."),
    "no start": (
        {"init": jnp.zeros(3)},
        TypeError,
        NAMED.format("a function as init", "ArrayImpl"),
    ),
    "no loss": ({"loss": None}, TypeError, NAMED.format("a function as loss", "NoneType")),
    "no judge": ({"evaluate": 3}, TypeError, NAMED.format("a function as evaluate", "int")),
    "target of nan": (
        {"target": np.nan},
        ValueError,
        NAMED.format("a target that is a number", "target=nan"),
    ),
    "target as text": (
        {"target": "1"},
        TypeError,
        NAMED.format("a target that is a number", "target='1'"),
    ),
    "target of truth": ({"target": True}, TypeError, "a target that is a number"),
    "two targets": ({"target": np.ones(2)}, TypeError, "a target that is a number"),
    "start without a key": (
        {"init": lambda: jnp.zeros(3)},
        TypeError,
        r"race \(problem 'regression'\) calls init\(key\), got one of \(\): too many",
    ),
    "a loss that draws": (
        {"loss": lambda w, batch, key: squares(w, batch) + jax.random.normal(key)},
        TypeError,
        r"race \(problem 'regression'\) calls loss\(params, batch\), got one of "
        r"\(w, batch, key\): missing a required argument: 'key'.",
    ),
    "judged with a key": (
        {"evaluate": lambda w, batch, key: squares(w, batch) + key},
        TypeError,
        r"calls evaluate\(params, batch\), got one of \(w, batch, key\)",
    ),
    "batches without a key": (
        {"data": lambda: DATA, "validation": DATA},
        TypeError,
        r"race \(problem 'regression'\) calls data\(key\), got one of \(\)",
    ),
    "a loss of other shapes": (
        {"loss": lambda w, batch: jnp.sum(w * batch[1])},
        TypeError,
        r"race \(problem 'regression'\) needs loss\(params, batch\) to be traced, which fails: "
        r"mul got incompatible shapes for broadcasting: \(3,\), \(4,\).$",
    ),
    "a start that asks for values": (
        {"init": lambda key: jnp.zeros(3) if jax.random.normal(key) > 0 else jnp.ones(3)},
        TypeError,
        r"race \(problem 'regression'\) needs init\(key\) to be traced, which fails: Attempted",
    ),
    "nothing to judge on": (
        {"data": start},
        ValueError,
        NAMED.format("validation, for its data are drawn", "validation=None"),
    ),
    "large batches": (
        {"batch_size": 11},
        ValueError,
        NAMED.format(r"1 <= batch_size <= number of examples \(10\)", "batch_size=11"),
    ),
    "no batches": ({"batch_size": 0}, ValueError, "batch_size=0"),
    "half a batch": (
        {"batch_size": 2.5},
        TypeError,
        "race needs an integer batch_size, got batch_size=2.5.",
    ),
    "data of two lengths": (
        {"data": (X, X[1:])},
        ValueError,
        r"race \(problem 'regression'\) needs arrays with a common first axis, got \(10,\) at "
        r"'0' and \(9,\) at '1'.",
    ),
    "no data": (
        {"data": ()},
        ValueError,
        r"race \(problem 'regression'\) needs a dataset with at least one array",
    ),
    "whole parameters": (
        {"init": lambda _: jnp.arange(3)},
        TypeError,
        r"race \(problem 'regression'\) needs floating or complex parameters, got int32",
    ),
    "a loss an example": (
        {"loss": lambda w, batch: batch[0] @ w},
        ValueError,
        r"race \(problem 'regression'\) needs a loss that is a real scalar, alone or first of "
        r"a pair, got float32\[4\].",
    ),
    "judged an example": (
        {"evaluate": lambda w, batch: batch[0] @ w},
        ValueError,
        r"got float32\[10\].",
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_that_cannot_be_run_is_refused_by_its_name(case):
    changes, kind, sentence = PROBLEMS[case]
    with pytest.raises(kind, match=sentence):
        run(problems=dataclasses.replace(REGRESSION, **changes))


def test_what_a_function_of_the_problem_raised_is_kept():
    problem = dataclasses.replace(REGRESSION, loss=lambda w, batch: jnp.sum(w * batch[1]))
    with pytest.raises(TypeError) as caught:
        run(problems=problem)
    assert "incompatible shapes" in str(caught.value.__cause__)
    problem = dataclasses.replace(REGRESSION, loss=lambda w, batch: w @ {"x": batch}["y"])
    with pytest.raises(KeyError) as caught:
        run(problems=problem)
    assert "race (problem 'regression') needs loss(params, batch)" in caught.value.__notes__[-1]


@pytest.mark.parametrize("target", [1, 0.5, np.float32(0.5), jnp.float32(0.5), np.inf])
def test_a_target_may_be_any_number(target):
    check_problem(dataclasses.replace(REGRESSION, target=target))


def test_faults_come_up_before_anything_runs():
    def broken(_):
        def update(*_):
            raise RuntimeError("as it says")

        return optax.GradientTransformation(lambda _: (), update)

    entrants = {"momentum": optimizers.momentum, "broken": broken}
    ran = []
    judge = lambda w, batch: jax.debug.callback(lambda: ran.append(1)) or squares(w, batch)
    watched = dataclasses.replace(REGRESSION, evaluate=judge)
    with pytest.raises(RuntimeError, match="as it says"):
        run(entrants, watched)
    assert not ran
