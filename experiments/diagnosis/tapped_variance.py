"""From a loss alone taps read the second moments of theory, both ways, to 4 standard errors.

Question: Can variances of signals and gradients be had from a network that returns only its loss?

Claim: `taps.record_gradients` reads every pre-activation and its cotangent inside a loss that
returns nothing but a number. They are those that the network returns when it is asked to. Their
second moments are the ones of theory: in the tutorial's network forwards
q_l = d_in Var[w] q_(l-1), backwards p_l = d_out Var[w] p_(l+1) from the layer above, each halved
behind a ReLU, so that N(0, 1/d_in) holds the signal, N(0, 1/d_out) would hold the gradient, and
Xavier is between the two. And in 50 tanh layers inside a `scan`, whose steps are read one by one:
behind Xavier the variance falls like 1 / (2 l), on the edge of chaos signal and gradient stay.

Why: The tutorial's pictures need networks written for them. Taps give the same numbers for any
model, layer by layer, also inside a `scan`.

Source: UvA tutorial 4, initialization; Schoenholz et al. (2017).
Section: A3.
Command: python -m experiments tapped_variance [--data full]
Expected: theory within 4 standard errors in all layers, both ways; Xavier and tanh .027 at layer
20, not the .25 of the tutorial.
Time: 25 s.
"""

import dataclasses
import sys
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from experiments.initialization import deep_tanh, initializer_variance
from jaxopt_tut import datasets, taps
from jaxopt_tut.datasets import normalize
from jaxopt_tut.initializers import critical, equal_variance, normal, variance_scaling
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_profile

SIZES = mlp.FASHION_MNIST_SIZES
CASES = {n: c for n, c in initializer_variance.CASES.items() if c.variance is not None}
XAVIER, EDGE = deep_tanh.XAVIER, deep_tanh.EDGE


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_seeds: int | None = None
    """By default 40 on the full images, 12 on the bundled ones."""
    batch_size: int | None = None
    """By default 1024 of the full images, 128 of the bundled ones."""
    depth: int = 50
    """Of the tanh network, which sees 64 images."""
    width: int = 256

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=8, batch_size=64, depth=25, width=128)


class Moments(NamedTuple):
    """Second moments of every layer, shape (seeds, layers), and what theory says, (layers,)."""

    signals: np.ndarray
    """Of the pre-activations."""
    gradients: np.ndarray
    """Of their cotangents, over that of the network's output."""
    predicted_signals: np.ndarray
    predicted_gradients: np.ndarray


class Result(NamedTuple):
    """Both networks."""

    cases: dict[str, Moments]
    deep: dict[str, Moments]
    difference: float
    """Tapped against returned pre-activations, largest over the root mean square of their layer."""
    width: int
    """Of the tanh network."""


def read(loss_fn, params, *args):
    """Return the second moments of all pre-activations and of their cotangents, by layer."""
    only = lambda site: site.kind == "pre_activation"
    _, _, values, cotangents = taps.record_gradients(loss_fn, only)(params, *args)
    means = []
    for tape in (values, cotangents):
        # Behind the steps of a scan come the axes of examples and of units.
        steps = [jnp.mean(jnp.square(value), axis=(-2, -1)).ravel() for value in tape.values()]
        means.append(jnp.concatenate(steps))
    signals, gradients = means
    return signals, gradients / gradients[-1]


def draw(key, stds):
    """Draw normal weights of one standard deviation a layer, all at once: it compiles faster."""
    shapes = list(pairwise(SIZES))
    ends = np.cumsum([i * o for i, o in shapes])
    parts = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
    return tuple(
        {"kernel": std * part.reshape(shape), "bias": jnp.zeros(shape[1])}
        for part, shape, std in zip(parts, shapes, stds, strict=True)
    )


@jax.jit
def measure(keys, images, stds, slope):
    """Read the tutorial's network; the identity and ReLU are leaky ReLUs of slopes 1 and 0."""
    return jax.vmap(lambda key: _read_mlp(key, images, stds, slope))(keys)


def _read_mlp(key, images, stds, slope):
    init_key, cotangent_key = jax.random.split(key)
    params = draw(init_key, stds)
    cotangent = jax.random.normal(cotangent_key, (len(images), SIZES[-1]))

    def loss_fn(params):
        logits = mlp.apply(params, images, lambda z: jax.nn.leaky_relu(z, slope))
        return jnp.vdot(logits, cotangent)  # sends back what does not depend on the weights

    return read(loss_fn, params)


