"""Which axes of a value index units and which index examples."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from jaxopt_tut.taps.graph import Node
from jaxopt_tut.taps.provenance import Origin

Label = Literal["unit", "batch"] | None
Labels = tuple[Label, ...]


class _Operand(NamedTuple):
    """What a rule reads of an operand."""

    labels: Labels
    shape: tuple[int, ...]
    is_parameter: bool


CONTRACTIONS = ("dot_general", "conv_general_dilated")


def label_axes(nodes: Sequence[Node], origins: Sequence[Origin]) -> list[Labels]:
    """Say for every axis of every node whether it counts units, examples, or something else.

    The first axis of the data counts examples. A contraction with a parameter makes the axes
    that come from the parameter units. Both are then followed through the program.
    """
    labels: list[Labels] = [(None,) * len(node.shape) for node in nodes]
    # The second sweep knows what a carry becomes after a step.
    for _ in range(2):
        for node in nodes:
            if origins[node.index] is Origin.DATA:
                labels[node.index] = _labels_of(node, nodes, labels, origins)
    return labels


def _labels_of(
    node: Node, nodes: Sequence[Node], labels: Sequence[Labels], origins: Sequence[Origin]
) -> Labels:
    rank = len(node.shape)
    unknown: Labels = (None,) * rank
    if node.op in ("input", "constant"):
        return ("batch", *unknown[1:]) if rank else ()
    operands = [
        _Operand(labels[i], nodes[i].shape, origins[i] is Origin.PARAMETER)
        for i in node.inputs
        if i is not None
    ]
    first: Labels = operands[0].labels if operands else ()
    if node.op == "carry" and node.loop_end is not None:
        return _merge([first, labels[node.loop_end]])
    if node.op == "step":
        # Examples in front of a scan, as in a time-major sequence, stand behind the time.
        is_passed_on = first[:1] == ("batch",) and len(first) > 2 and first[1] is None
        return ("batch", *first[2:]) if is_passed_on else first[1:]
    if node.op == "scan":
        return (*unknown[len(first) :], *first)
    if node.op in _RULES and node.inputs[0] is not None:
        return _RULES[node.op](node, operands)
    same = [one.labels for one in operands if len(one.shape) == rank]
    return _merge(same) if same else unknown


def _merge(found: Sequence[Sequence[Label]]) -> Labels:
    """Merge axis by axis; a unit wins, because a vector over units may look like a batch."""
    return tuple(
        "unit" if "unit" in axis else "batch" if "batch" in axis else None
        for axis in zip(*found, strict=True)
    )


def _dot_general(node: Node, operands: Sequence[_Operand]) -> Labels:
    (left_sum, right_sum), (left_batch, right_batch) = _params(node)["dimension_numbers"]
    left, right = operands
    out = list(
        _merge([[left.labels[i] for i in left_batch], [right.labels[i] for i in right_batch]])
    )
    is_layer = left.is_parameter or right.is_parameter
    for one, used in ((left, (*left_sum, *left_batch)), (right, (*right_sum, *right_batch))):
        for axis, label in enumerate(one.labels):
            if axis in used:
                continue
            if one.is_parameter:
                out.append("unit")
            else:  # units of the data that a weight does not sum over are units no more
                out.append(None if is_layer and label == "unit" else label)
    return tuple(out)


def _convolution(node: Node, operands: Sequence[_Operand]) -> Labels:
    numbers = _params(node)["dimension_numbers"]
    out: list[Label] = [None] * len(node.shape)
    out[numbers.out_spec[0]] = operands[0].labels[numbers.lhs_spec[0]]
    out[numbers.out_spec[1]] = "unit"
    return tuple(out)


def _transpose(node: Node, operands: Sequence[_Operand]) -> Labels:
    return tuple(operands[0].labels[axis] for axis in _params(node)["permutation"])


def _broadcast(node: Node, operands: Sequence[_Operand]) -> Labels:
    out: list[Label] = [None] * len(node.shape)
    for label, axis in zip(operands[0].labels, _params(node)["broadcast_dimensions"], strict=True):
        out[axis] = label
    return tuple(out)


def _dropped(node: Node, operands: Sequence[_Operand]) -> Labels:
    gone = _params(node)["dimensions" if node.op == "squeeze" else "axes"]
    return tuple(label for axis, label in enumerate(operands[0].labels) if axis not in gone)


def _reshape(node: Node, operands: Sequence[_Operand]) -> Labels:
    """Match runs of axes with equal products; a merged axis with units in it counts units."""
    old, new = operands[0].shape, node.shape
    out: list[Label] = [None] * len(new)
    # Leading axes that stay are themselves, whatever becomes of those behind.
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        out[start] = operands[0].labels[start]
        start += 1
    # Axes of length one come and go without a trace.
    before = [axis for axis in range(start, len(old)) if old[axis] != 1]
    after = [axis for axis in range(start, len(new)) if new[axis] != 1]
    while before and after:
        # The shorter side takes one more axis until both hold as many entries: (6, 4) -> (2, 12)
        # is one run, (6, 4) -> (2, 3, 4) two.
        run, to = [before.pop(0)], [after.pop(0)]
        while (left := math.prod(old[i] for i in run)) != (right := math.prod(new[i] for i in to)):
            short, rest = (run, before) if left < right else (to, after)
            if not rest:  # a size of zero
                return tuple(out)
            short.append(rest.pop(0))
        for axis in to:
            out[axis] = _merge([(operands[0].labels[i],) for i in run])[0]
    return tuple(out)


def _gather(node: Node, operands: Sequence[_Operand]) -> Labels:
    """Looking rows up in a table of parameters makes units, one row an index."""
    numbers = _params(node)["dimension_numbers"]
    rank = len(node.shape)
    table = operands[0].is_parameter
    indices = operands[-1].labels[:-1] if len(operands) > 1 else (None,) * rank
    kept: list[Label] = [
        "unit" if table else label
        for axis, label in enumerate(operands[0].labels)
        if axis not in numbers.collapsed_slice_dims and axis not in numbers.operand_batching_dims
    ]
    rows, units = iter(indices), iter(kept)
    return tuple(
        (next(units, None)) if axis in numbers.offset_dims else next(rows, None)
        for axis in range(rank)
    )


_RULES: dict[str, Callable[[Node, Sequence[_Operand]], Labels]] = {
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "gather": _gather,
} | dict.fromkeys(
    (
        "squeeze",
        "reduce_sum",
        "reduce_max",
        "reduce_min",
        "reduce_prod",
        "reduce_and",
        "reduce_or",
        "argmax",
        "argmin",
    ),
    _dropped,
)


def _params(node: Node) -> dict[str, Any]:
    return node.eqn.params if node.eqn is not None else {}
