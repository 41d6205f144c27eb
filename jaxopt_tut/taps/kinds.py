"""The role a value plays in a network: pre-activation, activation, normalisation output."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from jaxopt_tut import jaxprs
from jaxopt_tut.taps.axes import CONTRACTIONS
from jaxopt_tut.taps.graph import AnyJaxpr, Node
from jaxopt_tut.taps.provenance import Leaf, Origin, Provenance, find_owners

Kind = Literal["pre_activation", "activation", "norm", "other"]
"""What a site is to a network; `"other"` is everything between the layers."""

# Elementwise operations: those that are linear in one operand, tests, and those that bend.
_LINEAR = {
    "add", "add_any", "sub", "mul", "div", "neg", "convert_element_type", "reduce_precision",
    "copy", "copy_p", "stop_gradient", "real", "imag",
}  # fmt: skip
_TESTS = {"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "xor", "is_finite"}
_BENT = {
    "max", "min", "clamp", "abs", "sign", "select_n", "pow", "integer_pow", "square", "sqrt",
    "rsqrt", "cbrt", "exp", "exp2", "expm1", "log", "log1p", "logistic", "erf", "erfc", "erf_inv",
    "tanh", "sinh", "cosh", "asinh", "acosh", "atanh", "sin", "cos", "tan", "asin", "acos",
    "atan", "atan2", "floor", "ceil", "round", "rem", "nextafter", "lgamma", "digamma",
}  # fmt: skip
ELEMENTWISE = _LINEAR | _TESTS | _BENT
_MOVES = {
    "reshape", "transpose", "squeeze", "broadcast_in_dim", "expand_dims", "slice",
    "dynamic_slice", "convert_element_type", "copy", "rev", "split", "concatenate", "pad",
    "scan", "cond", "step", "carry", "reduce_window_max", "sharding_constraint", "name",
}  # fmt: skip
REARRANGING = {
    "reshape", "transpose", "squeeze", "broadcast_in_dim", "expand_dims", "slice", "rev",
    "split", "sharding_constraint", "name",
}  # fmt: skip
"""Moves that leave the distribution of a layer's values as it is."""
_SQUASHING = {"tanh", "logistic", "erf"}
_SQUARES = {"integer_pow", "square", "abs", "exp", "mul"}
_RULES_OF_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


class Role(NamedTuple):
    """What a node is, and the leaf that names it."""

    kind: Kind
    leaf: Leaf | None


def classify(nodes: Sequence[Node], provenance: Provenance) -> list[Role]:
    """Find the layers of a network in the graph of its program.

    * A pre-activation is a contraction of data with a parameter, after its bias: after the `add`
      of a parameter that is the only reader of the contraction.
    * A norm output is a product with a reciprocal root of a reduction, after scale and shift.
    * An activation is the end of a maximal elementwise nonlinear region behind one of these, or
      the result of a function of `jax.nn`.
    """
    roles = [Role("other", leaf) for leaf in provenance.consumed]
    pre_activations = _pre_activations(nodes, provenance)
    norms = _norms(nodes, provenance)
    for index, leaf in (pre_activations | norms).items():
        roles[index] = Role("norm" if index in norms else "pre_activation", leaf)
    starts = set(pre_activations) | set(norms)
    for index in _activations(nodes, provenance, starts):
        if roles[index].kind == "other":
            roles[index] = Role("activation", None)
    return roles


def _pre_activations(nodes: Sequence[Node], provenance: Provenance) -> dict[int, Leaf | None]:
    """Map each pre-activation to the weight behind it."""
    found: dict[int, Leaf | None] = {}
    sums: set[int] = set()  # contractions that no bias follows, and sums of such
    for node in nodes:
        leaf = provenance.consumed[node.index]
        if node.frame.apart:
            continue
        if node.op in CONTRACTIONS and leaf is not None:
            end = _after_bias(node, nodes, provenance)
            found[end] = leaf
            if end == node.index:
                sums.add(end)
        elif node.op in ("add", "add_any") or node.op in _MOVES:
            data = [i for i in node.inputs if i is not None and _is_data(i, provenance)]
            if data and all(i in sums for i in data):
                sums.add(node.index)
                # Two contractions and one bias, as in a recurrent network.
                if node.op == "add" and leaf is not None and node.index not in found:
                    found[node.index] = leaf
    return found


