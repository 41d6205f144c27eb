"""The layers of a network: each weight with what it makes, and how it is joined to the others."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jaxopt_tut.taps.axes import CONTRACTIONS
from jaxopt_tut.taps.graph import Node, Place
from jaxopt_tut.taps.kinds import ELEMENTWISE, REARRANGING, is_named_activation
from jaxopt_tut.taps.provenance import Origin, Provenance
from jaxopt_tut.taps.site import Tapped
from jaxopt_tut.taps.uses import Use, Uses, stops_gradient


@dataclass(frozen=True)
class Layer:
    r"""A contraction of data with a weight, $z = W x + b$.

    Attributes:
      name: Of its pre-activation site: the path of the weight, `#n` behind it at the n-th use.
      param: The path of the weight.
      pre_activation: $z$.
      activation: $\phi(z)$, behind a normalisation if there is one; None where no nonlinearity
        follows.
      bend: What the nonlinearity is a function of: $z$, or the normalised $z$.
      input_place: Where to tap $x$, if an equation makes it.
      input_index: Which input of the program $x$ is, if it is one.
      fan_in: Number of entries of $x$ in one sum.
      fan_out: Number of units.
      unit_axes: Axes of the weight that count units, steps not counted.
      num_step_axes: How many leading axes of $z$ count the steps of scans.
      num_weight_steps: How many leading axes of the weight do.
      num_uses: How many layers share the weight; a scan over a fixed weight counts as two.
      depth: Number of layers on the longest way from the data to here, this one included.
      is_first: Whether no layer lies upstream.
      is_last: Whether no layer lies downstream.
      is_normalized: Whether a normalisation of $z$ alone follows, so that the scale of $W$ has no
        effect.
      looks_up: Whether $x$ is made of what is looked up in a parameter, as embeddings are.
      is_elementwise: Whether $x$ is made of upstream layers, normalisations and data by sums and
        elementwise functions, so that its size follows from theirs.
      stops_gradient: Whether a `stop_gradient` cuts the nonlinearity off from its input.
      use: How the weight is used.
    """

    name: str
    param: str
    pre_activation: Tapped
    activation: Tapped | None
    bend: Tapped
    input_place: Place | None
    input_index: int | None
    fan_in: int
    fan_out: int
    unit_axes: tuple[int, ...]
    num_step_axes: int
    num_weight_steps: int
    num_uses: int
    depth: int
    is_first: bool
    is_last: bool
    is_normalized: bool
    looks_up: bool
    is_elementwise: bool
    stops_gradient: bool
    use: Use


def find_layers(
    nodes: Sequence[Node],
    provenance: Provenance,
    found: Sequence[Tapped],
    shapes: Mapping[str, tuple[int, ...]],
) -> list[Layer]:
    """List the sites of kind `"pre_activation"` that a contraction with a parameter makes.

    `shapes` are those of the parameters; one that the function closes over has the shape it has in
    the contraction.
    """
    index_of = {node.place: node.index for node in nodes if node.place is not None}
    at = {index_of[tapped.place]: tapped for tapped in found}
    ends = {i: tapped for i, tapped in at.items() if tapped.site.kind == "pre_activation"}
    contractions = {
        end: contraction
        for end in ends
        if (contraction := _contraction(nodes[end], nodes, provenance, ends)) is not None
    }
    norms = {i for i, tapped in at.items() if tapped.site.kind == "norm"}
    looked_at = Uses(nodes, provenance)
    graph = _Wiring(nodes, provenance, set(contractions), norms)
    behind = _activations(at, contractions, graph)
    uses = Counter(ends[end].site.param for end in contractions)
    layers = []
    for end, contraction in contractions.items():
        site = ends[end].site
        node = nodes[contraction]
        data, weight = _operands(node, provenance)
        num_steps = len(node.frame.lengths)
        weight_steps = min(_num_steps(weight, nodes, provenance), num_steps)
        shape = nodes[weight].shape
        outputs, shared = _output_and_shared_axes(node, weight, len(shape))
        fan_out = math.prod(shape[axis] for axis in outputs)
        num_matrices = math.prod(shape[axis] for axis in shared)
        fan_in = math.prod(shape) // max(fan_out * num_matrices, 1)
        leaf = shapes.get(site.param or "", shape)[weight_steps:]
        activation, bend = behind[end]
        is_cut = activation is not None and stops_gradient(
            nodes, index_of[bend.place], index_of[activation.place]
        )
        layers.append(
            Layer(
                name=site.name,
                param=site.param or "",
                pre_activation=ends[end],
                activation=activation,
                bend=bend,
                input_place=nodes[data].place,
                input_index=data if nodes[data].op == "input" else None,
                fan_in=fan_in,
                fan_out=fan_out,
                unit_axes=_unit_axes(leaf, shape, outputs, fan_in),
                num_step_axes=num_steps,
                num_weight_steps=weight_steps,
                num_uses=uses[site.param] + (num_steps > weight_steps),
                depth=graph.depth[end],
                is_first=graph.depth[end] == 1,
                is_last=not graph.feeds[end],
                is_normalized=graph.is_normalized(end),
                looks_up=graph.looks_up[data],
                is_elementwise=graph.is_elementwise[data] and not node.frame.lengths,
                stops_gradient=is_cut,
                use=looked_at.of(end, contraction, weight_steps),
            )
        )
    return layers


def _contraction(
    end: Node, nodes: Sequence[Node], provenance: Provenance, ends: Collection[int]
) -> int | None:
    """Walk from a pre-activation back over its bias to the one contraction behind it."""
    node = end
    while node.op not in CONTRACTIONS:
        data = [i for i in node.inputs if i is not None and provenance.origins[i] is Origin.DATA]
        if len(data) != 1 or data[0] in ends:
            return None  # a sum of contractions: they are layers themselves
        node = nodes[data[0]]
    return node.index if provenance.consumed[node.index] is not None else None


def _operands(node: Node, provenance: Provenance) -> tuple[int, int]:
    """Return the data and the weight that meet in a contraction."""
    left, right = (i for i in node.inputs[:2] if i is not None)
    if provenance.origins[left] is Origin.PARAMETER:
        return right, left
    return left, right


def _num_steps(index: int, nodes: Sequence[Node], provenance: Provenance) -> int:
    """Count the scans that cut a weight into one part a step."""
    count = 0
    while True:
        node = nodes[index]
        count += node.op == "step"
        inputs = [
            i for i in node.inputs if i is not None and provenance.held[i] == provenance.held[index]
        ]
        if not inputs:
            return count
        index = inputs[0]


def _output_and_shared_axes(node: Node, weight: int, rank: int) -> tuple[list[int], Sequence[int]]:
    """Return the axes of the weight operand that are of the units, and of whole matrices.

    A contraction sums over neither; it has the latter, of an ensemble, in common with the data.
    """
    assert node.eqn is not None
    numbers = node.eqn.params["dimension_numbers"]
    if node.op == "conv_general_dilated":
        return [numbers.rhs_spec[0]], ()
    side = list(node.inputs[:2]).index(weight)
    summed, shared = numbers[0][side], numbers[1][side]
    return [axis for axis in range(rank) if axis not in (*summed, *shared)], shared


def _unit_axes(
    leaf: tuple[int, ...], operand: tuple[int, ...], outputs: Sequence[int], fan_in: int
) -> tuple[int, ...]:
    """Find the output axes on the leaf, which may have been reshaped into the operand."""
    if leaf == operand:
        return tuple(outputs)
    for cut in range(len(leaf) + 1):
        if math.prod(leaf[:cut]) == fan_in:
            return tuple(range(cut, len(leaf)))
        if math.prod(leaf[cut:]) == fan_in:
            return tuple(range(cut))
    return tuple(range(len(leaf)))[-1:]


def _activations(
    at: Mapping[int, Tapped], contractions: Mapping[int, int], graph: "_Wiring"
) -> dict[int, tuple[Tapped | None, Tapped]]:
    """Give each layer the first activation behind it, and what that is a function of."""
    behind: dict[int, tuple[Tapped | None, Tapped]] = {
        i: (None, tapped) for i, tapped in at.items() if i in contractions
    }
    for index, tapped in at.items():
        if tapped.site.kind != "activation":
            continue
        for source in [i for i in graph.before[index] if i in at]:
            owners = [source] if source in behind else graph.before_norm.get(source, ())
            for owner in owners:
                if owner in behind and behind[owner][0] is None:
                    behind[owner] = tapped, at[source]
    return behind


def require_layers(
    caller: str, layers: Sequence[Layer], left: Mapping[str, str] | None = None
) -> None:
    """Refuse a function in which no weight meets data, or only where `left` says why not."""
    if not layers:
        reason = "; ".join(f"{name!r}: {why}" for name, why in (left or {}).items())
        raise ValueError(
            f"{caller} found no layer: " + (reason or "no weight among the parameters meets data.")
        )


def require_examples(caller: str, layers: Sequence[Layer]) -> None:
    """Refuse a batch of one example, which has no variance."""
    for site, _ in (layer.pre_activation for layer in layers):
        if site.batch_axes and all(site.shape[axis] == 1 for axis in site.batch_axes):
            raise ValueError(
                f"{caller} needs a batch of at least two examples, got one at {site.name!r}."
            )


class _Wiring:
    """What lies up and down the program from each node.

    Attributes:
      before: For each node the nearest layers, normalisations and inputs upstream.
      before_norm: The same for each normalisation, seen from its input.
      depth: Number of layers upstream, on the longest way.
      feeds: Whether a layer lies downstream.
      looks_up: Whether a lookup in a parameter lies upstream, and no layer between.
      is_elementwise: Whether nothing but sums and elementwise functions lies between a node and
        what is `before` it.
    """

    def __init__(
        self, nodes: Sequence[Node], provenance: Provenance, layers: set[int], norms: set[int]
    ):
        self.nodes, self.layers, self.norms = nodes, layers, norms
        self.before: list[frozenset[int]] = []
        self.before_norm: dict[int, frozenset[int]] = {}
        self.depth: list[int] = []
        self.is_elementwise: list[bool] = []
        self.looks_up: list[bool] = []
        self.meets = [
            node.op in CONTRACTIONS and provenance.consumed[node.index] is not None
            for node in nodes
        ]
        is_data = [origin is Origin.DATA for origin in provenance.origins]
        for node in nodes:
            data = [i for i in node.inputs if i is not None and is_data[i]]
            sources = frozenset().union(*(self.before[i] for i in data))
            depth = max((self.depth[i] for i in data), default=0) + (node.index in layers)
            if node.index in norms:
                self.before_norm[node.index] = sources
            starts = not data or node.index in layers or node.index in norms
            self.before.append(
                frozenset([node.index] if is_data[node.index] else []) if starts else sources
            )
            self.depth.append(depth)
            is_lookup = node.op == "gather" and provenance.consumed[node.index] is not None
            comes_of_one = any(self.looks_up[i] for i in data) and node.index not in layers
            self.looks_up.append(is_lookup or comes_of_one)
            self.is_elementwise.append(starts or is_lookup or self._stays_elementwise(node, data))
        self.feeds = [False] * len(nodes)
        for node in reversed(nodes):
            if self.feeds[node.index] or self.meets[node.index]:
                for i in node.inputs:
                    if i is not None:
                        self.feeds[i] = True

    def _stays_elementwise(self, node: Node, data: Sequence[int]) -> bool:
        if not all(self.is_elementwise[i] for i in data):
            return False
        if node.op in ("mul", "div", "select_n") and len({self.before[i] for i in data}) > 1:
            return False  # a gate: the product of two signals
        return (
            node.op in ELEMENTWISE
            or node.op in REARRANGING
            or is_named_activation(node, self.nodes)
        )

    def is_normalized(self, layer: int) -> bool:
        """Tell whether all that becomes of a layer goes through a normalisation of it alone."""
        own = {norm for norm in self.norms if self.before_norm[norm] == {layer}}
        if not own:
            return False
        reached, todo = set(), [layer]
        while todo:
            for user in self.nodes[todo.pop()].users:
                if user in reached or user in own:
                    continue
                if self.meets[user] or user in self.norms:
                    return False
                reached.add(user)
                todo.append(user)
        return True
