"""A traced function, read once: its graph, where its values come from, its sites and its layers."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.taps.graph import Node, read_graph
from jaxopt_tut.taps.layers import Layer, find_layers
from jaxopt_tut.taps.provenance import Provenance, trace_parameters
from jaxopt_tut.taps.site import Site, Tapped, find_sites
from jaxopt_tut.taps.tracing import first_by_position, leaf_name, take_apart
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.types import PyTree


@dataclass(frozen=True, eq=False)
class Program:
    """A traced function.

    Attributes:
      jaxpr: Its closed jaxpr; the inputs are the array leaves of the arguments.
      arrays: Those leaves, the parameters first.
      result: The structure of what it returns, with shapes and dtypes for leaves.
      names: The path of the parameter leaf that each input is, None for data.
      constant_names: The same for the arrays it closes over, by `id`.
    """

    jaxpr: core.ClosedJaxpr
    arrays: list[Any]
    result: PyTree
    names: list[str | None]
    constant_names: dict[int, str]

    @property
    def params(self) -> dict[str, Any]:
        """The arrays of the parameters that are handed in, by path."""
        pairs = zip(self.names, self.arrays, strict=True)
        return {name: array for name, array in pairs if name is not None}

    @property
    def data(self) -> list[Any]:
        """The other arrays that are handed in."""
        return self.arrays[sum(name is not None for name in self.names) :]

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be run once more for its exact bits: eager, without effects.

        Traced anew, what JAX compiles as one piece when run eagerly (`jnp.mean`, `jax.nn.gelu`) is
        a list of operations, each rounded on its own.
        """
        return not self.jaxpr.effects and not any(map(is_traced, self.arrays))

    @cached_property
    def nodes(self) -> list[Node]:
        """Every value, see `read_graph`."""
        return read_graph(self.jaxpr)

    @cached_property
    def provenance(self) -> Provenance:
        """Which of them the parameters reach, see `trace_parameters`."""
        names = {k: name for k, name in enumerate(self.names) if name is not None}
        for node in self.nodes:
            if node.op == "constant" and id(node.value) in self.constant_names:
                names[node.index] = self.constant_names[id(node.value)]
        return trace_parameters(self.nodes, names)

    @cached_property
    def sites(self) -> list[Tapped]:
        """Where values can be read, in the order of the program."""
        return find_sites(self.nodes, self.provenance)

    @cached_property
    def layers(self) -> list[Layer]:
        """The contractions of data with a weight, in the order of the program."""
        shapes = {name: tuple(array.shape) for name, array in self.params.items()}
        return find_layers(self.nodes, self.provenance, self.sites, shapes)

    def result_of(self, outputs: list[Any]) -> PyTree:
        """Put what the jaxpr returns into the structure that the function returns."""
        return jax.tree.unflatten(jax.tree.structure(self.result), outputs)


def sites(fun: Callable[..., Any], /, *args: Any, **kwargs: Any) -> list[Site]:
    r"""List the places in a function where a value can be recorded.

    $$v_i = f_i(v_{\mathrm{parents}(i)}), \qquad i = 1, \dots, N$$

    Every $v_i$ of floating or complex type is a site, also those inside `jit`, `remat`, `vmap`,
    `scan` (one site, its values stacked over the steps), `cond` and `while_loop`. A
    `shard_map` stays closed: its results are sites, its inside has none.

    A site goes by the path of the leaf of the *first* argument that it consumes, followed through
    casts, reshapes and slices; a layer (a contraction and its bias, a normalisation with its
    scale and shift) by its weight or scale. Any other site is named by its `named_scope`, and
    where there is none by the leaf of the nearest layer upstream, with its operation behind a
    slash. The n-th use of a name gets `#n`. If the first argument is one bare array and `fun`
    closes over arrays, as a model bound to its weights, these are the parameters.

    Nothing is computed; the function is traced once, and arguments may be
    `jax.ShapeDtypeStruct`. Leaves that are no arrays (functions, flags, Python integers) are
    held fixed.

    Args:
      fun: Any function of pytrees; model parameters first.
      *args: Its arguments, or shapes in their place.
      **kwargs: Its keyword arguments, held fixed or not by the same rule.

    Returns:
      The sites in the order of the program.

    Raises:
      TypeError: If `fun` cannot be traced.

    Example:
      >>> import jax
      >>> from jaxopt_tut.models import mlp
      >>> params = mlp.init(jax.random.key(0), (4, 8, 3))
      >>> for site in sites(mlp.apply, params, jax.numpy.ones((2, 4))):
      ...     if site.kind != "other":
      ...         print(site.name, site.kind, site.shape, site.unit_axes)
      0/kernel pre_activation (2, 8) (1,)
      0/kernel/activation activation (2, 8) (1,)
      1/kernel pre_activation (2, 3) (1,)
    """
    args, kwargs = first_by_position(fun, args, kwargs)
    return [site for site, _ in trace_program("sites", fun, args, kwargs).sites]