@partial(jax.jit, static_argnames=("depth", "width"))
def measure_deep(keys, images, weight_variance, bias_variance, depth, width):
    """Read a deep tanh network whose layers are the steps of a scan."""
    point = weight_variance, bias_variance
    return jax.vmap(lambda key: _read_deep(key, images, *point, depth, width))(keys)


def _read_deep(key, images, weight_variance, bias_variance, depth, width):
    first_key, weight_key, bias_key, cotangent_key = jax.random.split(key, 4)
    stack = variance_scaling(weight_variance, batch_axis=0)
    params = {
        "first": equal_variance()(first_key, (images.shape[1], width)),
        "stack": stack(weight_key, (depth - 1, width, width)),
        "bias": normal(jnp.sqrt(bias_variance))(bias_key, (depth - 1, width)),
    }
    cotangent = jax.random.normal(cotangent_key, (len(images), width))

    def layer(z, weights):
        kernel, bias = weights
        return jnp.tanh(z) @ kernel + bias, None

    def loss_fn(params):
        first = images @ params["first"]
        return jnp.vdot(jax.lax.scan(layer, first, (params["stack"], params["bias"]))[0], cotangent)

    return read(loss_fn, params)


def predict_gradients(case: initializer_variance.Case) -> np.ndarray:
    """Multiply out p_l = d_out Var[w] p_(l+1), halved behind a ReLU, from the output down."""
    assert case.variance is not None
    kept = 0.5 if case.activation is jax.nn.relu else 1.0
    factors = [kept * o * case.variance(i, o) for i, o in pairwise(SIZES)]
    return np.cumprod([1.0, *factors[:0:-1]])[::-1]


