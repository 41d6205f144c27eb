"""Where a value comes from: which parameter leaf it consumes, and whose layer it belongs to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from jaxopt_tut.taps.graph import Node


class Origin(IntEnum):
    """What a value depends on; the largest of its operands' wins."""

    CONSTANT = 0
    PARAMETER = 1
    DATA = 2


@dataclass(frozen=True)
class Leaf:
    """A parameter leaf: its path, and the number of its entries."""

    name: str
    size: int


@dataclass
class Provenance:
    """What `trace_parameters` finds, one entry a node.

    Attributes:
      origins: What each node depends on.
      held: The leaf that a parameter, or what is computed from parameters alone, stands for.
      consumed: The leaf that meets data in a node, through casts, reshapes and slices.
    """

    origins: list[Origin]
    held: list[Leaf | None]
    consumed: list[Leaf | None]


def trace_parameters(nodes: Sequence[Node], leaves: Mapping[int, str]) -> Provenance:
    """Follow the parameters through a program, up to where they meet data.

    What is computed from parameters alone (a cast, a slice, a normalised weight) is still a
    parameter, and goes by the name of the largest leaf in it; `leaves` are the paths by node.
    """
    origins: list[Origin] = []
    held: list[Leaf | None] = []
    consumed: list[Leaf | None] = []
    for node in nodes:
        sources = _sources(node)
        leaves_below = [leaf for i in sources if (leaf := held[i]) is not None]
        leaf = max(leaves_below, key=lambda leaf: leaf.size, default=None)
        origin = max((origins[i] for i in sources), default=Origin.CONSTANT)
        if node.index in leaves:
            origin, leaf = Origin.PARAMETER, Leaf(leaves[node.index], math.prod(node.shape))
        elif node.op == "input" or (node.op == "constant" and node.shape):
            origin = Origin.DATA
        elif node.op == "carry":
            origin, leaf = Origin.DATA, None
        origins.append(origin)
        meets = origin is Origin.DATA and leaf is not None
        held.append(leaf if origin is Origin.PARAMETER else None)
        consumed.append(leaf if meets else None)
    return Provenance(origins, held, consumed)


def find_owners(
    nodes: Sequence[Node], provenance: Provenance, layers: Sequence[Leaf | None]
) -> list[Leaf | None]:
    """Say to which layer each node belongs: its own, else the nearest upstream, if there is one."""
    owners: list[tuple[int, Leaf] | None] = []
    for node in nodes:
        leaf = layers[node.index] or provenance.held[node.index]
        if leaf is not None:
            owners.append((node.index, leaf))
        else:
            data = [i for i in _sources(node) if provenance.origins[i] is Origin.DATA]
            # The latest in the program's order is the nearest upstream.
            known = [owner for i in data if (owner := owners[i]) is not None]
            owners.append(max(known, key=lambda owner: owner[0], default=None))
    return [None if owner is None else owner[1] for owner in owners]


def _sources(node: Node) -> list[int]:
    """Return the operands whose origin counts: a slice is as constant as what it cuts from."""
    inputs = node.inputs[:1] if node.op == "dynamic_slice" else node.inputs
    return [i for i in inputs if i is not None]
