"""A traced network whose pre-activations can be measured, rescaled and replaced on the way."""

import math
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Inexact

from jaxopt_tut.calibration.asking import is_iterator, require_arrays, require_form, require_key
from jaxopt_tut.calibration.spread import Moments, PerStep, Spread, moments, spread_of
from jaxopt_tut.jaxprs import constants
from jaxopt_tut.loss_forms import LOSS, Bound, bind_loss
from jaxopt_tut.taps.inner import (
    Layer,
    Parts,
    Program,
    Recording,
    evaluate,
    require_examples,
    require_layers,
    take_parameters,
    trace_program,
)
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.trees import at_least_single, split_arrays
from jaxopt_tut.types import Batch, Initializer, Params, PRNGKey, PyTree

Variances = dict[str, PerStep]
"""Of the pre-activations, by layer; one entry a step inside scans."""

Bumps = dict[int, Any]
"""What each pre-activation is to meet: one number a step for all of it, or one for each entry."""


@dataclass(frozen=True)
class Frame:
    """A traced program, found again by its text and its function, so that it is compiled once."""

    origin: Any
    jaxpr: Any = field(compare=False)
    layers: tuple[Layer, ...] = field(compare=False)


@dataclass
class Network:
    """A function traced on a batch, and its layers.

    Attributes:
      layers: Those that can be reached.
      left: For each layer that cannot the reason.
      weights: The arrays of the parameters, by path.
      frame: All that is no array; a static argument of what is compiled.
      loss: What the function returned when `spreads` measured last; None if that is no number.
    """

    bound: Bound
    parts: Parts
    program: Program
    layers: list[Layer]
    left: dict[str, str]
    weights: dict[str, Array]
    frame: Frame
    loss: float | None = None

    @property
    def data(self) -> list[ArrayLike]:
        """The arrays of the batch, which may be NumPy's."""
        return self.program.data

    @property
    def params(self) -> Params:
        """The parameters as they came."""
        return self.bound.params

    def merged(self) -> PyTree:
        """Put the weights back into the model they came in."""
        return self.bound.put_back(self.parts.rebuild(self.weights.values()))

    def scale(self, layer: Layer, factor: PerStep) -> None:
        """Multiply the weight of a layer by one factor, or by one a step of the scan around it."""
        weight = self.weights[layer.param]
        shape = factor.shape + (1,) * (weight.ndim - factor.ndim)
        self.weights[layer.param] = weight * jnp.asarray(factor.reshape(shape), weight.dtype)

    def draw(self, key: PRNGKey, layer: Layer, initializer: Initializer) -> None:
        """Draw the weight of a layer as a matrix (fan-in, units), one a step of a scan."""
        weight = self.weights[layer.param]
        steps, shape = layer.num_weight_steps, weight.shape[layer.num_weight_steps :]
        units = tuple(shape[axis] for axis in layer.unit_axes)
        others = tuple(n for axis, n in enumerate(shape) if axis not in layer.unit_axes)
        own = jax.random.fold_in(key, zlib.crc32(layer.param.encode()))

        def one(key: PRNGKey) -> Array:
            matrix = initializer(key, (math.prod(others), math.prod(units)), weight.dtype)
            places = range(-len(units), 0)
            return jnp.moveaxis(matrix.reshape(others + units), places, layer.unit_axes)

        count = math.prod(weight.shape[:steps])
        drawn = jax.vmap(one)(jax.random.split(own, count)) if steps else one(own)
        self.weights[layer.param] = drawn.reshape(weight.shape)

    def is_zero(self, layer: Layer) -> bool:
        """Tell whether all entries of a layer's weight are zero."""
        return not np.any(self.weights[layer.param])

    def spreads(
        self, given: Collection[str] = (), target: float = 1.0, silenced: Collection[str] = ()
    ) -> dict[str, Spread]:
        """Measure the variance of all pre-activations, and how well each is known.

        The network goes on with those that are `given` the target, as if they had been calibrated
        (one pass does the work of one pass a layer), and without those that are `silenced`.
        """
        marks = {name: target for name in given} | dict.fromkeys(silenced, -1.0)
        bumps = {
            k: np.full(
                layer.pre_activation.site.shape[: layer.num_step_axes],
                marks.get(layer.name, 0.0),
                np.float32,
            )
            for k, layer in enumerate(self.layers)
        }
        arrays = [*self.weights.values(), *self.data]
        found, taken, output = jax.device_get(_moments(self.frame, arrays, bumps))
        self.loss = None if output is None else float(output)
        return {
            layer.name: spread_of(one, bool(_rows(layer)), taken.get(k))
            for k, (layer, one) in enumerate(zip(self.layers, found, strict=True))
        }

    def variances(self, given: Collection[str] = (), target: float = 1.0) -> Variances:
        """Measure the variance of all pre-activations, as `spreads` does."""
        return {name: one.variance for name, one in self.spreads(given, target).items()}

    def gaussian_variances(
        self, key: PRNGKey, target: float, silenced: Collection[str] = ()
    ) -> Variances:
        """Measure the variance of each pre-activation when all others upstream are Gaussian.

        Noise of the target variance takes the place of each behind it, zeros that of the silenced.
        """
        shapes = [layer.pre_activation.site.shape for layer in self.layers]
        sizes = [math.prod(shape) for shape in shapes]
        starts = np.cumsum([0, *sizes[:-1]])
        # Drawn as one vector: a generator of random numbers is slow to compile.
        noise = jax.random.normal(key, (sum(sizes),)) * math.sqrt(target)
        bumps = {
            k: jax.lax.dynamic_slice_in_dim(noise, starts[k], sizes[k]).reshape(shape)
            for k, shape in enumerate(shapes)
        }
        for k, layer in enumerate(self.layers):
            if layer.name in silenced:
                bumps[k] = jnp.zeros_like(bumps[k])
        arrays = [*self.weights.values(), *self.data]
        found = jax.device_get(_gaussian_variances(self.frame, arrays, bumps))
        return {layer.name: one for layer, one in zip(self.layers, found, strict=True)}


