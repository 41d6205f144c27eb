"""What is trained in a model, what it carries beside, and what puts both together again.

| a model of | trained | carried as state | fixed |
| --- | --- | --- | --- |
| flax nnx | `nnx.Param` | all other variables and arrays: averages, counts, keys | the rest |
| flax linen | the collection `"params"` | the other collections | |
| equinox | floating and complex arrays | other arrays | functions, flags, texts |
| any tree | those, and floats of Python outside modules | other arrays | the rest |

No library is imported for it: a model of flax nnx brings its own.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.trees import path_name
from jaxopt_tut.types import Params, PyTree

__all__ = ["Assembly", "ModelParts", "is_model", "library_of", "open_model", "split_model"]

_LIBRARIES = ("nnx", "linen", "equinox")


def library_of(model: Any) -> str | None:
    """Tell a module of flax or equinox, without importing either, by the classes it has.

    Args:
      model: Anything.

    Returns:
      `"nnx"`, `"linen"`, `"equinox"` or None.

    Example:
      >>> library_of({"params": 1.0}) is None
      True
    """
    for kind in type(model).__mro__:
        for library in _LIBRARIES:
            if kind.__module__.split(".")[:2] in ([library, "_module"], ["flax", library]):
                return library
    return None


class ModelParts(NamedTuple):
    """A model taken apart.

    Attributes:
      trained: A tree of the arrays that are trained.
      carried: One of those that are not; None where there are none.
      assembly: What puts both together; a static argument of what is compiled.
    """

    trained: Params
    carried: PyTree
    assembly: "Assembly"


class _Graph(NamedTuple):
    """The modules of flax nnx in a model, which may share variables."""

    definition: Any
    structures: tuple[Any, Any]
    paths: tuple[tuple[Any, ...], ...]
    """Of the leaves of both states, in their order."""


class _Collections(NamedTuple):
    """The mapping of flax linen around parameters and other collections."""

    structure: Any
    names: tuple[Any, ...]


@jax.tree_util.register_static
class Assembly:
    """What a model is beside its arrays; equal, with the same hash, where that is the same."""

    def __init__(
        self,
        outer: Any,
        roles: tuple[str, ...],
        fixed: tuple[Any, ...],
        graph: _Graph | None,
        collections: _Collections | None,
    ):
        """Keep the structure outside of modules, and a role a leaf of it."""
        self._outer, self._roles, self._fixed = outer, roles, fixed
        self._graph, self._collections = graph, collections
        # the type, too: True and 1 are equal and steer a program differently
        types = tuple(map(type, fixed))
        self._identity = outer, roles, fixed, types, graph, collections
        self._hash: int | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the model is the tree of its trained arrays."""
        return self._collections is None and set(self._roles) <= {"trained"}

    @property
    def carries(self) -> bool:
        """Whether there are arrays that are not trained."""
        return (
            self._collections is not None
            or "carried" in self._roles
            or (self._graph is not None and bool(self._graph.paths[1]))
        )

    def __hash__(self) -> int:
        """Compute it once: every dispatch of a program asks for it."""
        if self._hash is None:
            self._hash = hash(self._identity)
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare all that is not an array."""
        return self is other or (
            isinstance(other, Assembly)
            and hash(self) == hash(other)
            and self._identity == other._identity
        )

    def build(self, trained: Params, carried: PyTree) -> PyTree:
        """Put a model together.

        Args:
          trained: As `split_model` returns it, perhaps with other arrays.
          carried: The same.

        Returns:
          A model of the kind that was split.
        """
        return self.open(trained, carried)[0]

    def open(self, trained: Params, carried: PyTree) -> tuple[PyTree, Callable[[], PyTree]]:
        """Put a model together, and watch what is done to it.

        Args:
          trained: As `split_model` returns it, perhaps with other arrays.
          carried: The same.

        Returns:
          The model, and a function that returns what it carries now: a module of flax nnx is
          changed by its own calls.
        """
        if self.is_plain:
            return trained, lambda: carried
        others: dict[str, PyTree] = {}
        inner = carried
        if self._collections is not None:
            others = {name: part for name, part in carried.items() if name != "params"}
            inner = carried.get("params")
        ours = self._outer.flatten_up_to(trained)
        theirs = [None] * len(ours) if inner is None else self._outer.flatten_up_to(inner)
        objects = self._merged(ours, theirs)
        found = iter(objects)
        fixed = iter(self._fixed)
        choose = {
            "trained": lambda one, _: one,
            "carried": lambda _, other: other,
            "fixed": lambda *_: next(fixed),
            "graph": lambda *_: next(found),
        }
        leaves = [
            choose[role](*pair) for role, *pair in zip(self._roles, ours, theirs, strict=True)
        ]
        model = self._outer.unflatten(leaves)

        def now() -> PyTree:
            if not objects:
                return carried
            held = iter(self._held(objects, theirs))
            state = [
                next(held) if role == "graph" else other
                for role, other in zip(self._roles, theirs, strict=True)
            ]
            state = self._outer.unflatten(state)
            return {**carried, "params": state} if self._collections is not None else state

        if self._collections is not None:
            parts = {"params": model, **others}
            names, structure = self._collections.names, self._collections.structure
            model = structure.unflatten([parts[name] for name in names])
        return model, now if carried is not None else lambda: None

    def collections_of(self, updated: Any, carried: PyTree) -> PyTree | None:
        """Take over what a loss returns of the collections of flax linen.

        Args:
          updated: What `apply(..., mutable=...)` returned, or anything else.
          carried: What the model carried until then.

        Returns:
          What it carries from then on; None if these are no collections of it.
        """
        if self._collections is None or not isinstance(updated, Mapping):
            return None
        known = {name: part for name, part in updated.items() if name in carried}
        return {
            **carried,
            **known,
            **({"params": carried["params"]} if "params" in carried else {}),
        }

    def _merged(self, ours: list[Any], theirs: list[Any]) -> tuple[Any, ...]:
        """Make the modules of flax nnx of the arrays in both lists."""
        if self._graph is None:
            return ()
        places = [i for i, role in enumerate(self._roles) if role == "graph"]
        states = []
        for leaves, structure, paths in zip(
            (ours, theirs), self._graph.structures, self._graph.paths, strict=True
        ):
            nested = [leaves[place] for place in places]
            states.append(structure.unflatten([_at(nested, path) for path in paths]))
        return sys.modules["flax.nnx"].merge(self._graph.definition, *states, copy=True)

    def _held(self, objects: tuple[Any, ...], theirs: list[Any]) -> list[PyTree]:
        """Read what the modules carry now, at the places that there were before."""
        assert self._graph is not None
        _, _, state = _split_graph(objects)
        held = dict(_by_path(state))
        nested = [one for role, one in zip(self._roles, theirs, strict=True) if role == "graph"]
        paths = self._graph.paths[1]
        values = {path: held[path] if path in held else _at(nested, path) for path in paths}
        return _nested(values, len(objects))


def is_model(tree: PyTree) -> bool:
    """Tell a module of a library, variables of flax linen, or a tree of these, from other trees.

    Args:
      tree: Any pytree.

    Returns:
      Whether it is one.

    Example:
      >>> is_model({"weight": 1.0}), is_model({"params": {}, "batch_stats": {}})
      (False, True)
    """
    is_module = lambda part: library_of(part) is not None
    return _is_linen(tree) or any(map(is_module, jax.tree.leaves(tree, is_leaf=is_module)))


def split_model(model: PyTree, caller: str, *, hashed: bool = True) -> ModelParts:
    """Split a model into what is trained and what it carries.

    Args:
      model: A module of flax nnx or equinox, variables of flax linen, or any tree of these.
      caller: The name of the function that asks; it opens the message.
      hashed: Whether what is fixed must have a hash, so that a program is found again.

    Returns:
      Its parts. The trained ones are a tree of the containers of the model, a dictionary of a
      dictionary for each module of flax nnx, and the collection `"params"` of flax linen.

    Raises:
      TypeError: If a leaf that is fixed has no hash, or a state of equinox is among the parameters.

    Example:
      >>> parts = split_model({"act": jnp.tanh, "count": jnp.int32(3), "w": jnp.ones(2)}, "fit")
      >>> parts.trained
      {'act': None, 'count': None, 'w': Array([1., 1.], dtype=float32)}
      >>> parts.carried
      {'act': None, 'count': Array(3, dtype=int32), 'w': None}
      >>> sorted(parts.assembly.build(parts.trained, parts.carried))
      ['act', 'count', 'w']
    """
    _refuse_state(caller, model)
    collections, others = None, {}
    if _is_linen(model):
        pairs, structure = jax.tree_util.tree_flatten_with_path(
            model, is_leaf=lambda part: part is not model
        )
        collections = _Collections(structure, tuple(_keys(path)[0] for path, _ in pairs))
        others = {name: part for name, part in model.items() if name != "params"}
        model = model["params"]
    modules = sys.modules.get("flax.nnx")
    is_whole = lambda part: _is_graph(part, modules) or _is_variable(part, modules)
    paths = jax.tree_util.tree_flatten_with_path(model, is_leaf=is_whole)[0]
    outer = jax.tree.structure(model, is_leaf=is_whole)
    roles, trained, carried, fixed, objects = [], [], [], [], []
    for path, leaf in paths:
        role = _role(path, leaf, modules)
        if hashed and role == "fixed":
            _require_hash(caller, path, leaf)
        roles.append(role)
        trained.append(leaf if role == "trained" else None)
        carried.append(leaf if role == "carried" else None)
        fixed += [leaf] if role == "fixed" else []
        objects += [leaf] if role == "graph" else []
    graph = None
    if objects:
        definition, *states = _split_graph(tuple(objects))
        values = [_by_path(state) for state in states]
        graph = _Graph(
            definition,
            tuple(map(jax.tree.structure, states)),
            tuple(tuple(path for path, _ in one) for one in values),
        )
        for leaves, one in zip((trained, carried), values, strict=True):
            parts = iter(_nested(dict(one), len(objects)))
            for place, role in enumerate(roles):
                leaves[place] = next(parts) if role == "graph" else leaves[place]
    assembly = Assembly(outer, tuple(roles), tuple(fixed), graph, collections)
    if assembly.is_plain:
        return ModelParts(model, None, assembly)
    state = outer.unflatten(carried)
    if collections is not None:
        state = {**others, "params": state} if jax.tree.leaves(state) else others
    return ModelParts(outer.unflatten(trained), state if assembly.carries else None, assembly)


def open_model(
    caller: str, fun: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Split the model that is a function's first argument, if it carries what is not trained.

    Args:
      caller: The name of the function that asks; it opens the message.
      fun: The function.
      args: Its arguments.

    Returns:
      A function of what is trained, the other arguments and what is carried; and all of these.

    Example:
      >>> variables = {"params": {"w": 2.0}, "batch_stats": {"mean": jnp.ones(2)}}
      >>> double = lambda variables, x: variables["params"]["w"] * x
      >>> fun, args = open_model("record", double, (variables, 3))
      >>> args[0], fun(*args)
      ({'w': 2.0}, 6.0)
    """
    if not is_model(args[0]):
        return fun, args
    trained, carried, assembly = split_model(args[0], caller, hashed=False)
    if not assembly.carries:
        return fun, args

    def opened(trained: Params, *rest: Any, **kwargs: Any) -> Any:
        *others, carried = rest
        return fun(assembly.build(trained, carried), *others, **kwargs)

    return functools.update_wrapper(opened, fun), (trained, *args[1:], carried)


