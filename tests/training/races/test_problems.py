"""The six small problems are what they say, and can be learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.optimizers import adam
from jaxopt_tut.training import problems, race

SIX = problems.toy_six()
BY_NAME = {problem.name: problem for problem in SIX}


def test_they_have_the_names_of_their_functions():
    assert list(BY_NAME) == [
        "noisy_quadratic", "logistic_regression", "relu_network", "deep_tanh_network",
        "autoencoder", "recurrent_network",
    ]  # fmt: skip
    assert set(BY_NAME) <= set(problems.__all__)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("noisy_quadratic", 20),
        ("logistic_regression", 500),
        ("relu_network", 2986),
        ("deep_tanh_network", 2330),
        ("autoencoder", 3769),
        ("recurrent_network", 1018),
    ],
)
def test_they_have_as_many_parameters_as_documented(name, count):
    params = jax.eval_shape(BY_NAME[name].init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


def test_the_loss_of_the_quadratic_has_the_curvatures_that_it_says():
    problem = problems.noisy_quadratic(5, condition=16.0)
    hessian = jax.hessian(problem.loss)(jnp.ones(5), problem.validation)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(hessian), [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0], rtol=1e-5
    )
    assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.01


def test_the_minimum_of_the_quadratic_moves_by_the_noise():
    problem = problems.noisy_quadratic(4, noise=3.0, batch_size=5000)
    centres = np.asarray(problem.data(jax.random.key(0)))
    # four standard errors: of a mean 3 / sqrt(n), of a deviation 3 / sqrt(2 n)
    np.testing.assert_allclose(centres.mean(axis=0), 0.0, atol=4 * 3 / np.sqrt(5000))
    np.testing.assert_allclose(centres.std(axis=0), 3.0, atol=4 * 3 / np.sqrt(2 * 5000))
    assert float(problem.loss(jnp.zeros(4), problem.validation)) == 0.0


def test_images_are_means_over_squares_with_mean_zero_and_variance_one():
    images, labels = BY_NAME["relu_network"].data
    raw = np.asarray(load_fashion_mnist_mini().train.images[7], np.float64)
    ends = range(0, 28, 4)
    squares = np.array([[raw[i : i + 4, j : j + 4].mean() for j in ends] for i in ends])
    slope, offset = np.polyfit(squares.ravel(), images[7], 1)
    np.testing.assert_allclose(slope * squares.ravel() + offset, images[7], atol=1e-5)
    np.testing.assert_allclose([images.mean(), images.std()], [0.0, 1.0], atol=1e-5)
    assert images.shape == (6000, 49)
    assert labels.shape == (6000,)


def test_the_recurrent_network_reads_rows_in_their_order():
    problem = problems.recurrent_network(3)
    params = problem.init(jax.random.key(1))
    images, labels = (leaf[:5] for leaf in problem.validation)
    state = np.zeros((5, 3))
    rows = np.asarray(images, np.float64).reshape(5, 7, 7)
    w = {name: np.asarray(value, np.float64) for name, value in params.items()}
    for t in range(7):
        state = np.tanh(rows[:, t] @ w["input"] + state @ w["hidden"] + w["bias"])
    logits = state @ w["output"] + w["output_bias"]
    log_odds = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -log_odds[np.arange(5), labels].mean()
    np.testing.assert_allclose(problem.loss(params, (images, labels)), expected, rtol=1e-5)


@pytest.mark.slow
def test_adam_learns_each_of_them():
    table = race(
        {"adam": adam}, SIX, learning_rates=[3e-3, 3e-2], seeds=2, steps=100,
        key=jax.random.key(0), progress=False, time_steps=False,
    )  # fmt: skip
    first, last = table.losses[..., 0], table.losses[..., -1]
    assert np.all(last.min(axis=2) < 0.7 * first.max(axis=2))


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (
            lambda: problems.noisy_quadratic(0),
            ValueError,
            "noisy_quadratic needs size >= 1, got size=0.",
        ),
        (
            lambda: problems.noisy_quadratic(condition=0),
            ValueError,
            "needs a finite condition > 0, got condition=0.",
        ),
        (
            lambda: problems.noisy_quadratic(noise=-1.0),
            ValueError,
            "needs a finite noise > 0, got noise=-1.0.",
        ),
        (
            lambda: problems.relu_network((8, 0)),
            ValueError,
            r"relu_network needs hidden\[1\] >= 1, got hidden\[1\]=0.",
        ),
        (
            lambda: problems.deep_tanh_network(0),
            ValueError,
            "deep_tanh_network needs depth >= 1, got depth=0.",
        ),
        (
            lambda: problems.autoencoder((2.5,)),
            TypeError,
            r"autoencoder needs an integer hidden\[0\], got hidden\[0\]=2.5.",
        ),
        (
            lambda: problems.recurrent_network(batch_size=0),
            ValueError,
            "recurrent_network needs batch_size >= 1, got batch_size=0.",
        ),
        (
            lambda: problems.logistic_regression(0),
            ValueError,
            "logistic_regression needs batch_size >= 1, got batch_size=0.",
        ),
    ],
)
def test_a_size_that_is_none_is_refused(make, kind, sentence):
    with pytest.raises(kind, match=sentence):
        make()