def predict_deep_gradients(images, weight_variance, bias_variance, depth) -> np.ndarray:
    """Multiply out p_l = Var[w] d_in E[tanh'^2] p_(l+1) for each image, and average."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights /= weights.sum()
    q, factors = np.mean(np.square(images, dtype=np.float64), axis=1), []
    for _ in range(depth - 1):
        hidden = np.tanh(np.sqrt(q)[:, None] * nodes)
        factors.append(weight_variance * np.square(1 - hidden**2) @ weights)
        q = weight_variance * np.square(hidden) @ weights + bias_variance
    return np.append(np.cumprod(factors[::-1], axis=0)[::-1].mean(axis=1), 1.0)


def difference(key, images) -> float:
    """Compare tapped pre-activations with those that `mlp.apply` returns on request."""
    params = draw(key, [fan_in**-0.5 for fan_in in SIZES[:-1]])
    tape = jax.jit(taps.record(lambda params, images: mlp.apply(params, images)))(params, images)[1]
    asked = jax.jit(partial(mlp.apply, return_pre_activations=True))
    returned = asked(params, images)[1]
    worst = [
        jnp.max(jnp.abs(tape[f"{i}/kernel"] - values)) / jnp.sqrt(jnp.mean(jnp.square(values)))
        for i, values in enumerate(returned)
    ]
    return float(max(worst))


def run(config: Config) -> Result:
    is_full = config.data == "full"
    dataset = datasets.load(config.data)
    batch_size = config.batch_size or (1024 if is_full else 128)
    images = normalize(dataset.train.images[:batch_size], dataset.mean, dataset.std)
    images = jnp.asarray(images).reshape(batch_size, -1)
    num_seeds = config.num_seeds or (40 if is_full else 12)
    case_key, deep_key, key = jax.random.split(jax.random.key(0), 3)
    cases, deep = {}, {}
    for k, (name, case) in enumerate(CASES.items()):
        assert case.variance is not None
        stds = jnp.array([case.variance(i, o) ** 0.5 for i, o in pairwise(SIZES)])
        slope = 0.0 if case.activation is jax.nn.relu else 1.0
        keys = jax.random.split(jax.random.fold_in(case_key, k), num_seeds)
        found, sent = jax.device_get(measure(keys, images, stds, slope))
        signals = initializer_variance.predict(case, images)
        assert signals is not None
        cases[name] = Moments(found, sent, signals, predict_gradients(case))
    edge = critical(jnp.tanh, deep_tanh.BIAS_VARIANCE)
    points = {
        XAVIER: (1.0, 0.0),
        EDGE: (float(edge.weight_variance), deep_tanh.BIAS_VARIANCE),
    }
    few = images[:64]
    for k, (name, point) in enumerate(points.items()):
        keys = jax.random.split(jax.random.fold_in(deep_key, k), num_seeds)
        found, sent = jax.device_get(measure_deep(keys, few, *point, config.depth, config.width))
        signals = np.asarray(deep_tanh.predict(few, *point, config.depth))
        deep[name] = Moments(
            found, sent, signals, predict_deep_gradients(few, *point, config.depth)
        )
    return Result(cases, deep, difference(key, images[:16]), config.width)


def scatter(case: initializer_variance.Case) -> tuple[np.ndarray, np.ndarray]:
    """Bound the relative standard deviations of one network's moments, forwards and backwards.

    A mean of n squared Gaussians adds 2 / n to the relative variance, of squared ReLUs 5 / n. That
    is the scatter for one example; a mean over examples scatters less.
    """
    k = 5 if case.activation is jax.nn.relu else 2
    hidden, last = 1 + k / np.array(SIZES[1:-1]), 1 + 2 / np.array(SIZES[1:])
    up = np.cumprod([1.0, *hidden]) * last
    down = np.append(np.cumprod(hidden[::-1])[::-1], 1.0)
    return np.sqrt(up - 1), np.sqrt(down - 1)


def distance(runs: np.ndarray, predicted: np.ndarray, relative: np.ndarray) -> float:
    """Return how far the mean over seeds is from theory, in standard errors; the worst layer."""
    error = relative * predicted / np.sqrt(len(runs))
    off = np.abs(runs.mean(axis=0) - predicted)
    random = error > 0  # the cotangent of the output is 1 by definition
    return float(np.max(off[random] / error[random]))


def check(result: Result) -> list[Claim]:
    # A sum of 784 terms in single precision is off by at most 784 eps of its terms' sizes.
    eps = np.finfo(np.float32).eps
    claims = [
        at_most("tapped against returned values, relative", result.difference, 784 * float(eps))
    ]
    distances = []
    for name, case in result.cases.items():
        up, down = scatter(CASES[name])
        for side, runs, theory, relative in (
            ("signals", case.signals, case.predicted_signals, up),
            ("gradients", case.gradients, case.predicted_gradients, down),
        ):
            text = f"{name}: {side} from theory, in standard errors (worst layer)"
            distances.append(distance(runs, theory, relative))
            claims.append(at_most(text, distances[-1], 4.0))
    text = "tapped second moments from theory, in standard errors, worst of all starts"
    claims.append(at_most(text, max(distances), 4.0, headline=True))
    for name, case in result.deep.items():
        num_seeds, depth = case.signals.shape
        error = case.signals.std(axis=0, ddof=1) / np.sqrt(num_seeds)
        # Finite width biases layer l by a relative l / width, to leading order.
        bias = np.arange(1, depth + 1) / result.width * case.predicted_signals
        worst = np.abs(case.signals.mean(axis=0) - case.predicted_signals) / (4 * error + bias)
        text = f"{name}, {depth} layers: error of the theory over the error allowed"
        claims.append(at_most(text, worst.max(), 1.0))
        logs = np.log(case.gradients[:, 0]) / (1 - depth)  # sizes multiply
        expected = np.exp(np.log(case.predicted_gradients[0]) / (1 - depth))
        # Width n biases a layer's logarithm by half the relative variance of a mean square, 3 / n.
        slack = 4 * logs.std(ddof=1) / np.sqrt(num_seeds) + 3 / result.width
        text = f"{name}, {depth} layers: growth of the gradient a layer, from input to output"
        claims.append(equal(text, np.exp(logs.mean()), expected, slack))
    return [
        *claims,
        at_most(
            f"{XAVIER} and tanh: second moment at layer 20",
            result.deep[XAVIER].signals[:, 19].mean(),
            0.1,
            original="it says that the variance settles near .25; it decays like 1 / (2 layer)",
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 8.4)
    panels = figure.subplots(2, 2)
    deep = f"tanh, {len(result.deep[EDGE].predicted_signals)} layers in a scan"
    for row, (title, cases) in enumerate(
        (("the tutorial's network", result.cases), (deep, result.deep))
    ):
        for column, (label, runs, theory) in enumerate(
            (
                ("second moment of the pre-activations", "signals", "predicted_signals"),
                (
                    "second moment of the cotangents\nover that of the output",
                    "gradients",
                    "predicted_gradients",
                ),
            )
        ):
            plot_profile(
                {name: getattr(case, runs) for name, case in cases.items()},
                predicted={name: getattr(case, theory) for name, case in cases.items()},
                ylabel=label,
                title=f"{'Signals' if column == 0 else 'Gradients'} as theory has them: {title}",
                ax=panels[row, column],
            )
    return {"profiles": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