_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


def _role(path: tuple[Any, ...], leaf: Any, modules: Any) -> str:
    """Say what a leaf is for."""
    if _is_graph(leaf, modules):
        return "graph"
    if _is_variable(leaf, modules):
        return "trained" if _is_trained(leaf, modules) else "carried"
    if isinstance(leaf, _ARRAYS):
        is_number = jnp.issubdtype(leaf.dtype, jnp.inexact)
        is_text = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind in "OSUMmV"
        return "trained" if is_number else "fixed" if is_text else "carried"
    is_attribute = path and isinstance(path[-1], jax.tree_util.GetAttrKey)
    is_number = isinstance(leaf, float | complex) and not is_attribute
    return "trained" if is_number else "fixed"


def _require_hash(caller: str, path: tuple[Any, ...], leaf: Any) -> None:
    try:
        hash(leaf)
    except TypeError:
        raise TypeError(
            f"{caller} holds what is no array fixed, by its hash, got {type(leaf).__name__}, "
            f"which has none, at {path_name(path)!r}."
        ) from None


def _refuse_state(caller: str, model: PyTree) -> None:
    """Refuse running averages of equinox, which would be trained."""
    is_state = lambda part: (
        type(part).__name__ == "State" and type(part).__module__.startswith("equinox.")
    )
    for path, part in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_state):
        if is_state(part):
            raise TypeError(
                f"{caller} takes a State of equinox as model_state=, got it among the parameters "
                f"at {path_name(path)!r}."
            )