def trace_program(
    caller: str,
    fun: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    may_close_over: bool = True,
) -> Program:
    """Trace `fun(*args, **kwargs)`, the leaves that are no arrays held fixed.

    The arrays of the first argument are the parameters. If that argument is one bare array and
    `fun` may close over arrays and does (a model bound to its weights), it is data, and these are.
    """
    if not callable(fun):
        raise TypeError(f"{caller} needs a function, got {type(fun).__name__}.")
    call = take_apart((args, dict(kwargs or {})))

    def flat(*arrays: Any) -> Any:
        fresh_args, fresh_kwargs = call.rebuild(arrays)
        return fun(*fresh_args, **fresh_kwargs)

    try:
        jaxpr, result = jax.make_jaxpr(flat, return_shape=True)(*call.arrays)
    except jax.errors.JAXTypeError as error:
        name = getattr(fun, "__name__", type(fun).__name__)
        reason = str(error).splitlines()[0]
        raise TypeError(f"{caller} cannot trace {name}: {reason}") from error
    except Exception as error:
        error.add_note(f"{caller} was tracing the function when this happened.")
        raise
    own = take_apart(args[0]).names if args else ()
    names: list[str | None] = [*own, *[None] * (len(call.arrays) - len(own))]
    constant_names = _names_of_constants(fun, jaxpr, names) if may_close_over and "" in own else {}
    if constant_names:
        names = [None] * len(names)
    return Program(jaxpr, call.arrays, result, names, constant_names)


def _names_of_constants(
    fun: Callable[..., Any], jaxpr: core.ClosedJaxpr, names: list[str | None]
) -> dict[int, str]:
    """Name the arrays that a function closes over, as in the module behind it if there is one.

    None has a name where the first argument, a bare array, is the parameter all the same.
    """
    constants = {id(value): f"constant{k}" for k, value in enumerate(_closed_over(jaxpr))}
    if not constants:
        return {}
    model = inspect.unwrap(fun)
    model = getattr(model, "__self__", model)
    paths = jax.tree_util.tree_leaves_with_path(model)
    weights = {id(leaf): leaf_name(path) for path, leaf in paths}
    # beside other arrays, only a module's own weights tell that the bare array is its data
    is_bound = len(names) == 1 or not constants.keys().isdisjoint(weights)
    return constants | weights if is_bound else {}


def _closed_over(jaxpr: core.ClosedJaxpr) -> list[Any]:
    """List the floating arrays that a program holds as constants."""
    found = []
    seen: list[Any] = [jaxpr]
    while seen:
        one = seen.pop()
        found += [value for value in jaxprs.constants(one) if np.ndim(value)]
        for eqn in jaxprs.open_jaxpr(one).eqns:
            seen += [sub.jaxpr for sub in jaxprs.sub_jaxprs(eqn)]
    return [value for value in found if jax.numpy.issubdtype(value.dtype, jax.numpy.inexact)]
