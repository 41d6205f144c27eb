r"""Pictures of a graph: SVG by a layered layout, or text for Graphviz.

The layer of a node is the length of the longest path that leads to it,
$\ell_i = 1 + \max_{j \in \mathrm{parents}(i)} \ell_j$; within a layer nodes stand in the order
of the mean position of their parents (Sugiyama, Tagawa, Toda, 1981), which keeps edges short.
"""

import itertools
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from jaxopt_tut.autodiff.graph import Graph, Node

_WIDTH, _LINE, _GAP_X, _GAP_Y, _MARGIN = 150, 15, 24, 36, 16
_FILL = {"input": "#dbeafe", "const": "#e5e7eb", "folded": "#f3f4f6"}


class _Box(NamedTuple):
    kind: str
    lines: tuple[tuple[str, str], ...]  # text and colour
    members: tuple[int, ...]


def draw(
    graph: Graph,
    values: Sequence[Any] | None = None,
    adjoints: Sequence[Any] | None = None,
    *,
    max_nodes: int = 80,
) -> str:
    r"""Draw a graph as a picture that any browser shows.

    $$\ell_i = 1 + \max_{j \in \mathrm{parents}(i)} \ell_j$$

    Inputs are on top. With values and adjoints each box carries its numbers (an array shows its
    norm). A graph with more than `max_nodes` nodes is folded: neighbouring nodes of one scope
    become one box. No external program is needed.

    Args:
      graph: What `trace` returned.
      values: What `graph.evaluate` returned.
      adjoints: What `graph.backpropagate` returned.
      max_nodes: How many boxes to draw before folding.

    Returns:
      The text of an SVG file, complete in itself.

    Raises:
      ValueError: If values or adjoints are not aligned with the nodes, or `max_nodes` < 1.

    Example:
      >>> from jaxopt_tut import autodiff
      >>> graph = autodiff.trace(lambda x, y: x * y)(3.0, 4.0)
      >>> values = graph.evaluate(3.0, 4.0)
      >>> picture = draw(graph, values, graph.backpropagate(values, 1.0))
      >>> picture.startswith("<svg"), picture.count("<rect"), "= 12" in picture
      (True, 3, True)

    References:
      Sugiyama, Tagawa, Toda (1981), section IV. https://doi.org/10.1109/TSMC.1981.4308636
    """
    if max_nodes < 1:
        raise ValueError(f"draw needs max_nodes >= 1, got max_nodes={max_nodes}.")
    for what, given in (("values", values), ("adjoints", adjoints)):
        if given is not None and len(given) != len(graph.nodes):
            raise ValueError(f"draw needs {len(graph.nodes)} {what}, got {len(given)}.")
    boxes, edges = _boxes(graph, values, adjoints, max_nodes)
    places, width, height = _layout(boxes, edges)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="monospace" font-size="11">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#6b7280"/></marker></defs>',
    ]
    for start, end in edges:
        x0, y0 = places[start][0], places[start][1] + _height(boxes[start])
        x1, y1 = places[end]
        middle = (y0 + y1) / 2
        parts.append(
            f'<path d="M{x0:.0f} {y0:.0f}C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} '
            f'{x1:.0f} {y1:.0f}" fill="none" stroke="#6b7280" marker-end="url(#tip)"/>'
        )
    for box, (x, y) in zip(boxes, places, strict=True):
        parts.append(
            f'<rect x="{x - _WIDTH / 2:.0f}" y="{y:.0f}" width="{_WIDTH}" '
            f'height="{_height(box)}" rx="5" fill="{_FILL.get(box.kind, "#ffffff")}" '
            f'stroke="{"#dc2626" if box.kind == "fallback" else "#374151"}"/>'
        )
        for k, (text, colour) in enumerate(box.lines, 1):
            parts.append(
                f'<text x="{x:.0f}" y="{y + k * _LINE:.0f}" text-anchor="middle" '
                f'fill="{colour}">{escape(_short(text))}</text>'
            )
    return "\n".join([*parts, "</svg>"])


def _boxes(
    graph: Graph, values: Sequence | None, adjoints: Sequence | None, max_nodes: int
) -> tuple[list[_Box], list[tuple[int, int]]]:
    """Make one box a node, or fold runs of neighbours that share a scope."""
    groups = [(node,) for node in graph.nodes]
    depth = 8
    while len(groups) > max_nodes and depth >= 0:
        groups = [tuple(run) for _, run in itertools.groupby(graph.nodes, _scope_at(depth))]
        depth -= 1
    boxes, owner = [], {}
    for place, group in enumerate(groups):
        owner.update(dict.fromkeys((node.index for node in group), place))
        boxes.append(_box(group, values, adjoints))
    edges = {
        (owner[parent], owner[node.index])
        for node in graph.nodes
        for parent in node.parents
        if owner[parent] != owner[node.index]
    }
    return boxes, sorted(edges)


