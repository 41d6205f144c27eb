"""The places in a function where a value can be read, named after the model's parameters."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_tut import jaxprs
from jaxopt_tut.blocks import shown
from jaxopt_tut.taps.axes import label_axes
from jaxopt_tut.taps.graph import Node, Place
from jaxopt_tut.taps.kinds import Kind, Role, classify
from jaxopt_tut.taps.provenance import Leaf, Provenance, find_owners


@shown
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
      source: The line of the user's code that makes the value, for instance `"model.py:12"`; None
        where JAX does not know. Sites that differ in it alone are equal.
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
    source: str | None = field(default=None, compare=False)


class Tapped(NamedTuple):
    """A site, and the place in the program where it is tapped."""

    site: Site
    place: Place


def find_sites(nodes: Sequence[Node], provenance: Provenance) -> list[Tapped]:
    """List the sites of a program in its order."""
    labels = label_axes(nodes, provenance.origins)
    roles = classify(nodes, provenance)
    owners = find_owners(nodes, provenance, [role.leaf for role in roles])
    blocked = _blocked(nodes)
    places = {
        node.index: node.place for node in nodes if node.place is not None and _has_values(node)
    }
    names = _names([nodes[i] for i in places], roles, provenance.consumed, owners)
    found = []
    for (index, place), name in zip(places.items(), names, strict=True):
        node, role, owner = nodes[index], roles[index], owners[index]
        lengths = node.frame.lengths
        axes = {
            wanted: tuple(
                len(lengths) + axis for axis, label in enumerate(labels[index]) if label == wanted
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
            blocked_by=blocked[index],
            source=_source(node),
        )
        found.append(Tapped(site, place))
    return found


def _source(node: Node) -> str | None:
    """Return file and line of a node, without the column and the name of the function."""
    line = jaxprs.source_line(node.eqn) if node.eqn is not None else ""
    found = _FILE_AND_LINE.match(line)
    # JAX takes the caller of one of its own functions for the user, and here that is us.
    return found[0] if found and "trace_program.<locals>" not in line else None


_FILE_AND_LINE = re.compile(r"[^:]+:\d+")


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


def _names(
    tapped: Sequence[Node],
    roles: Sequence[Role],
    consumed: Sequence[Leaf | None],
    owners: Sequence[Leaf | None],
) -> list[str]:
    """Name the layers first, so that what lies between them does not shift their numbers."""
    names: dict[int, str] = {}
    uses: Counter[str] = Counter()

    def give(node: Node, *parts: str) -> None:
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
