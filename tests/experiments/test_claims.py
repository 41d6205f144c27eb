"""Every experiment's check accepts a result as it should be, and each claim can fail."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from experiments import _catalog
from experiments.initialization import activation_gains as gains
from experiments.initialization import constant_initialization as constant
from experiments.initialization import data_statistics as statistics
from experiments.initialization import deep_tanh as tanh
from experiments.initialization import initializer_variance as variance
from experiments.optimization import bad_initialization as bad
from experiments.optimization import flat_and_sharp as wells
from experiments.optimization import optimizer_comparison as comparison
from experiments.optimization import ravine, steep_optima


def around(mean, num_runs=12, scatter=0.01, seed=0):
    """Return runs that scatter around a mean by a relative amount."""
    noise = np.random.default_rng(seed).standard_normal((num_runs, *np.shape(mean)))
    return np.asarray(mean) * (1 + scatter * noise)


def data_statistics():
    good = statistics.Result(
        data="mini",
        mean=0.2861,
        std=0.3530,
        standard_error=0.0016,
        batch_means=np.array([0.01, -0.01]),
        batch_stds=np.array([1.01, 0.99]),
        smallest=-0.8105,
        largest=2.0224,
        rarest=0.1,
        pixel_stds=np.array([[0.001, 1.1]]),
        examples=np.zeros((10, 28, 28)),
        values={},
    )
    yield good
    yield good._replace(mean=0.3, std=0.37, smallest=-1.0, largest=1.0, rarest=0.09)
    yield good._replace(batch_means=np.full(2, 0.04), batch_stds=np.full(2, 1.04))
    yield good._replace(pixel_stds=np.ones((28, 28)))


def constant_initialization():
    rng = np.random.default_rng(0)
    shapes = list(pairwise(constant.SIZES))
    sums = np.cumprod([1.0, *(0.005 * width for width in constant.SIZES[1:-1])])
    base = rng.standard_normal(64)
    copies = [
        np.tile(rng.standard_normal((784, 1)), 512),
        *(np.full(shape, 1e-12) for shape in shapes[1:-1]),
        np.tile(np.arange(1.0, 11.0), (128, 1)),
    ]
    yield constant.Result([], [base * scale for scale in sums], copies)
    loose = [rng.standard_normal(shape) for shape in shapes]
    yield constant.Result([], [base for _ in sums], loose)
    yield constant.Result([], [base for _ in sums], [np.ones(shape) for shape in shapes])


def initializer_variance():
    images = np.ones((2, 784))
    good = {}
    for i, (name, case) in enumerate(variance.CASES.items()):
        predicted = variance.predict(case, images)
        # Forty runs: the distance in standard errors then has no heavy tails any more.
        moments = around(np.full(5, 0.34) if predicted is None else predicted, 40, seed=i)
        good[name] = variance.Statistics(moments, moments, moments, predicted, {})
    ones = np.ones((40, 5))
    for cases in (
        good,
        {n: case._replace(second_moments=1.1 * case.second_moments) for n, case in good.items()},
        {n: case._replace(variances=ones) for n, case in good.items()},
    ):
        yield variance.Result(cases, ())


def deep_tanh():
    layers = np.arange(50)
    predicted = {
        tanh.XAVIER: 1 / (1 + 2 * layers),
        tanh.GAIN: np.ones(50),
        tanh.EDGE: np.full(50, 0.57),
    }
    chi = {tanh.GAIN: 1.178, tanh.EDGE: 1.0}
    growth = chi | {tanh.XAVIER: 0.9}
    good = tanh.Result(
        variances={name: around(values) for name, values in predicted.items()},
        gradients={name: around(factor ** layers[::-1]) for name, factor in growth.items()},
        predicted=predicted,
        q_star=0.57,
        chi=chi,
        width=256,
    )
    yield good
    # What the tutorial says: a variance that settles at .25.
    yield good._replace(variances=good.variances | {tanh.XAVIER: around(np.full(50, 0.25))})
    yield good._replace(variances={n: 1.5 * values for n, values in good.variances.items()})
    yield good._replace(
        gradients={n: around((1.03 * growth[n]) ** layers[::-1]) for n in good.gradients}
    )


def activation_gains():
    slopes = dict.fromkeys(gains.ACTIVATIONS, 0.5) | {"GELU": 1.14, "SiLU": 1.17, "Mish": 1.08}
    rng = np.random.default_rng(0)
    noise = {name: rng.standard_normal((20, 50)) for name in slopes}
    scatter = {name: 3.0 if slope > 1 else 0.1 for name, slope in slopes.items()}
    scatter = {name: np.append([0, 0.1], np.full(48, value)) for name, value in scatter.items()}
    halved = 0.5 ** np.arange(gains.SHORT)
    good = gains.Result(
        with_gain={name: np.exp(scatter[name] * noise[name]) for name in slopes},
        without={name: halved * np.exp(0.1 * noise[name][:, : gains.SHORT]) for name in slopes},
        predicted_without=dict.fromkeys(slopes, halved),
        slope=slopes,
        predicted_scatter=scatter,
    )
    yield good
    yield good._replace(with_gain={n: 2 * runs for n, runs in good.with_gain.items()})
    yield good._replace(without={n: 2 * runs for n, runs in good.without.items()})
    yield good._replace(with_gain={n: runs**3 for n, runs in good.with_gain.items()})
    yield good._replace(with_gain={n: runs**0.2 for n, runs in good.with_gain.items()})


def optimizer_comparison(data="mini"):
    def result(test, first, last):
        def curves(gap=0.0):
            return {n: np.array([[first[n], last - gap]]) for n in first}

        return comparison.Result(
            data, 1000, {n: np.array([v]) for n, v in test.items()}, curves(), curves(0.1), curves()
        )

    test = {"SGD": 0.885, "momentum": 0.884, "Adam": 0.889}
    first = {"SGD": 0.56, "momentum": 0.58, "Adam": 0.65}
    yield result(test, first, 0.98)
    yield result({n: v + 0.05 for n, v in test.items()}, first, 0.98)
    yield result(test | {"Adam": 0.84}, first, 0.98)
    yield result(test, {"SGD": 0.7, "momentum": 0.68, "Adam": 0.65}, 0.89)


def optimizer_comparison_full():
    yield from optimizer_comparison("full")


def bad_initialization():
    lost, found = np.full(3, 0.1), np.full(3, 0.75)
    test = {name: {"SGD": lost, "momentum": lost, "Adam": found} for name in bad.INITIALIZERS}
    yield bad.Result(1000, test, {})
    swapped = {"SGD": found, "momentum": found, "Adam": lost}
    yield bad.Result(1000, {name: swapped for name in test}, {})


def ravine_result():
    rates = np.array([0.1, 0.3, 1, 3, 5, 10, 20, 100])

    def runs(arrives):
        return np.tile(np.where(np.isin(rates, arrives), 0.01, 1.0)[:, None], 5)

    tail = {"SGD": runs([]), "momentum": runs([5, 10]), "Adam": runs([0.1, 0.3, 1, 3])}
    good = ravine.Result(rates, tail, tail | {"SGD": runs([1])}, {})
    yield good
    yield good._replace(tail={n: 1.01 - t for n, t in tail.items()}, long_tail=tail)
    everywhere = runs(rates)
    yield good._replace(tail=dict.fromkeys(tail, everywhere))
    yield good._replace(tail=dict.fromkeys(tail, runs([1, 3])))


def steep_result():
    rates = np.array([0.1, 0.2, 0.5, 1.0])
    zero, one = np.zeros((4, 5)), np.ones((4, 5))
    good = steep_optima.Result(
        rates,
        {"SGD": zero, "momentum": zero, "Adam": one},
        {"SGD": zero, "momentum": one, "Adam": one},
        {"momentum": np.array([[0.0, 0.0], [3.0, 6.0]])},
        {"SGD": 0.98, "momentum": 0.6, "Adam": 1.0},
        {"SGD": 1e-10},
    )
    yield good
    yield good._replace(
        depth={"SGD": one, "momentum": one, "Adam": zero},
        long_depth=good.depth,
        paths={"momentum": np.zeros((2, 2))},
        deepest=dict.fromkeys(good.deepest, 0.1),
        later_deepest={"SGD": 0.9},
    )


def wells_result():
    rates = np.geomspace(1e-3, 1, 16)
    good = wells.Result(
        train_loss=np.array([0.0, -1e-3]),
        test_loss=np.array([0.0477, 0.886]),
        curvature=np.array([1.56, 69.4]),
        learning_rates=rates,
        settled={},
        final_test={"SGD": np.where(rates < 0.029, 0.47, 0.28)[:, None]},
    )
    limits = wells.limits(good)
    good = good._replace(
        settled={n: np.tile((rates < limit)[:, None], 4) for n, limit in limits.items()}
    )
    yield good
    yield good._replace(
        train_loss=np.array([0.0, 0.1]),
        test_loss=good.test_loss[::-1],
        settled={n: ~settled for n, settled in good.settled.items()},
        final_test={"SGD": np.full((16, 1), 0.47)},
    )


RESULTS = {
    "activation_gains": (gains, activation_gains),
    "bad_initialization": (bad, bad_initialization),
    "constant_initialization": (constant, constant_initialization),
    "data_statistics": (statistics, data_statistics),
    "deep_tanh": (tanh, deep_tanh),
    "flat_and_sharp": (wells, wells_result),
    "initializer_variance": (variance, initializer_variance),
    "optimizer_comparison": (comparison, optimizer_comparison),
    "optimizer_comparison, full": (comparison, optimizer_comparison_full),
    "ravine": (ravine, ravine_result),
    "steep_optima": (steep_optima, steep_result),
}


def test_every_experiment_is_falsified_here_or_in_a_test_of_its_own():
    here = {name.split(",")[0] for name in RESULTS}
    elsewhere = {
        file.stem.removeprefix("test_") for file in Path(__file__).parent.glob("test_*.py")
    }
    assert set(_catalog.find()) <= here | elsewhere


@pytest.mark.parametrize("name", RESULTS)
def test_every_claim_holds_on_a_good_result_and_can_fail(name):
    module, results = RESULTS[name]
    good, *falsified = results()
    assert [claim.text for claim in module.check(good) if not claim.holds] == []
    failed = {
        claim.text for result in falsified for claim in module.check(result) if not claim.holds
    }
    assert {claim.text for claim in module.check(good)} == failed
