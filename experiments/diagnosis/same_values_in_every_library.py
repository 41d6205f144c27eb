"""A network in nnx, linen, equinox and plain JAX has the same values in all layers, to rounding.

Question: Can the values inside a model be read without editing it, whatever library it is written
in?

Claim: with the same weights, `taps` finds the same layers in the same order in all four, with the
same roles, and the values and the cotangents at matching layers are equal up to rounding. The model
is not edited in any library; sites are named after the parameters, whatever the library calls them.

Why: Pictures of signals and gradients need values that a model does not return. If reading them
needed other code for each library, nobody could compare two.

Source: beyond the tutorials; requests for a way to read values inside a model: equinox#864,
flax#4058, jax#5159. Rounding: a layer of fan-in k adds at most k eps times |h| |W| (Higham 2002,
eq. 3.5), and a network passes on what came before with its norms.
Section: beyond A3.
Command: python -m experiments same_values_in_every_library
Expected: five layers each, and compiled no difference at all.
Time: 5 s.
"""

import dataclasses
import sys
from itertools import pairwise
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import taps
from jaxopt_tut.models import MLP, mlp
from jaxopt_tut.plotting import new_figure, plot_profile

SIZES = (32, 64, 64, 10)
PLAIN = "plain JAX"


class LinenMLP(linen.Module):
    """The network in linen."""

    @linen.compact
    def __call__(self, inputs):
        for size in SIZES[1:-1]:
            inputs = jnp.tanh(linen.Dense(size)(inputs))
        return linen.Dense(SIZES[-1])(inputs)


class EquinoxMLP(eqx.Module):
    """The network in equinox, for one example."""

    layers: list

    def __init__(self, key):
        """Draw layers, to be overwritten."""
        keys = jax.random.split(key, len(SIZES) - 1)
        self.layers = [
            eqx.nn.Linear(*pair, key=k) for pair, k in zip(pairwise(SIZES), keys, strict=True)
        ]

    def __call__(self, inputs):
        for layer in self.layers[:-1]:
            inputs = jnp.tanh(layer(inputs))
        return self.layers[-1](inputs)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    batch_size: int = 128
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, batch_size=16)


class Result(NamedTuple):
    """For each library, lists with one entry a layer; axes are (batch, units)."""

    names: dict[str, list[str]]
    kinds: dict[str, list[str]]
    values: dict[str, list[np.ndarray]]
    cotangents: dict[str, list[np.ndarray]]
    losses: dict[str, float]


def networks(seed: int) -> dict[str, tuple]:
    """Return `(apply, params)` for each library, all with the same weights."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape) / np.sqrt(shape[0]), jnp.float32)
    weights = tuple({"kernel": draw(*pair), "bias": draw(pair[1])} for pair in pairwise(SIZES))
    plain = lambda params, x: mlp.apply(params, x, jnp.tanh)

    # Only the structure of the modules is wanted, so nothing is drawn.
    empty = nnx.eval_shape(lambda: MLP(SIZES, activation=jnp.tanh, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(empty)
    state = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(weights))

    module = LinenMLP()
    variables = {"params": {f"Dense_{i}": dict(layer) for i, layer in enumerate(weights)}}

    empty = eqx.filter_eval_shape(EquinoxMLP, jax.random.key(0))
    parts = lambda m: [part for layer in m.layers for part in (layer.weight, layer.bias)]
    own = [part for layer in weights for part in (layer["kernel"].T, layer["bias"])]
    model = eqx.tree_at(parts, empty, own)
    return {
        PLAIN: (plain, weights),
        "nnx": (lambda state, x: nnx.merge(graphdef, state)(x), state),
        "linen": (module.apply, variables),
        "equinox": (lambda model, x: jax.vmap(model)(x), model),
    }


def run(config: Config) -> Result:
    rng = np.random.default_rng(config.seed + 1)
    draw = lambda size: rng.standard_normal((config.batch_size, size)).astype(np.float32)
    inputs, targets = draw(SIZES[0]), draw(SIZES[-1])
    result = Result({}, {}, {}, {}, {})
    for name, (apply, params) in networks(config.seed).items():

        def loss_fn(params, inputs, targets, apply=apply):
            return jnp.mean(jnp.square(apply(params, inputs) - targets))

        loss, _, values, cotangents = jax.jit(taps.record_gradients(loss_fn))(
            params, inputs, targets
        )
        sites = {site.name: site for site in taps.sites(loss_fn, params, inputs, targets)}
        to_batch_first = lambda n, v: np.moveaxis(np.asarray(v), sites[n].unit_axes, (-1,))  # noqa: B023
        result.names[name] = list(values)
        result.kinds[name] = [sites[n].kind for n in values]
        result.values[name] = [to_batch_first(n, v) for n, v in values.items()]
        result.cotangents[name] = [to_batch_first(n, v) for n, v in cotangents.items()]
        result.losses[name] = float(loss)
    return result


def differences(arrays: dict[str, list[np.ndarray]], name: str) -> np.ndarray:
    """Return each layer's largest difference from plain JAX over its largest value, in eps."""
    pairs = zip(arrays[name], arrays[PLAIN], strict=True)
    relative = [np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in pairs]
    return np.array(relative) / np.finfo(np.float32).eps


def check(result: Result) -> list[Claim]:
    claims = [equal("layers found in plain JAX", len(result.kinds[PLAIN]), 2 * len(SIZES) - 3, 0)]
    # Sums of at most 64 products in each layer, and as many roundings in another order.
    rounding, largest = sum(SIZES[:-1]), []
    for name in result.kinds:
        if name == PLAIN:
            continue
        pairs = zip(result.kinds[name], result.kinds[PLAIN], strict=False)
        same = sum(ours == plain for ours, plain in pairs)
        claims += [
            equal(f"{name}: layers", len(result.kinds[name]), len(result.kinds[PLAIN]), 0),
            equal(f"{name}: layers with the same role", same, len(result.kinds[PLAIN]), 0),
        ]
        if same < len(result.kinds[PLAIN]):
            largest.append(np.inf)
        else:
            values, cotangents = (differences(a, name) for a in (result.values, result.cotangents))
            claims += [
                at_most(f"{name}: largest difference of a value, eps", values.max(), rounding),
                at_most(
                    f"{name}: largest difference of a cotangent, eps", cotangents.max(), rounding
                ),
            ]
            largest += [values.max(), cotangents.max()]
    text = "largest difference of a value or a cotangent, all libraries, eps"
    return [*claims, at_most(text, max(largest), rounding, headline=True)]


def plot(result: Result):
    figure = new_figure(11, 4)
    for title, ax in zip(("values", "cotangents"), figure.subplots(1, 2), strict=True):
        arrays = getattr(result, title)
        plot_profile(
            {name: [np.mean(np.square(a)) for a in arrays[name]] for name in arrays},
            ylabel=f"mean square of the {title}",
            title=f"{title.capitalize()}: four libraries, one curve",
            ax=ax,
        )
        for line, size in zip(ax.lines, (13, 10, 7, 4), strict=True):
            line.set_markersize(size)
    return {"layers": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