def _is_data(index: int, provenance: Provenance) -> bool:
    return provenance.origins[index] is Origin.DATA


def _after_bias(node: Node, nodes: Sequence[Node], provenance: Provenance) -> int:
    """Return the sum of a contraction and its bias, or the contraction if it has none."""
    end = node
    while len(end.users) == 1:
        end = nodes[end.users[0]]
        if end.frame != node.frame:
            break
        if end.op in ("add", "add_any"):
            # Sums with data are residual branches: they belong to what comes next.
            others = [i for i in end.inputs if i is not None and not _is_data(i, provenance)]
            is_bias = any(provenance.origins[i] is Origin.PARAMETER for i in others)
            return end.index if is_bias else node.index
        if end.op not in _MOVES or end.op in ("concatenate", "split", "scan", "cond"):
            break
    return node.index


def _norms(nodes: Sequence[Node], provenance: Provenance) -> dict[int, Leaf | None]:
    """Map each output of a normalisation to its scale.

    Followed are statistics (a reduction and what is computed from it alone), their roots s and
    inverse roots 1/s; where x meets one of the last two in x / s or x * (1/s), x is normalised.
    """
    found: dict[int, Leaf | None] = {}
    statistics: set[int] = set()
    roots: set[int] = set()
    inverse_roots: set[int] = set()
    scales: dict[int, Leaf | None] = {}  # multiplied into an inverse root before that meets x
    for node in nodes:
        if node.frame.apart:
            continue
        index, op = node.index, node.op
        inputs = [i for i in node.inputs if i is not None]
        varying = [i for i in inputs if provenance.origins[i] is not Origin.CONSTANT]
        if op in ("input", "constant"):
            # Running averages come in as vectors; data come with an axis of examples.
            if provenance.origins[index] is Origin.PARAMETER or len(node.shape) < 2:
                statistics.add(index)
            continue
        if not varying:
            continue
        if op.startswith("reduce_") or op in ("psum", "pmean"):
            statistics.add(index)
        elif op in ("mul", "div") and _normalises(node, statistics, roots, inverse_roots):
            scale = next((scales[i] for i in inputs if scales.get(i) is not None), None)
            found |= _after_scale_and_shift(node, scale, nodes, provenance)
        elif all(i in statistics for i in varying) and (op in ELEMENTWISE or op in _MOVES):
            statistics.add(index)
        if op == "sqrt" and index in statistics:
            roots.add(index)
        if (op == "rsqrt" or (op == "pow" and _is_literal_power(node))) and index in statistics:
            inverse_roots.add(index)
        # A root stays one when it is moved, kept from zero or multiplied by the scale: flax
        # computes x * (rsqrt(var + eps) * scale).
        if op in _MOVES or op in ("max", "add", "mul"):
            for family in (roots, inverse_roots):
                of_family = [i for i in varying if i in family]
                rest = [i for i in varying if i not in family]
                if of_family and not any(_is_data(i, provenance) for i in rest):
                    family.add(index)
                    known = [scales.get(i) for i in of_family]
                    known += [provenance.held[i] for i in rest]
                    scales[index] = next((one for one in known if one is not None), None)
        # 1 / s
        if op == "div" and node.inputs[1] in roots and node.inputs[0] not in varying:
            inverse_roots.add(index)
    return found


def _is_literal_power(node: Node) -> bool:
    """Tell a power with a negative exponent that is written in the program: x ** -0.5."""
    assert node.eqn is not None
    exponent: Any = node.eqn.invars[1]
    return jaxprs.is_literal(exponent) and float(exponent.val) < 0


def _normalises(node: Node, statistics: set[int], roots: set[int], inverse_roots: set[int]) -> bool:
    """Tell whether a product or a quotient divides data by the root of a statistic."""
    left, right = node.inputs
    if left is None or right is None:
        return False
    if node.op == "div":
        return right in roots and left not in statistics
    return (left in inverse_roots) != (right in inverse_roots) and not (
        left in statistics and right in statistics
    )


