"""One sweep back through the graph of a network finds the gradient that jax.grad finds.

Question: What does backpropagation leave on the nodes of a network's graph?

Claim: for a network with two hidden layers of tanh and cross entropy, one sweep gives all adjoints.
Those of the parameters are `jax.grad`'s, those of the pre-activations what `taps` reads out of
JAX's own reverse pass. They obey the recursion delta_l = (delta_{l+1} W'_{l+1}) (1 - h_l^2),
starting from (softmax - target) / n, and give the gradients h' delta and column sums of delta.
When only the images move, the sum of adjoint times tangent over a layer is the change of the loss:
the same at every layer, because all paths go through it.

Why: The gradient of the parameters is a by-product: each node gets the derivative of the loss by
its value. These are the numbers that vanish or explode over layers.

Source: Technion tutorial 5, the graph of a network; Rumelhart et al. (1986) for the recursion.
Section: B2.
Command: python -m experiments network_graph
Expected: all differences below 1e-14, float64.
Time: 2 s.
"""

import dataclasses
import sys
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff, taps
from jaxopt_tut.autodiff import Graph

SIZES = (4, 5, 5, 3)


def loss_fn(params, images, targets):
    hidden = z = images
    for i, layer in enumerate(params):
        with jax.named_scope(f"layer {i + 1}"):
            z = hidden @ layer["kernel"] + layer["bias"]
            hidden = jnp.tanh(z) if i + 1 < len(params) else z
    with jax.named_scope("cross entropy"):
        # Logits are of order 1 here, so that the logarithm need not be guarded: fewer boxes.
        normalizer = jnp.log(jnp.sum(jnp.exp(z), axis=-1))
        return jnp.mean(normalizer - jnp.sum(targets * z, axis=-1))


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    batch_size: int = 8
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, batch_size=2)


class Result(NamedTuple):
    """What the graph says and what others say, in float64; lists have one entry a layer."""

    batch: tuple
    """Parameters, images and targets, to draw the graph."""
    loss_adjoint: float
    gradients: list[np.ndarray]
    jax_gradients: list[np.ndarray]
    deltas: list[np.ndarray]
    """Adjoints of the pre-activations."""
    taps_deltas: list[np.ndarray]
    hand_deltas: list[np.ndarray]
    hand_gradients: list[np.ndarray]
    changes: np.ndarray
    """Of the loss along a random direction of the images, read at every layer."""


def make_batch(config: Config) -> tuple:
    rng = np.random.default_rng(config.seed)
    params = [
        {"kernel": rng.standard_normal(pair) / np.sqrt(pair[0]), "bias": np.zeros(pair[1])}
        for pair in pairwise(SIZES)
    ]
    targets = np.eye(SIZES[-1])[rng.integers(SIZES[-1], size=config.batch_size)]
    return params, rng.standard_normal((config.batch_size, SIZES[0])), targets


def find_layers(graph: Graph) -> list[int]:
    """Return the node that adds the bias in each layer."""
    scopes = [f"layer {i + 1}" for i in range(len(SIZES) - 1)]
    return [
        max(n.index for n in graph.nodes if n.op == "add" and n.name == scope) for scope in scopes
    ]


def by_hand(params, images, targets):
    """Work out the deltas and the gradients with the recursion."""
    inputs = [images]
    for layer in params:
        z = inputs[-1] @ layer["kernel"] + layer["bias"]
        inputs.append(np.tanh(z))  # the last one is not used
    exponentials = np.exp(z)
    deltas = [(exponentials / exponentials.sum(axis=1, keepdims=True) - targets) / len(images)]
    for layer, hidden in zip(params[:0:-1], inputs[-2:0:-1], strict=True):
        deltas.insert(0, deltas[0] @ layer["kernel"].T * (1 - hidden**2))
    gradients = [
        {"kernel": hidden.T @ delta, "bias": delta.sum(axis=0)}
        for hidden, delta in zip(inputs[:-1], deltas, strict=True)
    ]
    return deltas, gradients


def sweep(graph: Graph, batch: tuple) -> tuple[list, list]:
    """Evaluate the graph and go back through it, as one program."""

    def both(*batch):
        values = graph.evaluate(*batch)
        return values, graph.backpropagate(values, 1.0)

    return jax.jit(both)(*batch)


def run(config: Config) -> Result:
    batch = params, images, _ = make_batch(config)
    direction = np.random.default_rng(config.seed + 1).standard_normal(images.shape)
    with jax.enable_x64(True):
        graph = autodiff.trace(loss_fn, strict=True)(*batch)
        values, adjoints = sweep(graph, batch)
        still = jax.tree.map(np.zeros_like, batch)
        tangents = jax.jit(graph.jvp)(values, (still[0], direction, still[2]))
        jax_gradients = jax.jit(jax.grad(loss_fn))(*batch)
        record = taps.record_gradients(
            loss_fn, lambda site: site.kind == "pre_activation" and "layer" in site.scope
        )
        *_, cotangents = jax.jit(record)(*batch)
    layers = find_layers(graph)
    hand_deltas, hand_gradients = by_hand(*batch)
    leaves = lambda tree: [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return Result(
        batch=batch,
        loss_adjoint=float(adjoints[graph.outputs[0]]),
        gradients=leaves([adjoints[i] for i in graph.inputs[: len(leaves(params))]]),
        jax_gradients=leaves(jax_gradients),
        deltas=leaves([adjoints[i] for i in layers]),
        taps_deltas=leaves(list(cotangents.values())),
        hand_deltas=hand_deltas,
        hand_gradients=leaves(hand_gradients),
        changes=np.array([np.vdot(adjoints[i], tangents[i]) for i in layers]),
    )


def _error(found: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return the largest difference over the norm of its array."""
    pairs = zip(found, other, strict=True)
    return max(float(np.max(np.abs(a - b)) / np.linalg.norm(b)) for a, b in pairs)


def check(result: Result) -> list[Claim]:
    # Three layers forward and three back, each a sum of at most eight products or a handful of
    # elementwise operations: 60 roundings.
    rounding = 60 * np.finfo(np.float64).eps
    changes = result.changes
    spread = np.ptp(changes) / np.abs(changes).max()
    return [
        equal("adjoint of the loss", result.loss_adjoint, 1, 0),
        at_most(
            "gradients against jax.grad",
            _error(result.gradients, result.jax_gradients),
            rounding,
            headline=True,
        ),
        at_most(
            "gradients against by hand", _error(result.gradients, result.hand_gradients), rounding
        ),
        at_most(
            "deltas against the recursion", _error(result.deltas, result.hand_deltas), rounding
        ),
        at_most("deltas against taps", _error(result.deltas, result.taps_deltas), rounding),
        at_most("change of the loss, layer by layer: spread", spread, rounding),
    ]


def plot(result: Result):
    with jax.enable_x64(True):
        graph = autodiff.trace(loss_fn)(*result.batch)
        values, adjoints = sweep(graph, result.batch)
    return {
        "graph": autodiff.draw(graph, values, adjoints),
        "folded": autodiff.draw(graph, max_nodes=16),
    }


if __name__ == "__main__":
    run_script(sys.modules[__name__])
