"""Pictures of a graph: SVG by a layered layout, or text for Graphviz."""

import functools
import itertools
from collections import Counter
from collections.abc import Sequence
from html import escape, unescape
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_tut.autodiff.graph import Graph, Node
from jaxopt_tut.autodiff.layout import lay_out
from jaxopt_tut.autodiff.zero_sites import acting_nodes

_WIDTH, _LINE, _MARGIN = 150, 15, 16
_FILL = {"input": "#dbeafe", "const": "#e5e7eb", "folded": "#f3f4f6"}
_GREY = "#f3f4f6"
_INK, _FAINT, _BLUE, _RED, _ORANGE = "#111827", "#4b5563", "#1d4ed8", "#b91c1c", "#9a3412"
_STROKE = {"fallback": "#dc2626", "acting": _ORANGE}

_ARROW = "#6b7280"
"""Seen on white and on dark: arrows lie on the page, whose colour is not known."""

_ON_DARK = {
    "#ffffff": "#111827", "#dbeafe": "#1e3a5f", "#e5e7eb": "#374151", "#f3f4f6": "#1f2937",
    "#374151": "#9ca3af", "#9ca3af": "#6b7280", "#dc2626": "#f87171", _INK: "#f9fafb",
    _FAINT: "#d1d5db", _BLUE: "#93c5fd", _RED: "#fca5a5", _ORANGE: "#fdba74",
}  # fmt: skip
"""What stands for a colour where dark is preferred. A box brings its background and its letters
along, so that either set can be read on either page."""


class Drawing(str):
    """The text of an SVG, that a notebook shows as the picture.

    It is a string like any other: written to a file or put into a page as it is. In light or dark
    colours, as whoever looks at it prefers.

    Example:
      >>> from jaxopt_tut import autodiff
      >>> picture = draw(autodiff.trace(lambda x: x * x)(3.0))
      >>> picture
      Drawing: Computation graph of 2 nodes
      >>> picture.endswith("</svg>")
      True
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """Return what it shows, in a line."""
        title = self.partition("<title>")[2].partition("</title>")[0]
        return f"Drawing: {unescape(title)}"

    def _repr_svg_(self) -> str:
        """Return the text, as notebooks ask for it."""
        return str(self)


class _Box(NamedTuple):
    kind: str
    lines: tuple[tuple[str, str], ...]  # text and colour
    inner: "_Picture | None" = None


class _Picture(NamedTuple):
    boxes: list[_Box]
    edges: list[tuple[int, int]]
    places: list[tuple[int | float, int | float]]  # the middle of each top edge
    ways: list[list[tuple[int | float, int | float, int | float]]]  # past the boxes between
    width: int | float
    height: int | float


def draw(
    graph: Graph,
    values: Sequence[Any] | None = None,
    adjoints: Sequence[Any] | None = None,
    *,
    max_nodes: int = 80,
) -> Drawing:
    r"""Draw a graph as a picture that any browser shows, in light or in dark colours.

    $$\ell_i = 1 + \max_{j \in \mathrm{parents}(i)} \ell_j$$

    is the row of a box, from the top; an input stands right above what it enters. With values and
    adjoints each box carries its numbers (an array shows its norm). The body of a `scan` stands
    once, in a frame, its values stacked over the steps; in grey the forward part of a `custom_jvp`
    or `custom_vjp` call, which has one derivative as a whole.
    In the graph of a `zero_safe` function the boxes at which a zero met an infinity or a NaN on the
    way back say so. A graph with more than `max_nodes` nodes is folded: bodies are left out, then
    neighbouring nodes of one scope become one box. No external program is needed.

    Args:
      graph: What `trace` returned.
      values: What `graph.evaluate` returned.
      adjoints: What `graph.backpropagate` returned.
      max_nodes: How many boxes to draw before folding.

    Returns:
      The text of an SVG file, complete in itself, which a notebook shows as the picture.

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
    picture = _picture(graph, values, adjoints, max_nodes, _num_boxes(graph) <= max_nodes)
    width, height = picture.width + 2 * _MARGIN, picture.height + 2 * _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="monospace" font-size="11" '
        'role="img" class="computation-graph">',
        f"<title>Computation graph of {len(graph.nodes)} nodes</title>",
        f"<desc>{_written(_in_words(graph))}</desc>",
        f"<style>@media (prefers-color-scheme: dark) {{{_dark_rules()}}}</style>",
        *_marks(picture, _MARGIN, _MARGIN, grey=False),
    ]
    return Drawing("\n".join([*parts, "</svg>"]))


def _dark_rules() -> str:
    """Write the colours on dark as rules that win over the attributes of this picture alone."""
    return " ".join(
        f'.computation-graph [{name}="{light}"] {{{name}: {dark}}}'
        for light, dark in _ON_DARK.items()
        for name in ("fill", "stroke")
    )


