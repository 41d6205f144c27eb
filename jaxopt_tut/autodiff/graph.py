r"""The computation graph of a function, and the tutorial's algorithms on it.

Nodes $v_1, \dots, v_N$ stand in topological order. Evaluation goes through them once,
$v_i = f_i(v_{\mathrm{parents}(i)})$; backpropagation once the other way,

$$\bar v_N = 1, \qquad \bar v_i = \sum_{j \in \mathrm{children}(i)}
  \bar v_j\, \frac{\partial v_j}{\partial v_i},$$

so each adjoint is computed once and fan-out sums.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jaxopt_tut import jaxprs, trees
from jaxopt_tut.autodiff import loops, registry
from jaxopt_tut.autodiff.program import Program, Step, as_arrays, flatten, is_inexact, traced
from jaxopt_tut.autodiff.zeros import filled
from jaxopt_tut.blocks import Block, shown
from jaxopt_tut.types import PyTree, Shape


@shown
class Node(NamedTuple):
    """One value of the computation.

    Attributes:
      index: Its place in `Graph.nodes`.
      op: The primitive that computes it; `"input"` or `"const"` for a leaf.
      name: For an input the name of the argument's leaf, `"params/dense/kernel"`; otherwise the
        `named_scope` path, with the name of the function for a call; empty without either.
      parents: Indices of the nodes it is computed from. A number written into the program is
        part of the operation, not a parent.
      shape: Shape of the value.
      dtype: Its dtype.
      fallback: True when no rule is written for `op` and JAX's own one is used instead.
      body: For a `scan`, the graph of one step; for another call kept as one node, what it
        calls; None otherwise.
    """

    index: int
    op: str
    name: str
    parents: tuple[int, ...]
    shape: Shape
    dtype: Any
    fallback: bool = False
    body: "Graph | None" = None

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return one line, as a graph has it of each."""
        return f"v{self.index} = {_node_text(self)}", []


