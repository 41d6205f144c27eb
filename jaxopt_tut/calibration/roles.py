"""Which axes of a weight are summed over and which count its outputs, read off shapes and names."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from typing_extensions import TypeAliasType

from jaxopt_tut.trees import matching_names

Axes = tuple[int, ...]

Dims = tuple[tuple[int, int], ...]
"""For each axis its size at two widths: axes that agree at both are one and the same."""

AxesByName = TypeAliasType(
    "AxesByName", int | Sequence[int] | Mapping[str, int | Sequence[int]] | None
)
"""Axes of every weight, axes by pattern of its path, or None: read them off the tree."""


class Roles(NamedTuple):
    """The axes of one leaf; those in neither role count stacked layers or a window.

    Attributes:
      inputs: Summed over; none for biases, scales and whatever else is no weight.
      outputs: Counted.
    """

    inputs: Axes
    outputs: Axes


def growth(dims: Dims, axes: Sequence[int]) -> float:
    """Return by how much the number of entries along some axes grows from one width to the other.

    Example:
      >>> growth(((4, 8), (3, 3), (2, 6)), (0, 2))
      6.0
    """
    first, second = (math.prod(dims[axis][i] for axis in axes) for i in (0, 1))
    return second / first if first and second else 1.0


def axis_roles(
    caller: str, leaves: Mapping[str, Dims], in_axis: AxesByName = None, out_axis: AxesByName = None
) -> dict[str, Roles]:
    """Tell the inputs of every weight of a tree from its outputs.

    What is given counts. Otherwise a bias beside the weight has the sizes of the outputs; and the
    projections of attention, (inputs, heads, head size) and (heads, head size, outputs), are known
    by the two axes that they share. Where neither is there, the last axis but one holds the inputs
    and the last one the outputs, as in dense and convolution layers, unless another axis grows.

    Example:
      >>> leaves = {"query": ((8, 16), (2, 4), (4, 4)), "out": ((2, 4), (4, 4), (8, 16))}
      >>> for name, roles in axis_roles("example", leaves).items():
      ...     print(name, *roles)
      query (0,) (1, 2)
      out (0, 1) (2,)
    """
    inputs, outputs = (_by_name(caller, axes, leaves) for axes in (in_axis, out_axis))
    roles = {}
    for name, dims in leaves.items():
        if name in inputs or name in outputs:
            found = _given(caller, name, dims, inputs.get(name), outputs.get(name))
        else:
            found = _inferred(caller, name, dims, leaves)
        roles[name] = found
    return roles


def _by_name(caller: str, axes: AxesByName, leaves: Mapping[str, Dims]) -> dict[str, Axes]:
    """Give each leaf the axes of the first pattern that matches it, or all weights the same."""
    if axes is None:
        return {}
    if not isinstance(axes, Mapping):
        weights = [name for name, dims in leaves.items() if not _is_vector(name, dims, leaves)]
        return dict.fromkeys(weights, (axes,) if isinstance(axes, int) else tuple(axes))
    found: dict[str, Axes] = {}
    for pattern, own in axes.items():
        names = matching_names(pattern, leaves)
        if not names:
            raise ValueError(
                f"{caller} needs patterns that match a leaf, got {pattern!r}; "
                f"the paths are {', '.join(map(repr, leaves))}."
            )
        found = {**dict.fromkeys(names, (own,) if isinstance(own, int) else tuple(own)), **found}
    return found


def _given(caller: str, name: str, dims: Dims, inputs: Axes | None, outputs: Axes | None) -> Roles:
    """Take the axes as they are given; of those for one role alone the rest have the other."""
    rank = len(dims)
    known = (*(inputs or ()), *(outputs or ()))
    for axis in known:
        if not -rank <= axis < rank:
            raise ValueError(f"{caller} needs axes of {name!r}, which has {rank}, got axis {axis}.")
    rest = set(range(rank)) - {axis % rank for axis in known}
    inputs, outputs = (
        tuple(sorted(rest)) if axes is None else tuple(axis % rank for axis in axes)
        for axes in (inputs, outputs)
    )
    for axis in range(rank):
        if dims[axis][0] != dims[axis][1] and (axis in inputs) == (axis in outputs):
            raise ValueError(
                f"{caller} needs axes that grow to be inputs or outputs, got in_axis={inputs} and "
                f"out_axis={outputs} for {name!r}, which grows along axis {axis} from "
                f"{_shape(dims, 0)} to {_shape(dims, 1)}."
            )
    return Roles(inputs, outputs)


def _inferred(caller: str, name: str, dims: Dims, leaves: Mapping[str, Dims]) -> Roles:
    """Tell the roles by a bias, else by a partner in attention, else by the order of the axes."""
    every = tuple(range(len(dims)))
    if _is_vector(name, dims, leaves):
        return Roles((), every)
    parent, _, last = name.rpartition("/")
    outputs = None
    if (bias := _bias_of(name, leaves)) is not None:
        weights = [n for n in leaves if n.rpartition("/")[0] == parent and len(leaves[n]) > 1]
        outputs = _outputs_by_bias(dims, bias, last.startswith("weight") or weights == [name])
    if outputs is None:
        outputs = _outputs_by_partner(name, dims, leaves)
    if outputs is None:
        outputs = every[-1:]
        ways = {(growth(dims, every[:k]), growth(dims, every[k:])) for k in every[1:]}
        if any(a != b for a, b in dims[:-2]) and len(ways) > 1:
            raise ValueError(
                f"{caller} cannot tell the inputs of {name!r} from its outputs, as it grows from "
                f"{_shape(dims, 0)} to {_shape(dims, 1)}: name its axes, for instance "
                f"in_axis={{{name!r}: 0}} if the first is summed over."
            )
    return Roles(tuple(axis for axis in every if axis not in outputs), outputs)


def _is_vector(name: str, dims: Dims, leaves: Mapping[str, Dims]) -> bool:
    """Tell biases and scales, of any number of axes, from weights."""
    parent, _, last = name.rpartition("/")
    if len(dims) < 2 or last in ("bias", "scale"):
        return True
    if last == "b":  # the bias of something, or a matrix of this name
        beside = (n for n in leaves if n.rpartition("/")[0] == parent and n != name)
        return any(_outputs_by_bias(leaves[n], dims) is not None for n in beside)
    # the weight of a normalisation over several axes
    return last == "weight" and _bias_of(name, leaves) == dims


def _bias_of(name: str, leaves: Mapping[str, Dims]) -> Dims | None:
    parent, slash, _ = name.rpartition("/")
    for last in ("bias", "b"):
        if (beside := f"{parent}{slash}{last}") != name and beside in leaves:
            return leaves[beside]
    return None


def _outputs_by_bias(dims: Dims, bias: Dims, may_lead: bool = False) -> Axes | None:
    """Find the axes that a bias has too: the last ones, in equinox the first ones.

    Layers that are stacked for a scan have their number in front of both. The first axes count only
    where no other weight can be the one that the bias belongs to.
    """
    rank = len(dims)
    if bias != dims[-len(bias) :]:
        bias = tuple(size for size in bias if size != (1, 1))  # equinox: (outputs, 1, 1)
    if not 0 < len(bias) < rank:
        return None
    for stacked in range(len(bias)):
        own = len(bias) - stacked
        if bias[:stacked] == dims[:stacked] and bias[stacked:] == dims[-own:]:
            return tuple(range(rank - own, rank))
    if may_lead and bias == dims[: len(bias)]:
        return tuple(range(len(bias)))
    return None


def _outputs_by_partner(name: str, dims: Dims, leaves: Mapping[str, Dims]) -> Axes | None:
    """Find the projection behind (or before) attention: it has the axes of heads in front (behind).

    Stacked projections have the number of layers in front of all.
    """
    rank = len(dims)
    if rank not in (3, 4):
        return None
    front, stack = slice(rank - 3, rank - 1), slice(0, rank - 3)
    others = [
        other
        for n, other in leaves.items()
        if n != name and len(other) == rank and other[stack] == dims[stack]
    ]
    is_before = any(other[front] == dims[-2:] for other in others)
    is_behind = any(other[-2:] == dims[front] for other in others)
    if is_before == is_behind:
        return None
    return (rank - 2, rank - 1) if is_before else (rank - 1,)


def _shape(dims: Dims, width: int) -> tuple[int, ...]:
    return tuple(sizes[width] for sizes in dims)
