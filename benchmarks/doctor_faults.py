"""Faults planted in networks whose layers are known by name, and whether a diagnosis finds them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut.diagnostics import Diagnosis
from jaxopt_tut.taps.inner import Layer, leaf_name

LARGE = frozenset({"exploding", "saturated", "logits_too_large"})
SMALL = frozenset({"vanishing"})


class Fault(NamedTuple):
    """What is planted.

    Attributes:
      name: Of the fault.
      kinds: The verdicts that name it.
      change: What is done to the parameters.
      place: The weight or the cell that must be named; None where any place will do.
      rate: Adam's learning rate.
      is_raw: Whether the pixels come as 0 to 255.
    """

    name: str
    kinds: frozenset[str]
    change: Callable = lambda params: params
    place: Any = None
    rate: float = 1e-3
    is_raw: bool = False


def adam_at_a_rate_among_the_parameters() -> optax.GradientTransformation:
    """Build Adam so that one compiled diagnosis serves all learning rates."""
    adam = optax.scale_by_adam()

    def update(updates, state, params=None):
        assert params is not None
        updates, state = adam.update(updates, state, params)
        return jax.tree.map(lambda update: -params["rate"] * update, updates), state

    return optax.GradientTransformation(adam.init, update)


def at_leaves(params, change: Callable, names) -> Any:
    """Change the leaves of these names."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf) if leaf_name(path) in names else leaf, params
    )


def place_of(layer: Layer) -> Any:
    """Return what a verdict is about: a weight, or a cell, whose gates are one case."""
    return layer.use.loop or layer.param


def judged(wiring: Sequence[Layer]) -> list[Layer]:
    """List the layers with a scale of their own: none in front of a normalisation."""
    return [one for one in wiring if not (one.is_normalized or one.use.is_derivative)]


def planted(name: str, params, wiring: Sequence[Layer]) -> Iterator[Fault]:
    """List the faults of a network of `doctor_models`.

    Args:
      name: Of the network.
      params: Its parameters.
      wiring: Its layers as a diagnosis lists them.

    Yields:
      The faults.
    """
    leaves = {leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    weights = set().union(*(_joined(layer.param, leaves) for layer in wiring))
    # The length of v has no effect; the first layer of a SIREN sets a frequency, and its last one
    # is so small that ten times as much is usual.
    scaled = {"weight norm": [], "SIREN": judged(wiring)[1:-1]}.get(name, judged(wiring))
    for layer in {layer.param: layer for layer in scaled}.values():
        own, place = _joined(layer.param, leaves), place_of(layer)
        yield Fault("one layer x10", LARGE, lambda p, o=own: at_leaves(p, _times(10), o), place)
        yield Fault("one layer x1/10", SMALL, lambda p, o=own: at_leaves(p, _times(0.1), o), place)
    biases = {name for name in leaves if "bias" in name.split("/")[-1]}
    without = lambda p: at_leaves(p, jnp.zeros_like, biases)
    fill = lambda value: lambda p: at_leaves(without(p), lambda x: jnp.full_like(x, value), weights)
    if name != "PINN":  # one output, whose derivatives vanish with the weights
        yield Fault("constant 0.05", frozenset({"symmetric"}), fill(0.05))
    if name not in ("PINN", "weight norm"):  # 0 / 0
        yield Fault("all weights 0", frozenset({"symmetric"}), fill(0.0))
    # Weights of size one take steps ten times as long.
    is_unit = name in ("NTK", "equalized rate", "weight norm")
    yield Fault("rate x100", frozenset({"lr_too_high"}), rate=1.0 if is_unit else 0.1)
    if name.split(",")[0] in ("CNN", "ResNet", "ViT", "LSTM", "GRU", "MoE", "NTK"):
        yield Fault("input 0..255", frozenset({"input_not_normalized"}), is_raw=True)
    recurrent = {layer.param: layer for layer in wiring if layer.use.is_recurrent}
    if recurrent:
        place = place_of(next(iter(recurrent.values())))
        shrunk = set().union(*(_joined(param, leaves) for param in recurrent))
        shrink = lambda p: at_leaves(p, _times(0.05), shrunk)
        yield Fault("recurrent kernel x1/20", SMALL, shrink, place)
    if name.split(",")[0] in ("CNN", "GNN"):
        down = lambda p: at_leaves(p, lambda x: x - 5, biases)
        yield Fault("bias -5", frozenset({"dead"}), down)
        most = lambda x: jnp.where(jnp.arange(x.size).reshape(x.shape) % 8 < 7, -100.0, x)
        off = lambda p: at_leaves(p, most, biases)
        yield Fault("dead units", frozenset({"dead"}), off)


def _joined(param: str, leaves) -> set[str]:
    """List the weights that one product uses: linen's optimized LSTM joins those of four gates."""
    if "OptimizedLSTMCell" not in param:
        return {param}
    stem = param.removesuffix("/kernel")[:-1]
    return {name for name in leaves if name.startswith(stem) and name.endswith("kernel")}


def _times(factor):
    return lambda leaf: factor * leaf


def is_found(fault: Fault, diagnosis: Diagnosis) -> bool:
    """Tell whether a verdict of the right kind names the right place."""
    wiring = {layer.name: layer for layer in diagnosis.statistics.wiring}
    return any(
        verdict.kind in fault.kinds
        and fault.place in (None, place_of(wiring[verdict.layer.split("[")[0]]))
        for verdict in diagnosis.verdicts
    )