def _is_linen(model: Any) -> bool:
    """Tell collections of flax linen: mappings, `"params"` among others."""
    return (
        isinstance(model, Mapping)
        and len(model) > 1
        and "params" in model
        and all(isinstance(part, Mapping) for part in model.values())
        and not jax.tree_util.treedef_is_leaf(jax.tree.structure(model))
    )


def _is_graph(part: Any, modules: Any) -> bool:
    return modules is not None and isinstance(part, modules.Pytree)


def _is_variable(part: Any, modules: Any) -> bool:
    return modules is not None and isinstance(part, modules.Variable)


def _is_trained(variable: Any, modules: Any) -> bool:
    """Tell parameters of flax nnx from other variables."""
    leaves = jax.tree.leaves(variable)
    return isinstance(variable, modules.Param) and all(
        jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves
    )


def _split_graph(objects: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    """Split modules of flax nnx into their graph, their parameters and all else."""
    nnx = sys.modules["flax.nnx"]
    is_trained = lambda _, part: _is_variable(part, nnx) and _is_trained(part, nnx)
    return nnx.split(objects, is_trained, ...)


def _by_path(state: PyTree) -> list[tuple[tuple[Any, ...], Any]]:
    """List the arrays of a state of flax nnx by their keys."""
    pairs = jax.tree_util.tree_leaves_with_path(state)
    return [(tuple(_keys(path)), leaf) for path, leaf in pairs]


def _keys(path: tuple[Any, ...]) -> list[Any]:
    """Return the keys of a path, without the `value` in which a variable keeps its array."""
    is_value = lambda entry: getattr(entry, "name", None) in ("value", "raw_value")
    found = [entry for entry in path if not is_value(entry)]
    return [
        next(getattr(entry, name) for name in ("key", "idx", "name") if hasattr(entry, name))
        for entry in found
    ]


def _nested(values: Mapping[tuple[Any, ...], Any], count: int) -> list[PyTree]:
    """Make nested dictionaries of values by path, one for each first key."""
    roots: list[Any] = [{} for _ in range(count)]
    for (first, *path), value in values.items():
        if not path:
            roots[first] = value
            continue
        at = roots[first]
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = value
    return roots


def _at(nested: list[PyTree], path: tuple[Any, ...]) -> Any:
    """Return what `_nested` has put at a path."""
    found: Any = nested
    for key in path:
        found = found[key]
    return found