def _scope_at(depth: int) -> Any:
    """Return the key that folds nodes by the first `depth` parts of their scope."""

    def key(node: Node) -> tuple:
        leaf = node.op in ("input", "const")
        parts = () if leaf else tuple(node.name.split("/")[:depth])
        return (leaf, parts)

    return key


def _box(group: tuple[Node, ...], values: Sequence | None, adjoints: Sequence | None) -> _Box:
    members = tuple(node.index for node in group)
    node = group[-1]
    if len(group) > 1:
        what = "arguments" if node.op in ("input", "const") else "operations"
        title = "/".join(_scope_at(8)(node)[1]) or what
        lines = [(title, "#111827"), (f"{len(group)} {what}", "#6b7280")]
        return _Box("folded", tuple(lines), members)
    title = node.name if node.op == "input" else node.op
    lines = [(title or node.op, "#111827")]
    if node.name and node.op != "input":
        lines.append((node.name, "#6b7280"))
    lines.append((f"{np.dtype(node.dtype).name if _is_plain(node) else node.dtype}"
                  f"{list(node.shape)}", "#6b7280"))  # fmt: skip
    if values is not None:
        lines.append((_number(values[node.index]), "#1d4ed8"))
    if adjoints is not None and adjoints[node.index] is not None:
        lines.append((f"adjoint {_number(adjoints[node.index])}", "#b91c1c"))
    kind = "fallback" if node.fallback else node.op
    return _Box(kind, tuple(lines), members)


def _is_plain(node: Node) -> bool:
    return isinstance(node.dtype, np.dtype)


def _number(value: Any) -> str:
    try:
        array = np.asarray(value)
    except TypeError:  # a random key
        return "= key"
    if array.ndim == 0:
        return f"= {array[()]:.6g}" if array.dtype.kind in "fc" else f"= {array[()]}"
    if array.dtype.kind not in "fciub":
        array = array.astype(np.float32)
    return f"norm {np.linalg.norm(array.ravel()):.4g}"


def _short(text: str) -> str:
    return text if len(text) <= 22 else f"…{text[-21:]}"


def _height(box: _Box) -> int:
    return _LINE * len(box.lines) + 8


def _layout(
    boxes: list[_Box], edges: list[tuple[int, int]]
) -> tuple[list[tuple[float, float]], int, int]:
    """Give each box the middle of its top edge: layer by depth, order by parents."""
    parents: list[list[int]] = [[] for _ in boxes]
    for start, end in edges:
        parents[end].append(start)
    depth: list[int] = []
    for above in parents:  # boxes stand in topological order
        depth.append(1 + max((depth[j] for j in above), default=-1))
    layers: list[list[int]] = [[] for _ in range(max(depth, default=0) + 1)]
    for k, level in enumerate(depth):
        layers[level].append(k)
    widest = max(map(len, layers), default=1)
    width = widest * (_WIDTH + _GAP_X) - _GAP_X + 2 * _MARGIN
    places: list[tuple[float, float]] = [(0.0, 0.0)] * len(boxes)
    y = _MARGIN
    for layer in layers:
        means = {k: np.mean([places[j][0] for j in parents[k]] or [0.0]) for k in layer}
        ordered = sorted(layer, key=lambda k: (means[k], k))
        left = (width - len(layer) * (_WIDTH + _GAP_X) + _GAP_X) / 2 + _WIDTH / 2
        for position, k in enumerate(ordered):
            places[k] = (left + position * (_WIDTH + _GAP_X), float(y))
        y += max((_height(boxes[k]) for k in layer), default=0) + _GAP_Y
    return places, width, y - _GAP_Y + _MARGIN


def to_dot(graph: Graph) -> str:
    r"""Write a graph in the language of Graphviz.

    One vertex a node and one edge a parent, $j \to i$ for $j \in \mathrm{parents}(i)$. For large
    graphs, or to restyle a picture; nothing is folded.

    Args:
      graph: What `trace` returned.

    Returns:
      The text of a `.dot` file.

    Example:
      >>> from jaxopt_tut import autodiff
      >>> print(to_dot(autodiff.trace(lambda x: x * x)(3.0)))
      digraph {
        n0 [label="x\nfloat32[]", shape=ellipse];
        n1 [label="mul\nfloat32[]", shape=box];
        n0 -> n1;
        n0 -> n1;
      }
    """
    lines = ["digraph {"]
    for node in graph.nodes:
        title = node.name if node.op == "input" else " ".join(filter(None, (node.op, node.name)))
        text = f"{title}\\n{node.dtype}{list(node.shape)}".replace('"', "'")
        shape = "ellipse" if node.op in ("input", "const") else "box"
        colour = ", color=red" if node.fallback else ""
        lines.append(f'  n{node.index} [label="{text}", shape={shape}{colour}];')
    for node in graph.nodes:
        lines.extend(f"  n{parent} -> n{node.index};" for parent in node.parents)
    return "\n".join([*lines, "}"])