_MOST_NODES = 20
"""Of the text of a graph."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Graph(Block):
    """The computation graph that `trace` returns.

    Attributes:
      program: The steps in execution order, in the form the engine runs.
      input_names: The name of each input leaf.
      in_tree: Structure of the positional arguments.
      out_tree: Structure of the result.
    """

    program: Program
    input_names: tuple[str, ...]
    in_tree: Any
    out_tree: Any

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return a line a node: its operation, its name, what it is computed from, its shape."""
        nodes = self.nodes
        rows = [(f"v{node.index}", _node_text(node)) for node in nodes]
        if len(rows) > _MOST_NODES:
            half = _MOST_NODES // 2
            rows = [*rows[:half], ("...", f"{len(rows) - 2 * half} more"), *rows[-half:]]
        calls = sum(node.fallback for node in nodes)
        title = f"Graph of {len(nodes)} nodes, {len(self.inputs)} of them inputs"
        outputs = ", ".join(f"v{index}" for index in self.outputs[:8])
        rows.append(("result", outputs + (", ..." if len(self.outputs) > 8 else "")))
        return f"{title}, {calls} by JAX's own rule" if calls else title, rows

    _repr_html_ = None  # type: ignore[assignment]  # a picture says more than a table

    def _repr_svg_(self) -> str:
        """Return the picture of `draw`, as notebooks show it."""
        from jaxopt_tut.autodiff.drawing import draw  # which imports this module

        return draw(self)

    def __copy__(self) -> "Graph":
        """Return the graph itself: nobody writes to it."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Graph":
        """Return the graph itself: JAX's equations, of which it is made, cannot be copied."""
        return self

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled, as JAX's equations do in words of their own."""
        raise TypeError(
            "a Graph cannot be pickled, as JAX's equations cannot: pickle the function, and trace "
            "it where it is read."
        )

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the input nodes, in the order of the arguments' leaves."""
        return self.program.inputs

    @property
    def outputs(self) -> tuple[int, ...]:
        """Indices of the output nodes, in the order of the result's leaves."""
        return self.program.outputs

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, parents before children; an operation with two results has two nodes."""
        program = self.program
        nodes: list[Any] = [None] * program.num_nodes
        for index, name in zip(program.inputs, self.input_names, strict=True):
            aval = program.avals[index]
            nodes[index] = Node(index, "input", name, (), aval.shape, aval.dtype)
        for index in program.constants:
            aval = program.avals[index]
            nodes[index] = Node(index, "const", "", (), aval.shape, aval.dtype)
        for step in program.steps:
            parents = tuple(i for i in step.operands if i >= 0)
            name, fallback, body = _call_name(step), is_fallback(step), _body(step)
            for index in step.outputs:
                aval = program.avals[index]
                nodes[index] = Node(
                    index, step.op, name, parents, aval.shape, aval.dtype, fallback, body
                )
        return tuple(nodes)

    def evaluate(self, *args: PyTree) -> list[Any]:
        r"""Compute the value of every node, parents first.

        $$v_i = f_i(v_{\mathrm{parents}(i)})$$

        Args:
          *args: Arguments of the traced function, of the same shapes.

        Returns:
          The values, aligned with `nodes`.

        Raises:
          ValueError: If the arguments have another structure or other shapes.

        Example:
          >>> graph = trace(lambda x, y: x * y)(3.0, 4.0)
          >>> [float(value) for value in graph.evaluate(3.0, 4.0)]
          [3.0, 4.0, 12.0]
        """
        flat = self._flat(args, "evaluate", self.in_tree)
        return loops.evaluate(self.program, flat)[: self.program.num_nodes]

    def backpropagate(self, values: Sequence[Any], cotangent: PyTree) -> list[Any]:
        r"""Compute the adjoint of every node, children first.

        $$\bar v_i = \sum_{j \in \mathrm{children}(i)} \bar v_j\,
          \frac{\partial v_j}{\partial v_i}$$

        Args:
          values: What `evaluate` returned.
          cotangent: The adjoint of the result, of its structure; `1.0` for a scalar function.

        Returns:
          The adjoints, aligned with `nodes`: zeros for a node that the result does not depend
          on, None for an integer or boolean node.

        Raises:
          ValueError: If there are more or fewer values than nodes, or the cotangent has another
            structure or another shape than the result.

        Example:
          >>> graph = trace(lambda x, y: x * y)(3.0, 4.0)
          >>> values = graph.evaluate(3.0, 4.0)
          >>> [float(adjoint) for adjoint in graph.backpropagate(values, 1.0)]
          [4.0, 3.0, 1.0]
        """
        program = self.program
        cotangents = self._flat((cotangent,), "backpropagate", self.out_tree, whole=False)
        env = [*self._all(values, "backpropagate"), *program.literals]
        adjoints = loops.backpropagate(program, env, None, cotangents, program.floating)
        return self._filled(adjoints)

    def jvp(self, values: Sequence[Any], tangents: PyTree) -> list[Any]:
        r"""Compute the tangent of every node, parents first.

        $$\dot v_i = \sum_{j \in \mathrm{parents}(i)}
          \frac{\partial v_i}{\partial v_j}\, \dot v_j$$

        Args:
          values: What `evaluate` returned.
          tangents: A tuple with one tangent an argument, of the arguments' structure; the
            tangent of an integer leaf is ignored.

        Returns:
          The tangents, aligned with `nodes`, with zeros and None as in `backpropagate`.

        Raises:
          ValueError: If there are more or fewer values than nodes, or the tangents have another
            structure or shape than the arguments.

        Example:
          >>> graph = trace(lambda x, y: x * y)(3.0, 4.0)
          >>> values = graph.evaluate(3.0, 4.0)
          >>> [float(tangent) for tangent in graph.jvp(values, (1.0, 0.0))]
          [1.0, 0.0, 4.0]
        """
        program = self.program
        flat = self._flat(tuple(tangents), "jvp", self.in_tree)
        env = [*self._all(values, "jvp"), *program.literals]
        return self._filled(loops.pushforward(program, env, flat))

    def body_values(self, values: Sequence[Any], node: Node) -> list[Any]:
        r"""Compute the values inside a call that is one node; those of a `scan` come stacked.

        $$v_{i,t} = f_i(v_{\mathrm{parents}(i),\, t}), \qquad t = 1, \dots, T$$

        To look into a loop. It runs the body once more, and holds all $T$ values of each of its
        nodes.

        Args:
          values: What `evaluate` returned.
          node: A node of this graph with a `body`.

        Returns:
          The values, aligned with `node.body.nodes`; for a `scan` each has one axis more, the
          steps, in the order of the `xs` it reads.

        Raises:
          ValueError: If the node has no body.

        Example:
          >>> import jax
          >>> double = lambda x, _: (2 * x, None)
          >>> graph = trace(lambda x: jax.lax.scan(double, x, None, length=3)[0])(1.0)
          >>> node = graph.nodes[-1]
          >>> inner = graph.body_values(graph.evaluate(1.0), node)
          >>> [(n.op, v.tolist()) for n, v in zip(node.body.nodes, inner)]
          [('input', [1.0, 2.0, 4.0]), ('mul', [2.0, 4.0, 8.0])]
        """
        if node.body is None:
            raise ValueError(f"body_values needs a node with a body, got {describe(node)}.")
        body = node.body.program
        step = next(step for step in self.program.steps if node.index in step.outputs)
        env = [*self._all(values, "body_values"), *self.program.literals]
        inputs = [env[i] for i in step.operands]
        if step.kind != "scan":
            return loops.evaluate(body, inputs)[: body.num_nodes]
        parts = jaxprs.scan_parts(step.eqn)
        consts, carry, xs = parts.split_inputs(inputs)

        def run(carry: list, x: list) -> tuple[list, list]:
            inside = loops.evaluate(body, [*consts, *carry, *x])
            return [inside[i] for i in body.outputs[: parts.num_carry]], inside[: body.num_nodes]

        return jax.lax.scan(run, list(carry), list(xs), length=parts.length, reverse=parts.reverse)[
            1
        ]

    def _filled(self, derivatives: Sequence[Any]) -> list[Any]:
        """Put zeros where the engine says nothing."""
        return filled(derivatives, self.program.avals, self.program.floating)

    def _all(self, values: Sequence[Any], caller: str) -> Sequence[Any]:
        """Refuse more or fewer values than nodes."""
        if len(values) != self.program.num_nodes:
            raise ValueError(
                f"{caller} needs {self.program.num_nodes} values, as evaluate returns them, got "
                f"{len(values)}."
            )
        return values

    def _flat(self, given: tuple, caller: str, tree: Any, *, whole: bool = True) -> list[Any]:
        """Flatten arguments, tangents or a cotangent and check them against the graph."""
        expected = self.inputs if whole else self.outputs
        leaves, given_tree = jax.tree.flatten(given if whole else given[0])
        if given_tree != tree:
            raise ValueError(f"{caller} needs the structure {tree}, got {given_tree}.")
        for leaf, index in zip(leaves, expected, strict=True):
            shape = self.program.avals[index].shape
            if np.shape(leaf) != shape and is_inexact(self.program.avals[index]):
                raise ValueError(
                    f"{caller} needs the shape {shape} at {describe(self.nodes[index])}, "
                    f"got {np.shape(leaf)}."
                )
        avals = [self.program.avals[index] for index in expected]
        return as_arrays(leaves, avals)


def trace(
    fun: Callable, *, enter: Sequence[str] = ("jit", "remat"), strict: bool = False
) -> Callable[..., Graph]:
    r"""Return the computation graph of a function.

    $$v_i = f_i(v_{\mathrm{parents}(i)}), \qquad i = 1, \dots, N$$

    To see what a function computes, and what reverse mode does with it. Tracing runs the Python
    code of `fun` once with abstract values. A `custom_jvp` or `custom_vjp` call is always one
    node, because its derivative is its own rule and not that of its parts; so is a `scan`, whose
    values come stacked.

    Args:
      fun: A function of pytrees of arrays.
      enter: Which calls are replaced by their contents: any of `"jit"` and `"remat"`. A call
        that is not entered is one node.
      strict: Whether to refuse primitives without a rule of this library instead of using JAX's
        rule for them.

    Returns:
      A function that takes the arguments of `fun` and returns its `Graph`. Arguments given by
      keyword are held fixed, and may be anything: their arrays are constants of the graph.

    Raises:
      ValueError: If `enter` names something else, if `fun` has effects (prints, callbacks), or
        in strict mode if a node has no rule; the message names the node.

    Example:
      >>> import jax.numpy as jnp
      >>> def worked_example(x, y):
      ...     p = x * y  # once: what is written twice is two nodes
      ...     return jnp.sin(p) + jnp.exp(p)
      >>> [(node.op, node.parents) for node in trace(worked_example)(1.0, 2.0).nodes[2:5]]
      [('mul', (0, 1)), ('sin', (2,)), ('exp', (2,))]
    """
    if not set(enter) <= {"jit", "remat"}:
        raise ValueError(f"trace can enter 'jit' and 'remat' calls, got enter={enter!r}.")

    def graph_at(*args: PyTree, **kwargs: Any) -> Graph:
        bound = functools.partial(fun, **kwargs) if kwargs else fun
        program, out_tree = traced(bound, args, enter=enter)
        graph = Graph(program, _input_names(bound, args), jax.tree.structure(args), out_tree)
        if strict:
            refuse_fallbacks(graph)
        return graph

    return graph_at


def refuse_fallbacks(graph: Graph) -> None:
    """Raise for the first node that has no rule of this library, inside calls too."""
    for node in graph.nodes:
        if node.fallback:
            raise ValueError(
                f"trace(strict=True) needs a rule for every primitive, got none for "
                f"{describe(node)}; add one with defvjp."
            )
        if node.body is not None and not node.op.startswith("custom_"):
            refuse_fallbacks(node.body)


def _node_text(node: Node) -> str:
    parents = ", ".join(f"v{index}" for index in node.parents[:6])
    more = ", ..." if len(node.parents) > 6 else ""
    what = " ".join(filter(None, (node.op, node.name)))
    of = f"({parents}{more})" if node.parents else ""
    return f"{what}{of}  {node.dtype}[{','.join(map(str, node.shape))}]"


def describe(node: Node) -> str:
    """Name a node in a sentence: its index, its operation and, where it has one, its name."""
    return f"node {node.index} ({node.op}{f' {node.name!r}' if node.name else ''})"


def is_fallback(step: Step) -> bool:
    """Tell whether the engine asks JAX for the derivative of a step."""
    return (
        step.primitive not in registry.RULES
        and step.primitive not in registry.CONSTANT
        and step.kind not in registry.CALLS
        and any(is_inexact(var.aval) for var in step.eqn.outvars)
        and any(is_inexact(atom.aval) for atom in step.eqn.invars)
    )


def _call_name(step: Step) -> str:
    if step.kind == "primitive":
        return step.scope
    name = jaxprs.call_name(step.eqn)
    own = "" if name == step.op else name.strip("<>")
    return "/".join(part for part in (step.scope, own) if part)


def _body(step: Step) -> Graph | None:
    if step.kind not in ("scan", "jit", "remat", "custom_jvp", "custom_vjp"):
        return None
    jaxpr = jaxprs.sub_jaxprs(step.eqn)[0].jaxpr
    program = flatten(jaxpr, ("jit", "remat"))
    names = tuple(f"{step.op}.in{k}" for k in range(len(program.inputs)))
    trees_in = jax.tree.structure(tuple(program.inputs))
    return Graph(program, names, trees_in, jax.tree.structure(list(program.outputs)))


def _input_names(fun: Callable, args: tuple) -> tuple[str, ...]:
    try:
        bound = inspect.signature(fun).bind(*args).arguments
    except (TypeError, ValueError):
        bound = {}
    names = list(bound)
    kinds = inspect.signature(fun).parameters if bound else {}
    result = []
    for position, arg in enumerate(args):
        plain = position < len(names) and kinds[names[position]].kind.name != "VAR_POSITIONAL"
        argument = names[position] if plain else f"argument{position}"
        for path, _ in trees.named_leaves(arg):
            result.append(argument if path == "(root)" else f"{argument}/{path}")
    return tuple(result)
