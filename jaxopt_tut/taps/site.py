"""The places in a function where a value can be read, named after the model's parameters."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from jaxopt_tut.taps.axes import label_axes
from jaxopt_tut.taps.graph import Node, Place, read_graph
from jaxopt_tut.taps.kinds import Kind, classify
from jaxopt_tut.taps.provenance import find_owners, trace_parameters
from jaxopt_tut.taps.tracing import Program, first_by_position, trace_program


@dataclass(frozen=True)
class Site:
    """A place in a function where a floating value is made.

    Attributes:
      name: Unique within the function, the same for every batch size and version of JAX.
      op: The primitive that makes the value, for instance `"dot_general"`.
      shape: Of the recorded value; inside a scan the axis of steps comes first.
      dtype: Of the value.
      param: The path of the parameter leaf whose layer the value belongs to: the one it
        consumes, else the nearest upstream. None where there is none.
      kind: `"pre_activation"` (a contraction after its bias), `"activation"`, `"norm"` or
        `"other"`.
      unit_axes: Axes that index units: outputs of a contraction with a parameter.
      batch_axes: Axes that index examples. Axes in neither tuple index steps, pixels, tokens.
      scope: The `named_scope` path, empty without one.
      blocked_by: Why JAX defines no cotangent: the name of the custom derivative rule it lies
        inside, or `"while_loop"` (`"pure_callback"`, ...) for what is inside one or goes into
        one. None where there is a cotangent.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    dtype: Any
    param: str | None
    kind: Kind
    unit_axes: tuple[int, ...]
    batch_axes: tuple[int, ...]
    scope: str = ""
    blocked_by: str | None = None


def sites(fun: Callable, /, *args: Any, **kwargs: Any) -> list[Site]:
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
      >>> for site in sites(mlp.apply, params, jnp.ones((2, 4))):
      ...     if site.kind != "other":
      ...         print(site.name, site.kind, site.shape, site.unit_axes)
      0/kernel pre_activation (2, 8) (1,)
      0/kernel/activation activation (2, 8) (1,)
      1/kernel pre_activation (2, 3) (1,)
    """
    args, kwargs = first_by_position(fun, args, kwargs)
    return [site for site, _ in find_sites(trace_program("sites", fun, args, kwargs))]


def find_sites(program: Program) -> list[tuple[Site, Place]]:
    """List the sites of a traced function with the places where they are tapped.

    Args:
      program: What `trace_program` returned.

    Returns:
      Pairs in the order of the program.
    """
    nodes = read_graph(program.jaxpr)
    inputs = {k: name for k, name in enumerate(program.names) if name is not None}
    constants = {
        node.index: program.constant_names[id(node.value)]
        for node in nodes
        if id(node.value) in program.constant_names and node.op == "constant"
    }
    provenance = trace_parameters(nodes, inputs | constants)
    labels = label_axes(nodes, provenance.origins)
    roles = classify(nodes, provenance)
    owners = find_owners(nodes, provenance, [role.leaf for role in roles])
    blocked = _blocked(nodes)
    tapped = [node for node in nodes if node.place is not None and _has_values(node)]
    names = _names(tapped, roles, provenance.consumed, owners)
    found = []
    for node, name in zip(tapped, names, strict=True):
        role, owner = roles[node.index], owners[node.index]
        lengths = node.frame.lengths
        axes = {
            wanted: tuple(
                len(lengths) + axis
                for axis, label in enumerate(labels[node.index])
                if label == wanted
            )
            for wanted in ("unit", "batch")
        }
        site = Site(
            name=name,
            op=node.op,
            shape=(*lengths, *node.shape),
            dtype=node.dtype,
            param=owner.name if owner is not None else None,
            kind=role.kind,
            unit_axes=axes["unit"],
            batch_axes=axes["batch"],
            scope=node.scope,
            blocked_by=blocked[node.index],
        )
        found.append((site, node.place))
    return found


def _blocked(nodes: Sequence[Node]) -> list[str | None]:
    """Say what keeps a cotangent from each node, itself or by all it goes into."""
    blocked = [node.frame.blocked_by for node in nodes]
    for node in reversed(nodes):
        barrier = _IRREVERSIBLE.get(node.op)
        if blocked[node.index] in _IRREVERSIBLE.values() and node.op != "stop_gradient":
            barrier = blocked[node.index]
        if barrier is not None:
            for i in node.inputs:
                if i is not None and blocked[i] is None and _has_values(nodes[i]):
                    blocked[i] = barrier
    return blocked


_IRREVERSIBLE = {name: name for name in ("pure_callback", "io_callback")} | {"while": "while_loop"}


def _has_values(node: Node) -> bool:
    return jnp.issubdtype(node.dtype, jnp.inexact)


def _names(tapped: Sequence[Node], roles, consumed, owners) -> list[str]:
    """Name the layers first, so that what lies between them does not shift their numbers."""
    names: dict[int, str] = {}
    uses: Counter[str] = Counter()

    def give(node, *parts):
        name = "/".join(part for part in parts if part) or "(root)"
        uses[name] += 1
        names[node.index] = name if uses[name] == 1 else f"{name}#{uses[name]}"

    named = {
        leaf.name
        for node in tapped
        if (leaf := roles[node.index].leaf) is not None and roles[node.index].kind != "other"
    }
    for between in (False, True):
        for node in tapped:
            role, owner = roles[node.index], owners[node.index]
            if (role.kind == "other") != between:
                continue
            label = node.op if between else role.kind
            leaf = consumed[node.index]
            if not between and role.leaf is not None:
                give(node, role.leaf.name)
            elif leaf is not None and leaf.name not in named:
                give(node, leaf.name)
            elif leaf is not None:
                give(node, leaf.name, label)
            else:
                give(node, node.scope or (owner.name if owner else ""), label)
    return [names[node.index] for node in tapped]