def require_concrete(caller: str, *trees: Any) -> None:
    """Refuse to run inside a transformation, where nothing can be measured."""
    # within `jit` whatever is computed is a tracer, also from arrays that are none
    leaves = jax.tree.leaves(trees, is_leaf=is_iterator)
    if any(map(is_traced, [jnp.zeros(()), *leaves])):
        raise TypeError(
            f"{caller} decides by what it measures, and there is nothing to measure inside jit, "
            f"vmap, grad or scan: call it outside (what it evaluates is compiled) and pass the "
            f"parameters that it returns to the transformed function."
        )


def read_network(
    caller: str,
    fn: Callable[..., Any],
    params: PyTree,
    batch: Batch,
    *,
    key: PRNGKey,
    model_state: PyTree = None,
) -> Network:
    """Trace a model or a loss, a function of parameters and at least two examples."""
    form = require_form(caller, fn, has_model_state=model_state is not None)
    require_arrays(caller, params, batch)
    if form.takes_key:
        require_key(caller, key)
        require_concrete(caller, key)
        key = jax.random.fold_in(key, LOSS)
    bound = bind_loss(
        caller, fn, params, batch, form,
        key=key if form.takes_key else None, model_state=model_state,
    )  # fmt: skip
    fn, params, batch = bound
    parts = take_parameters(caller, params)
    program = trace_program(caller, fn, (params, batch), may_close_over=False)
    require_concrete(caller, constants(program.jaxpr))  # what `fn` closes over
    require_examples(caller, program.layers)
    left = {
        layer.name: f"it lies inside {why}"
        for layer in program.layers
        if (why := layer.pre_activation.site.blocked_by)
    }
    layers = [layer for layer in program.layers if layer.name not in left]
    require_layers(caller, layers, left)
    weights = dict(zip(parts.names, map(jnp.asarray, parts.arrays), strict=True))
    frame = Frame(_origin(fn, params, batch, program), program.jaxpr, tuple(layers))
    return Network(bound, parts, program, layers, left, weights, frame)


def _origin(fn: Callable[..., Any], params: Params, batch: Batch, program: Program) -> Any:
    """Collect all that a trace follows from except for arrays; nothing equals it if it must not.

    The text tells apart what one function does before and after something it reads has changed.
    """
    _, rebuild = split_arrays((params, batch))
    closed_over = tuple(map(id, constants(program.jaxpr)))  # kept alive by the frame that has them
    try:
        hash(origin := (fn, rebuild, closed_over, str(program.jaxpr)))
    except TypeError:
        return object()
    return origin


@partial(jax.jit, static_argnums=0)
def _moments(
    frame: Frame, arrays: list[Array], bumps: Bumps
) -> tuple[list[Moments], dict[int, Array], Array | None]:
    """Return the moments of each layer, and the function's value if that is a real number."""
    outputs, values, taken = _evaluate(frame, arrays, bumps, _normalise)
    found = [
        moments(values[k], layer.num_step_axes, _rows(layer))
        for k, layer in enumerate(frame.layers)
    ]
    is_loss = outputs and jnp.shape(outputs[0]) == () and jnp.isrealobj(outputs[0])
    return found, taken, outputs[0] if is_loss else None


@partial(jax.jit, static_argnums=0)
def _gaussian_variances(
    frame: Frame, arrays: list[Array], bumps: Bumps
) -> list[Float[Array, "..."]]:
    _, values, taken = _evaluate(frame, arrays, bumps, _replace)
    found = []
    for k, layer in enumerate(frame.layers):
        value = values[k]
        variance = jnp.var(
            at_least_single(value), axis=tuple(range(layer.num_step_axes, value.ndim))
        )
        if k in taken:  # in a branch: the values are NaN where it is not taken
            mask = taken[k].reshape(taken[k].shape + (1,) * (variance.ndim - taken[k].ndim))
            variance = jnp.where(mask, variance, 0)
        found.append(variance)
    return found


def _evaluate(
    frame: Frame, arrays: list[Array], bumps: Bumps, meet: Callable[[Array, Array], Array]
) -> Recording:
    # The bumps come in one by one: as slices of one array they take four times as long to compile.
    places = {layer.pre_activation.place: k for k, layer in enumerate(frame.layers)}
    return evaluate(frame.jaxpr, arrays, places, bumps, meet)


def _rows(layer: Layer) -> tuple[int, ...]:
    return tuple(
        axis for axis in layer.pre_activation.site.batch_axes if axis >= layer.num_step_axes
    )


def _normalise(value: Inexact[Array, "..."], target: Float[Array, ""]) -> Inexact[Array, "..."]:
    """Bring a value to its target; it stays for a target of 0, and is silenced below."""
    wide = at_least_single(value)
    variance = jnp.var(wide)
    factor = jnp.sqrt(target.astype(variance.dtype) / jnp.where(variance > 0, variance, 1))
    is_scaled = (target > 0) & (variance > 0)
    given = jnp.where(is_scaled, (wide * factor.astype(wide.dtype)).astype(value.dtype), value)
    return jnp.where(target < 0, jnp.zeros_like(value), given)


def _replace(value: Inexact[Array, "..."], noise: Array) -> Inexact[Array, "..."]:
    return noise.astype(value.dtype)