def _after_scale_and_shift(
    node: Node, scale: Leaf | None, nodes: Sequence[Node], provenance: Provenance
) -> dict[int, Leaf | None]:
    """Return the last of a normalisation, its scale and its shift, and the leaf that names it."""
    end, shift = node, None
    while len(end.users) == 1:
        following = nodes[end.users[0]]
        leaf = provenance.consumed[following.index]
        if following.frame != node.frame:
            break
        if following.op == "mul" and leaf is not None:
            scale = scale or leaf
        elif following.op == "add" and leaf is not None:
            shift = leaf
        elif following.op not in ("convert_element_type", "reshape", "transpose", "squeeze"):
            break
        end = following
    # Casts and reshapes behind the last parameter belong to what comes next.
    while end is not node and provenance.consumed[end.index] is None:
        end = nodes[next(i for i in end.inputs if i is not None)]
    return {end.index: scale or shift}


def _activations(nodes: Sequence[Node], provenance: Provenance, starts: set[int]) -> set[int]:
    """Return the ends of the elementwise nonlinear regions.

    A region begins at a layer or a normalisation (`starts`) and goes on through functions of that
    value alone; where two regions meet, a new one begins.
    """
    owners = find_owners(nodes, provenance, provenance.consumed)
    source: dict[int, int] = {}  # where the region of a node begins
    bent: set[int] = set()  # what is no linear function of that
    ends: set[int] = set()
    # First pass: grow the regions, and note what is bent in them.
    for node in nodes:
        index, op = node.index, node.op
        if node.frame.apart or not _is_data(index, provenance):
            continue
        data = [i for i in node.inputs if i is not None and _is_data(i, provenance)]
        regions = {source.get(i, -1) for i in data}  # -1: behind no layer
        if index in starts:
            source[index] = index
        elif is_named_activation(node, nodes):
            ends.add(index)
            source[index] = index
        elif op in ELEMENTWISE and len(regions) == 1 and -1 not in regions:
            source[index] = regions.pop()
            products = op in ("mul", "div") and len(data) > 1
            if op in _BENT or op in _TESTS or products or any(i in bent for i in data):
                bent.add(index)
        elif (op == "add" or op in _MOVES) and data and -1 not in regions:
            source[index] = index  # a sum of branches, or a part of a layer
        # Behind a product of regions, as the state of an LSTM is, there is no other region.
        elif op in _SQUASHING and any(owners[i] is not None for i in data):
            source[index] = index
            bent.add(index)
    # Second pass: a bent value that somebody outside of its region reads is the end of one.
    for index in sorted(bent - starts):
        node = nodes[index]
        readers = [nodes[u] for u in node.users if source.get(u) != source[index]]
        if node.op in _TESTS or (node.users and not readers):
            continue
        data = [i for i in node.inputs if i in source]
        if node.op in _LINEAR and len(data) == 1 and data[0] in ends:
            continue  # 1 - z next to z in a gate
        if node.op in ("mul", "div") and len(data) == 1 and _all(readers, "select_n"):
            node = nodes[data[0]]  # what dropout divides by is no part of the activation
        # Squares that are only summed up are a statistic, not an activation.
        is_square = node.op in _SQUARES and len(set(node.inputs)) == 1
        if not (is_square and _all(readers, "reduce_")):
            ends.add(node.index)
    return ends


def _all(readers: Sequence[Node], prefix: str) -> bool:
    return bool(readers) and all(reader.op.startswith(prefix) for reader in readers)


def is_named_activation(node: Node, nodes: Sequence[Node]) -> bool:
    """Tell whether a node is an elementwise call with a derivative rule, such as `jax.nn.relu`."""
    if node.eqn is None or node.op not in _RULES_OF_DERIVATIVES or len(node.eqn.outvars) != 1:
        return False
    (sub,) = jaxprs.sub_jaxprs(node.eqn)
    shapes = {nodes[i].shape for i in node.inputs if i is not None and nodes[i].shape}
    return shapes == {node.shape} and _is_elementwise(sub.jaxpr)


def _is_elementwise(jaxpr: AnyJaxpr) -> bool:
    for eqn in jaxprs.open_jaxpr(jaxpr).eqns:
        subs = jaxprs.sub_jaxprs(eqn)
        name = eqn.primitive.name
        if subs and not all(_is_elementwise(sub.jaxpr) for sub in subs):
            return False
        if not subs and name not in ELEMENTWISE and name != "broadcast_in_dim":
            return False
    return True