def _written(text: str) -> str:
    """Return a text as XML has it, which has no place for control characters."""
    return escape("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text))


def _in_words(graph: Graph) -> str:
    """Say what goes in and comes out, and which operations lie between."""
    nodes = graph.nodes
    inputs = ", ".join(nodes[index].name or "input" for index in graph.inputs[:12])
    counts = Counter(node.op for node in nodes if node.op not in ("input", "const"))
    operations = ", ".join(
        f"{op} {count} times" if count > 1 else op for op, count in counts.items()
    )
    results = " and ".join(f"{nodes[i].dtype}{list(nodes[i].shape)}" for i in graph.outputs[:4])
    return f"From {inputs or 'no inputs'} by {operations or 'nothing'} to {results or 'nothing'}."


def _marks(picture: _Picture, left: int | float, top: int | float, *, grey: bool) -> list[str]:
    """Write arrows, then boxes, then what stands inside of the boxes."""
    boxes, edges, places, ways, *_ = picture
    marks = []
    for (start, end), way in zip(edges, ways, strict=True):
        below = places[start][1] + _height(boxes[start])
        ends = [
            (places[start][0], below, below),
            *way,
            (places[end][0], places[end][1], places[end][1]),
        ]
        line = _line([(left + x, top + y0, top + y1) for x, y0, y1 in ends])
        marks.append(f'<path d="{line}" fill="none" stroke="{_ARROW}"/>')
        # no marker, which is found by its name: several pictures in a page have one page's names
        x, y = left + places[end][0], top + places[end][1]
        corners = f"{x:.0f},{y:.0f} {x - 3.5:.1f},{y - 7:.0f} {x + 3.5:.1f},{y - 7:.0f}"
        marks.append(f'<polygon points="{corners}" fill="{_ARROW}"/>')
    for box, place in zip(boxes, places, strict=True):
        x, y = left + place[0], top + place[1]
        fill = _GREY if grey else _FILL.get(box.kind, "#ffffff")
        stroke = _STROKE.get(box.kind, "#9ca3af" if grey else "#374151")
        marks.append(
            f'<rect x="{x - _width(box) / 2:.0f}" y="{y:.0f}" width="{_width(box):.0f}" '
            f'height="{_height(box):.0f}" rx="5" fill="{fill}" stroke="{stroke}"/>'
        )
        for k, (text, colour) in enumerate(box.lines, 1):
            marks.append(
                f'<text x="{x:.0f}" y="{y + k * _LINE:.0f}" text-anchor="middle" '
                f'fill="{_FAINT if grey else colour}">{_written(_short(text))}</text>'
            )
        if box.inner is not None:
            corner = x - box.inner.width / 2, y + _text_height(box)
            marks.extend(_marks(box.inner, *corner, grey=grey or box.kind.startswith("custom_")))
    return marks


def _line(pieces: list[tuple[int | float, int | float, int | float]]) -> str:
    """Join upright pieces by curves, in the language of SVG."""
    (x_before, _, y_before), *rest = pieces
    parts = [f"M{x_before:.0f} {y_before:.0f}"]
    for x, y0, y1 in rest:
        middle = (y_before + y0) / 2
        curve = (x_before, middle, x, middle, x, y0)
        parts.append("C" + " ".join(f"{number:.0f}" for number in curve))
        if y1 > y0:
            parts.append(f"V{y1:.0f}")
        x_before, y_before = x, y1
    return "".join(parts)


def _num_boxes(graph: Graph) -> int:
    """Count the nodes, those of the bodies too."""
    return len(graph.nodes) + sum(_num_boxes(body) for _, body in _with_body(graph))


def _with_body(graph: Graph) -> list[tuple[Node, Graph]]:
    """List the nodes that show a body: of several results of one call the first."""
    bodies = [(node, node.body) for node in reversed(graph.nodes) if node.body is not None]
    shown = {id(body): (node, body) for node, body in bodies}
    return sorted(shown.values(), key=lambda pair: pair[0].index)


def _picture(
    graph: Graph,
    values: Sequence | None,
    adjoints: Sequence | None,
    max_nodes: int,
    unfold: bool,
    num_loops: int = 0,
) -> _Picture:
    """Make one box a node, or fold runs of neighbours that share a scope.

    Within `num_loops` scans each value has as many axes more, over which bodies are mapped.
    """
    groups = [(node,) for node in graph.nodes]
    depth = 8
    while len(groups) > max_nodes and depth >= 0:
        groups = [tuple(run) for _, run in itertools.groupby(graph.nodes, _scope_at(depth))]
        depth -= 1
    inner = {}
    for node, body in _with_body(graph) if unfold else ():
        look = functools.partial(graph.body_values, node=node)
        for _ in range(num_loops):
            look = jax.vmap(look)
        inside = None if values is None else look(list(values))
        deeper = num_loops + (node.op == "scan")
        inner[node.index] = _picture(body, inside, None, max_nodes, unfold, deeper)
    acting = set()
    if values is not None and adjoints is not None:
        acting = acting_nodes(graph, values, adjoints)
    boxes, owner = [], {}
    for place, group in enumerate(groups):
        owner.update(dict.fromkeys((node.index for node in group), place))
        box = _box(group, values, adjoints, acting)
        boxes.append(box._replace(inner=inner.get(group[0].index)))
    edges = sorted(
        {
            (owner[parent], owner[node.index])
            for node in graph.nodes
            for parent in node.parents
            if owner[parent] != owner[node.index]
        }
    )
    return _Picture(boxes, edges, *lay_out([(_width(b), _height(b)) for b in boxes], edges))


def _scope_at(depth: int) -> Any:
    """Return the key that folds nodes by the first `depth` parts of their scope."""

    def key(node: Node) -> tuple:
        leaf = node.op in ("input", "const")
        parts = () if leaf else tuple(node.name.split("/")[:depth])
        return (leaf, parts)

    return key


def _box(
    group: tuple[Node, ...],
    values: Sequence | None,
    adjoints: Sequence | None,
    acting: set[int],
) -> _Box:
    node = group[-1]
    if len(group) > 1:
        what = "arguments" if node.op in ("input", "const") else "operations"
        title = "/".join(_scope_at(8)(node)[1]) or what
        lines = [(title, _INK), (f"{len(group)} {what}", _FAINT)]
        return _Box("folded", tuple(lines))
    title = node.name if node.op == "input" else node.op
    lines = [(title or node.op, _INK)]
    if node.name and node.op != "input":
        lines.append((node.name, _FAINT))
    lines.append((f"{np.dtype(node.dtype).name if _is_plain(node) else node.dtype}"
                  f"{list(node.shape)}", _FAINT))  # fmt: skip
    if values is not None:
        lines.append((_number(values[node.index]), _BLUE))
    if adjoints is not None and adjoints[node.index] is not None:
        lines.append((f"adjoint {_number(adjoints[node.index])}", _RED))
    if node.index in acting:
        lines.append(("0 × ∞ = 0 backwards", _ORANGE))
    kind = "fallback" if node.fallback else "acting" if node.index in acting else node.op
    return _Box(kind, tuple(lines))


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


def _text_height(box: _Box) -> int:
    return _LINE * len(box.lines) + 8


def _height(box: _Box) -> int | float:
    return _text_height(box) + (0 if box.inner is None else box.inner.height + _MARGIN)


def _width(box: _Box) -> int | float:
    return _WIDTH if box.inner is None else max(_WIDTH, box.inner.width + 2 * _MARGIN)


def to_dot(graph: Graph) -> str:
    r"""Write a graph in the language of Graphviz.

    One vertex a node and one edge a parent, $j \to i$ for $j \in \mathrm{parents}(i)$. For large
    graphs, or to restyle a picture; nothing is folded. The body of a call is a cluster, joined to
    its node by dotted edges; that of a `custom_jvp` or `custom_vjp` call is grey.

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
    return "\n".join(["digraph {", *_dot_lines(graph, "n", "  ", ""), "}"])


def _dot_lines(graph: Graph, prefix: str, indent: str, style: str) -> list[str]:
    """Write vertices, clusters of bodies, and edges; a dotted edge leads from body to call."""
    lines = []
    for node in graph.nodes:
        title = node.name if node.op == "input" else " ".join(filter(None, (node.op, node.name)))
        name = title.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ")
        text = f"{name}\\n{node.dtype}{list(node.shape)}"
        shape = "ellipse" if node.op in ("input", "const") else "box"
        colour = ", color=red" if node.fallback else style
        lines.append(f'{indent}{prefix}{node.index} [label="{text}", shape={shape}{colour}];')
    for node, body in _with_body(graph):
        vertex = f"{prefix}{node.index}"
        grey = style or (", color=gray" if node.op.startswith("custom_") else "")
        lines.append(f'{indent}subgraph cluster_{vertex} {{ label="body of {node.op}";')
        lines.extend(_dot_lines(body, f"{vertex}_", f"{indent}  ", grey))
        lines.append(f"{indent}}}")
        lines.extend(
            f"{indent}{vertex}_{k} -> {vertex} [style=dotted];" for k in sorted({*body.outputs})
        )
    for node in graph.nodes:
        lines.extend(
            f"{indent}{prefix}{parent} -> {prefix}{node.index};" for parent in node.parents
        )
    return lines
