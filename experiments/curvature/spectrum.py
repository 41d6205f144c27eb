"""Nine in ten eigenvalues of a trained network's Hessian are under a hundredth of the largest.

Question: What are the eigenvalues of a network's Hessian, when the matrix is too large to write
down?

Claim: of a ReLU network on the bundled images, averaged to 7 by 7 pixels, the density of all
eigenvalues that eight random vectors and the ten outliers give is that of the dense matrix: its
95 % intervals cover, its distance from the true spectrum is a ten-thousandth of the range. The
blocks of single layers are those of the Gauss-Newton matrix, for between two kinks the outputs are
affine in the weights of one layer; between layers they are not, and with tanh not within, either.

Why: Step sizes hang on the few large ones, conditioning on the many small. Products with a few
vectors give the density of all, here checked against the dense matrix.

Source: beyond the tutorials; Ghorbani, Krishnan, Xiao (2019); Botev, Ritter, Barber (2017).
Section: beyond B1.
Command: python -m experiments spectrum
Expected: coverage .97, distance 7e-5 of the range, outliers to 1e-9; layer blocks of ReLU equal to
the last bit, of tanh off by .3 of the largest entry.
Time: 12 s, nearly all of it compiling; with --whole, 2298 parameters and 50 keys, minutes.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.curvature import Density, gauss_newton, hessian, spectral_density
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_density, plot_eigenvalues

ACTIVATIONS = ("ReLU", "tanh")


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    sizes: tuple[int, ...] = (49, 10, 8, 10)
    num_images: int = 200
    num_steps: int = 300
    num_keys: int = 3

    def quick(self) -> "Config":
        return dataclasses.replace(self, sizes=(49, 4, 4, 10), num_steps=50, num_keys=2)

    def whole(self) -> "Config":
        return dataclasses.replace(self, sizes=(49, 32, 16, 10), num_images=1000, num_keys=50)


class Result(NamedTuple):
    """Of the trained ReLU network, but for the last two."""

    eigenvalues: np.ndarray
    """All of them, ascending, by a dense solver."""
    density: Density
    """Of one key."""
    coverage: np.ndarray
    """Share of the points at which the interval covers the true density, shape (keys,)."""
    distances: np.ndarray
    """Between the estimated and the true spectrum, in units of its range, shape (keys,)."""
    outlier_errors: np.ndarray
    """Of the values that were taken out, relative, shape (keys,)."""
    by_layer: dict[str, np.ndarray]
    """The first eigenvalues of the blocks."""
    block_differences: dict[str, dict[str, float]]
    """Largest entry of Hessian less Gauss-Newton over that of the Hessian, by layer."""
    whole_difference: dict[str, float]
    """The same of the whole matrices."""


def outputs(params, batch):
    """Apply a network, of ReLU or tanh as the batch says, so that both have the same programs."""
    h, _, is_relu = batch
    activation = lambda h: jnp.where(is_relu, jax.nn.relu(h), jnp.tanh(h))
    for i, layer in enumerate(params):
        h = h @ layer["kernel"] + layer["bias"]
        h = activation(h) if i < len(params) - 1 else h
    return h


def cross_entropy(logits, batch):
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def loss_fn(params, batch):
    return cross_entropy(outputs(params, batch), batch)


@partial(jax.jit, static_argnums=2)
def train(params, batch, num_steps):
    """Descend with heavy-ball momentum on all images."""

    def step(carry, _):
        params, velocity = carry
        gradient = jax.grad(loss_fn)(params, batch)
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.03 * g, velocity, gradient)
        return (jax.tree.map(jnp.add, params, velocity), velocity), None

    start = params, jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(step, start, None, num_steps)[0][0]


def true_density(points, eigenvalues, width):
    away = (points[:, None] - eigenvalues) / width
    return np.exp(-(away**2) / 2).mean(axis=1) / (width * np.sqrt(2 * np.pi))


def wasserstein(eigenvalues, nodes, weights):
    """Return the area between two distribution functions."""
    places = np.sort(np.concatenate([eigenvalues, nodes]))
    order = np.argsort(nodes)
    masses = np.concatenate([[0.0], np.cumsum(weights[order])])
    ours = masses[np.searchsorted(nodes[order], places[:-1], side="right")] / masses[-1]
    right = np.searchsorted(eigenvalues, places[:-1], side="right") / len(eigenvalues)
    return float(np.sum(np.abs(ours - right) * np.diff(places)))


def differences(name, config, batch):
    """Return the Hessian of a trained network, and where Gauss-Newton differs from it."""
    batch = (*batch, jnp.asarray(name == "ReLU"))
    start = mlp.init(jax.random.key(0), config.sizes, dtype=jnp.float64)
    params = train(start, batch, config.num_steps)
    curvature = hessian(loss_fn, params, batch)
    other = gauss_newton(outputs, cross_entropy, params, batch)
    matrices = [np.asarray(op.to_dense()) for op in (curvature, other)]
    apart = lambda a, b: float(np.abs(a - b).max() / np.abs(a).max())
    by_layer = {
        layer: apart(*(matrix[where, where] for matrix in matrices))
        for layer, where in places(params).items()
    }
    return curvature, matrices[0], by_layer, apart(*matrices)


def places(params):
    """Return where the parameters of each layer lie in a flat vector."""
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(layer)) for layer in params]
    ends = np.cumsum([0, *sizes])
    return {f"layer {i + 1}": slice(ends[i], ends[i + 1]) for i in range(len(sizes))}


def run(config: Config) -> Result:
    images, labels = load_coarse("mini", 4)
    images, labels = np.asarray(images), np.asarray(labels)
    with jax.enable_x64(True):
        batch = (
            jnp.asarray(images[: config.num_images], jnp.float64),
            jnp.asarray(labels[: config.num_images]),
        )
        of = {name: differences(name, config, batch) for name in ACTIVATIONS}
        curvature, dense = of["ReLU"][:2]
        eigenvalues = np.linalg.eigvalsh((dense + dense.T) / 2)
        keys = jax.random.split(jax.random.key(1), config.num_keys)
        found = [spectral_density(curvature, key) for key in keys]
        coverage, distances, errors = [], [], []
        moduli = np.sort(np.abs(eigenvalues))[::-1]
        for density in found:
            true = true_density(np.asarray(density.grid), eigenvalues, float(density.width))
            low, high = map(np.asarray, density.interval(0.95))
            is_there = true > 1e-6 * true.max()  # elsewhere there is nothing to be covered
            coverage.append(np.mean(((low <= true) & (true <= high))[is_there]))
            nodes, weights = np.ravel(density.nodes), np.ravel(density.weights)
            distances.append(wasserstein(eigenvalues, nodes, weights) / np.ptp(eigenvalues))
            assert density.outliers is not None  # `deflate` is positive
            outliers = np.abs(np.asarray(density.outliers.values))
            errors.append(np.max(np.abs(outliers / moduli[: len(outliers)] - 1)))
        by_layer = {
            layer: np.linalg.eigvalsh(dense[where, where])[::-1][:10]
            for layer, where in places(curvature.like).items()
        }
        return Result(
            eigenvalues,
            jax.device_get(found[0]),
            np.array(coverage),
            np.array(distances),
            np.array(errors),
            by_layer,
            {name: parts[2] for name, parts in of.items()},
            {name: parts[3] for name, parts in of.items()},
        )


def check(result: Result) -> list[Claim]:
    moduli = np.abs(result.eigenvalues)
    near_zero = np.mean(moduli < 0.01 * moduli.max())
    relu, tanh = (result.block_differences[name] for name in ACTIVATIONS)
    return [
        at_least("share of eigenvalues below 1 % of the largest", near_zero, 0.9, headline=True),
        # Student's intervals of eight skewed samples cover a little less than they say
        at_least("share of points that 95 % intervals cover", result.coverage.mean(), 0.88),
        at_most("distance from the true spectrum over its range", result.distances.mean(), 1.5e-4),
        # the square of the tolerance of 1e-4 over gaps and values of some hundredths of the norm
        at_most("outliers: relative error", result.outlier_errors.max(), 1e-4),
        # sums of some hundred products in float64
        at_most("ReLU: layer blocks, Hessian less Gauss-Newton", max(relu.values()), 1e-12),
        # after training residuals are small, and so is what the Gauss-Newton matrix leaves out
        at_least(
            "ReLU: whole matrices, Hessian less Gauss-Newton", result.whole_difference["ReLU"], 1e-4
        ),
        # the last layer is linear in its weights whatever is before it
        at_least("tanh: layer blocks, Hessian less Gauss-Newton", max(tanh.values()), 1e-2),
    ]


def plot(result: Result):
    density = new_figure(7.5, 4.6)
    plot_density(
        result.density,
        exact=result.eigenvalues,
        xlabel="eigenvalue of the Hessian",
        title=f"Of {result.density.size} eigenvalues nearly all are near zero",
        ax=density.subplots(),
    )
    layers = new_figure(6.4, 4.4)
    plot_eigenvalues(
        result.by_layer,
        yscale="log",
        ylabel="eigenvalue of the layer's block",
        title="Largest eigenvalues by layer",
        ax=layers.subplots(),
    )
    return {"density": density, "layers": layers}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
