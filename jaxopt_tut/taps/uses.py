"""How a layer uses its weight: as it is or made over, once or again and again, and to what end."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.taps.axes import CONTRACTIONS
from jaxopt_tut.taps.graph import Node, Place
from jaxopt_tut.taps.kinds import REARRANGING
from jaxopt_tut.taps.provenance import Origin, Provenance

_SAME_VALUES = REARRANGING | {"convert_element_type", "reduce_precision", "copy", "copy_p"}
_PARTS = {"step", "dynamic_slice", "gather", "concatenate"}


class Use(NamedTuple):
    """What a contraction makes of its weight.

    Attributes:
      scale: The constant that $z$ is multiplied by before anything reads it, as in the NTK
        parametrisation; 1 where the product is multiplied with data, as the queries of attention.
      is_plain: Whether the matrix in the contraction has the entries of the leaf.
      matrix_place: Where to tap that matrix if it has not.
      is_recurrent: Whether $x$ depends on what the same weight made before.
      is_derivative: Whether $x$ is a tangent or a cotangent: a derivative within the function.
      loop: The path of the scan over whose steps the weight is shared; empty without one.
    """

    scale: float
    is_plain: bool
    matrix_place: Place | None
    is_recurrent: bool
    is_derivative: bool
    loop: tuple[int, ...]


class Uses:
    """Looks at the uses of weights in a graph."""

    def __init__(self, nodes: Sequence[Node], provenance: Provenance):
        """Number the weights, and find which of them lie upstream of each node."""
        self.nodes, self.provenance = nodes, provenance
        self.sources: dict[int, int] = {}  # for each contraction its weight, and of that a number
        self.weights: dict[int, int] = {}
        self.derivatives: set[int] = set()
        numbers: dict[int, int] = {}
        seen: set[tuple[int, str]] = set()
        for node in nodes:
            if node.op not in CONTRACTIONS or provenance.consumed[node.index] is None:
                continue
            weight = next((i for i in node.inputs if i is not None and not self._is_data(i)), None)
            if weight is None:
                continue
            source = self._source(weight)
            self.weights[node.index] = weight
            self.sources[node.index] = numbers.setdefault(source, len(numbers))
            # JAX marks what it derives; the first use under a mark is the value itself.
            key = (source, node.marks)
            if "transpose(" in node.marks or ("jvp(" in node.marks and key in seen):
                self.derivatives.add(node.index)
            seen.add(key)
        self.upstream = self._upstream()

    def of(self, end: int, contraction: int, num_weight_steps: int) -> Use:
        """Describe the use of a weight, which so many scans cut into one part a step."""
        node = self.nodes[contraction]
        weight = self.nodes[self.weights[contraction]]
        is_plain = self._is_plain(weight)
        is_shared = len(node.frame.lengths) > num_weight_steps
        # In a loop over a shared weight there would be one copy a step.
        can_tap = not is_plain and len(weight.frame.lengths) == num_weight_steps
        data = [i for i in node.inputs if i is not None and self._is_data(i)]
        bit = 1 << self.sources[contraction]
        return Use(
            self._scale(end),
            is_plain,
            weight.place if can_tap else None,
            any(self.upstream[i] & bit for i in data) and (is_shared or not node.frame.lengths),
            contraction in self.derivatives,
            node.frame.loop if is_shared else (),
        )

    def _is_data(self, index: int) -> bool:
        return self.provenance.origins[index] is Origin.DATA

    def _source(self, index: int) -> int:
        """Walk from a matrix back over what leaves its entries as they are."""
        node = self.nodes[index]
        while node.op in _SAME_VALUES - {"slice", "split"} and node.inputs[0] is not None:
            node = self.nodes[node.inputs[0]]
        return node.index

    def _is_plain(self, node: Node) -> bool:
        """Tell whether a matrix holds the entries of leaves, be it some or of several."""
        while node.op in _SAME_VALUES | _PARTS and node.inputs[0] is not None:
            node = self.nodes[node.inputs[0]]
        return node.op in ("input", "constant")

    def _upstream(self) -> list[int]:
        """Set one bit for each weight that a node depends on by way of data."""
        upstream = [0] * len(self.nodes)
        for _ in range(2):  # the second sweep knows what a carry becomes after a step
            for node in self.nodes:
                found = 0
                for i in node.inputs:
                    if i is not None and self._is_data(i):
                        found |= upstream[i]
                if node.index in self.sources:
                    found |= 1 << self.sources[node.index]
                if node.loop_end is not None:
                    found |= upstream[node.loop_end]
                upstream[node.index] = found
        return upstream

    def _scale(self, end: int) -> float:
        """Multiply the constants behind a pre-activation."""
        node, scale = self.nodes[end], 1.0
        while len(node.users) == 1:
            user = self.nodes[node.users[0]]
            if user.op in ("mul", "div"):
                at = user.inputs.index(node.index)
                factor = self._constant(user, 1 - at)
                if factor is None or (user.op == "div" and (at == 1 or factor == 0)):
                    break
                scale *= factor if user.op == "mul" else 1 / factor
            elif user.op not in _SAME_VALUES:
                break
            node = user
        # The product of two signals is no parametrisation: queries are scaled by the root of their
        # size in front of the keys.
        users = [self.nodes[i] for i in node.users]
        meets_data = any(
            user.op in CONTRACTIONS and self.provenance.consumed[user.index] is None
            for user in users
        )
        return 1.0 if meets_data else scale

    def _constant(self, node: Node, operand: int) -> float | None:
        """Return the value of an operand that is one number and the same for all inputs."""
        index = node.inputs[operand]
        if index is None:
            atom: Any = node.eqn.invars[operand] if node.eqn else None
            value = getattr(atom, "val", None)
            return None if value is None or np.size(value) != 1 else float(np.ravel(value)[0])
        source = self.nodes[index]
        if self.provenance.origins[index] is not Origin.CONSTANT:
            return None
        if source.op == "constant":
            values = np.ravel(np.asarray(source.value))
            return float(values[0]) if values.size == 1 else None
        if source.op == "broadcast_in_dim" or (
            source.op in _SAME_VALUES and math.prod(source.shape) == 1
        ):
            return self._constant(source, 0)
        if source.eqn is None or source.shape or len(source.eqn.outvars) != 1:
            return None
        # Arithmetic on constants, as in 1 / sqrt(n), is done here, by the equation itself.
        values = [self._constant(source, k) for k in range(len(source.inputs))]
        if any(value is None for value in values):
            return None
        with jax.ensure_compile_time_eval():
            operands: list[Any] = list(source.eqn.invars)
            dtypes = [atom.aval.dtype for atom in operands]
            arrays = [jax.numpy.asarray(v, d) for v, d in zip(values, dtypes, strict=True)]
            return float(jaxprs.bind(source.eqn, arrays)[0])


def stops_gradient(nodes: Sequence[Node], start: int, end: int) -> bool:
    """Tell whether a `stop_gradient` lies on all ways from one node to another."""
    todo, seen = [end], set()
    while todo:
        index = todo.pop()
        if index == start:
            return False
        node = nodes[index]
        if index in seen or index < start or node.op == "stop_gradient":
            continue
        seen.add(index)
        todo += [i for i in node.inputs if i is not None]
    return True
