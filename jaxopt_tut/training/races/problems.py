"""Six small problems to race on, each as quick to train as a problem of its kind can be.

Those with images take the 6 000 of Fashion-MNIST that come with the package, averaged over squares
of 4 by 4 pixels: 49 numbers of mean 0 and variance 1 each. They are judged on 250 test images.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.initializers import (
    constant,
    equal_variance,
    kaiming_normal,
    orthogonal,
    xavier_uniform,
)
from jaxopt_tut.models import mlp
from jaxopt_tut.training.races.problem import Problem
from jaxopt_tut.training.scalars import as_count
from jaxopt_tut.types import Activation, Batch, Initializer, Params, PRNGKey, Scalar

__all__ = [
    "autoencoder",
    "deep_tanh_network",
    "logistic_regression",
    "noisy_quadratic",
    "recurrent_network",
    "relu_network",
    "toy_six",
]

SIDE, CLASSES, JUDGED = 7, 10, 250
Examples = tuple[Float[np.ndarray, "_ pixels"], Int[np.ndarray, " _"]]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


def toy_six() -> tuple[Problem, ...]:
    """Return six kinds of problems, small enough for thousands of runs in minutes.

    A quadratic with noise, logistic regression, a network with ReLU, a deep one with tanh, an
    autoencoder and a recurrent network: convex and not, with and without noise at the optimum,
    narrow and deep. Six problems say something about these six: how little they say about others,
    the intervals over problems of a race show.

    Returns:
      The six, each as its function in this module makes it.

    Example:
      >>> [problem.name for problem in toy_six()][:3]
      ['noisy_quadratic', 'logistic_regression', 'relu_network']
    """
    return (
        noisy_quadratic(),
        logistic_regression(),
        relu_network(),
        deep_tanh_network(),
        autoencoder(),
        recurrent_network(),
    )


def noisy_quadratic(
    size: int = 20, *, condition: float = 100.0, noise: float = 1.0, batch_size: int = 8
) -> Problem:
    r"""Return a quadratic whose minimum is somewhere else in every example.

    $$f(w) = \tfrac12 \mathbb{E}_c\, (w - c)^\top B\, \mathrm{diag}(h)\, B\, (w - c), \qquad
    c \sim N(0, \sigma^2 I), \qquad w_0 \sim N(0, I)$$

    with curvatures $h$ from 1 down to 1 over the condition number, evenly in their logarithm, in
    the directions of the reflection $B = I - \tfrac2n \mathbf 1 \mathbf 1^\top$, which are no
    coordinates. Judged by $f$ without its constant, the noise at the minimum.

    Args:
      size: The number of parameters.
      condition: Largest over smallest curvature.
      noise: The standard deviation $\sigma$ of an example's minimum.
      batch_size: The examples in a batch.

    Returns:
      The problem; its batches are drawn.

    Raises:
      TypeError: If a count is no integer.
      ValueError: If `size` or `batch_size` is below 1, or the condition or the noise not positive.

    Example:
      The curvature that all ones feel is the mean over the eigenvalues, whatever the reflection:

      >>> problem = noisy_quadratic(2, condition=4.0)
      >>> print(problem.loss(jnp.ones(2), problem.validation))
      0.625
      >>> print(2 * 0.625, "=", (1 + 1 / 4) / 2 * 2)
      1.25 = 1.25
    """
    _require_counts("noisy_quadratic", size=size, batch_size=batch_size)
    require_positive("noisy_quadratic", finite=True, condition=condition, noise=noise)
    curvatures = np.logspace(0, -np.log10(condition), size)
    basis = np.eye(size) - 2 / size
    root = jnp.asarray(np.sqrt(curvatures)[:, None] * basis, jnp.float32)

    def loss(params: Array, centres: Float[Array, "batch size"]) -> Scalar:
        return jnp.mean(jnp.sum(((params - centres) @ root.T) ** 2, axis=-1)) / 2

    return Problem(
        "noisy_quadratic",
        init=lambda key: jax.random.normal(key, (size,)),
        loss=loss,
        data=lambda key: noise * jax.random.normal(key, (batch_size, size)),
        validation=jnp.zeros((1, size)),
        batch_size=batch_size,
    )


def logistic_regression(batch_size: int = 32) -> Problem:
    """Return logistic regression of images in ten classes, from weights of zero: convex.

    Args:
      batch_size: The examples in a batch.

    Returns:
      The problem, of 500 parameters, judged by the cross-entropy of test images in nats.

    Raises:
      TypeError: If `batch_size` is no integer.
      ValueError: If it is below 1.

    Example:
      All classes are as probable at the start:

      >>> problem = logistic_regression()
      >>> params = problem.init(jax.random.key(0))
      >>> print(f"{problem.loss(params, problem.validation):.4f} = log 10 = {np.log(10):.4f}")
      2.3026 = log 10 = 2.3026
    """
    zeros = constant(0.0)
    return _classifier("logistic_regression", (), jax.nn.relu, zeros, zeros, batch_size)


def relu_network(hidden: Sequence[int] = (32, 32), *, batch_size: int = 32) -> Problem:
    """Return a fully connected network with ReLU that tells ten classes of images apart.

    Args:
      hidden: Widths of the hidden layers.
      batch_size: The examples in a batch.

    Returns:
      The problem, of 2986 parameters by default, drawn as Kaiming has it.

    Raises:
      TypeError: If `batch_size` is no integer.
      ValueError: If it or a width is below 1.

    Example:
      >>> params = relu_network((8,)).init(jax.random.key(0))
      >>> [layer["kernel"].shape for layer in params]
      [(49, 8), (8, 10)]
    """
    init = kaiming_normal()
    return _classifier("relu_network", hidden, jax.nn.relu, equal_variance(), init, batch_size)


def deep_tanh_network(depth: int = 6, width: int = 16, *, batch_size: int = 32) -> Problem:
    """Return a narrow network with many layers of tanh that tells ten classes of images apart.

    Args:
      depth: The number of hidden layers.
      width: Of each.
      batch_size: The examples in a batch.

    Returns:
      The problem, of 2330 parameters by default, drawn as Xavier has it.

    Raises:
      TypeError: If a count is no integer.
      ValueError: If one is below 1.

    Example:
      >>> len(deep_tanh_network().init(jax.random.key(0)))
      7
    """
    _require_counts("deep_tanh_network", depth=depth, width=width)
    init = xavier_uniform()
    return _classifier("deep_tanh_network", (width,) * depth, jnp.tanh, init, init, batch_size)


def autoencoder(hidden: Sequence[int] = (32, 8, 32), *, batch_size: int = 32) -> Problem:
    """Return an autoencoder of images with tanh.

    Args:
      hidden: Widths of the hidden layers.
      batch_size: The examples in a batch.

    Returns:
      The problem, of 3769 parameters by default, judged by the mean squared error of test images,
      whose pixels have a variance of about 1.

    Raises:
      TypeError: If `batch_size` is no integer.
      ValueError: If it or a width is below 1.

    Example:
      >>> params = autoencoder().init(jax.random.key(0))
      >>> [layer["bias"].size for layer in params]
      [32, 8, 32, 49]
    """
    _require_counts("autoencoder", batch_size=batch_size, **_widths(hidden))
    train, test = _images()
    sizes = (SIDE**2, *hidden, SIDE**2)

    def loss(params: Params, images: Float[Array, "batch pixels"]) -> Scalar:
        return jnp.mean((mlp.apply(params, images, jnp.tanh) - images) ** 2)

    return Problem(
        "autoencoder",
        init=lambda key: mlp.init(key, sizes, kernel_init=xavier_uniform()),
        loss=loss,
        data=train[0],
        validation=test[0],
        batch_size=batch_size,
    )


def recurrent_network(width: int = 24, *, batch_size: int = 32) -> Problem:
    r"""Return a recurrent network that reads an image row by row and names its class.

    $$h_t = \tanh(x_t U + h_{t-1} V + b), \qquad \text{logits} = h_7 W + c$$

    Args:
      width: Of the hidden state.
      batch_size: The examples in a batch.

    Returns:
      The problem, of 1018 parameters by default; $V$ starts orthogonal.

    Raises:
      TypeError: If a count is no integer.
      ValueError: If one is below 1.

    Example:
      >>> params = recurrent_network(4).init(jax.random.key(0))
      >>> print(jnp.abs(params["hidden"] @ params["hidden"].T - jnp.eye(4)).max() < 1e-6)
      True
    """
    _require_counts("recurrent_network", width=width, batch_size=batch_size)
    train, test = _images()

    def init(key: PRNGKey) -> dict[str, Array]:
        keys = jax.random.split(key, 3)
        return {
            "input": xavier_uniform()(keys[0], (SIDE, width)),
            "hidden": orthogonal()(keys[1], (width, width)),
            "bias": jnp.zeros(width),
            "output": xavier_uniform()(keys[2], (width, CLASSES)),
            "output_bias": jnp.zeros(CLASSES),
        }

    def loss(params: Params, batch: Batch) -> Scalar:
        images, labels = batch
        rows = images.reshape(-1, SIDE, SIDE)
        state = jnp.zeros((len(rows), width), images.dtype)
        for t in range(SIDE):  # written out: a loop takes as long to compile, and longer to run
            inputs = rows[:, t] @ params["input"] + params["bias"]
            state = jnp.tanh(inputs + state @ params["hidden"])
        return _cross_entropy(state @ params["output"] + params["output_bias"], labels)

    return Problem("recurrent_network", init, loss, train, validation=test, batch_size=batch_size)


def _classifier(
    name: str,
    hidden: Sequence[int],
    activation: Activation,
    first: Initializer,
    others: Initializer,
    batch_size: int,
) -> Problem:
    _require_counts(name, batch_size=batch_size, **_widths(hidden))
    train, test = _images()
    sizes = (SIDE**2, *hidden, CLASSES)

    def loss(params: Params, batch: Batch) -> Scalar:
        return _cross_entropy(mlp.apply(params, batch[0], activation), batch[1])

    return Problem(
        name,
        init=lambda key: mlp.init(key, sizes, first_kernel_init=first, kernel_init=others),
        loss=loss,
        data=train,
        validation=test,
        batch_size=batch_size,
    )


def _cross_entropy(logits: Float[Array, "batch classes"], labels: ArrayLike) -> Scalar:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


@cache
def _images() -> tuple[Examples, Examples]:
    """Return coarse images as rows, and labels: those to train on, those that judge."""
    dataset = load_fashion_mnist_mini()
    block = 28 // SIDE

    def coarse(images: Any) -> Float[np.ndarray, "examples pixels"]:
        squares = np.asarray(images, np.float32).reshape(-1, SIDE, block, SIDE, block)
        return squares.mean(axis=(2, 4)).reshape(-1, SIDE**2)

    train, test = coarse(dataset.train.images), coarse(dataset.test.images[:JUDGED])
    mean, std = train.mean(), train.std()
    labels, judging = np.asarray(dataset.train.labels), np.asarray(dataset.test.labels[:JUDGED])
    return ((train - mean) / std, labels), ((test - mean) / std, judging)


def _widths(hidden: Sequence[int]) -> dict[str, int]:
    return {f"hidden[{k}]": width for k, width in enumerate(hidden)}


def _require_counts(caller: str, **counts: int) -> None:
    for name, value in counts.items():
        if as_count(caller, name, value) < 1:
            raise ValueError(f"{caller} needs {name} >= 1, got {name}={value}.")
