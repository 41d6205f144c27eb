"""Maps that are means over data: a product on one batch, and what it is averaged over."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxopt_tut.curvature.functions import Function, Given
from jaxopt_tut.curvature.operator import Operator, alone
from jaxopt_tut.curvature.space import Flat, Rows, real_parts
from jaxopt_tut.datasets.inner import Chunks, map_chunks, mean_over, read_chunks
from jaxopt_tut.devices import Devices, replicated, with_auto_axes
from jaxopt_tut.jaxprs import closure_convert
from jaxopt_tut.types import Batch, PyTree
from jaxopt_tut.vectors import ravel


@runtime_checkable
class Rule(Protocol):
    """What a product is on one batch; static, so it is hashed."""

    @property
    def function(self) -> Function:
        """The function of the parameters that is differentiated."""
        ...

    @property
    def kind(self) -> str:
        """What the map is called."""
        ...

    def product(self, at: "Local", point: PyTree, tangent: PyTree) -> PyTree:
        """Multiply a vector by the matrix of `at` at a point; all leaves are real."""
        ...

    def linearized(self, at: "Local", point: PyTree) -> Callable[[PyTree], PyTree]:
        """Return the same map with all done that does not depend on the vector."""
        ...


@dataclass(frozen=True)
class Local:
    """A function on one batch, of real parts of the parameters."""

    function: Function
    joined: Callable[[PyTree], PyTree]
    given: Given
    batch: Batch

    def __call__(self, real: PyTree) -> Any:
        """Evaluate it."""
        return self.function(self.joined(real), self.given, self.batch)


class Point(NamedTuple):
    """Where a map is taken.

    Attributes:
      space: The tree of parameters that vectors are like.
      given: What else the function is given.
    """

    space: PyTree
    given: Given


@dataclass(frozen=True)
class Product:
    """The product on one batch, of one flat vector or of several; equal where the rule is."""

    rule: Rule
    has_rows: bool = False

    def __call__(self, batch: Batch, point: Point, vector: Flat | Rows) -> Flat | Rows:
        """Multiply."""
        real, joined = real_parts(point.space)
        at = Local(self.rule.function, joined, point.given, batch)
        unravel = ravel(real)[1]

        def multiply(vector: Flat) -> Flat:
            return ravel(self.rule.product(at, real, unravel(vector)))[0]

        return jax.vmap(multiply)(vector) if self.has_rows else multiply(vector)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """A linear map of flat vectors: its program, and what it keeps."""

    kept: list[Any]
    program: Callable[..., Flat] = field(metadata={"static": True})


@dataclass(frozen=True)
class Linearized:
    """The linear map on one batch; equal where the rule is."""

    rule: Rule

    def __call__(self, batch: Batch, point: Point) -> Linear:
        """Linearise."""
        real, joined = real_parts(point.space)
        at = Local(self.rule.function, joined, point.given, batch)
        vector, unravel = ravel(real)
        multiply = self.rule.linearized(at, real)
        program, kept = closure_convert(lambda v: ravel(multiply(unravel(v)))[0], vector)
        return Linear(kept, program)


def apply_linear(linear: Linear, vector: Flat) -> Flat:
    """Multiply a vector by what `Linearized` has made of a batch."""
    return linear.program(vector, *linear.kept)


def apply_linear_to_rows(linear: Linear, rows: Rows) -> Rows:
    """Multiply several."""
    return jax.vmap(lambda vector: apply_linear(linear, vector))(rows)


class MeanOver(Operator):
    """A map that is a mean over chunks of data."""

    chunks: Chunks
    rule: Rule

    @property
    def needs_host(self) -> bool:
        """Whether a product has to be led by the host, so that no transformation can hold it."""
        return self.chunks.needs_host

    @property
    def note(self) -> str | None:
        """What is to be known of a model with a state whose data are split."""
        if self.chunks.num_chunks == 1 or not self.rule.function.has_state:
            return None
        return (
            "if the model normalises over its batch, this is of the mean of the losses of batches"
        )

    def _kind(self) -> str:
        return self.rule.kind

    def _rows(self) -> list[tuple[str, str]]:
        examples, chunks = self.chunks.num_examples, self.chunks.num_chunks
        if examples is None:
            return [("data", "from the host")]
        return [("data", f"{examples} in {chunks} {'chunk' if chunks == 1 else 'chunks'}")]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class MeanOperator(MeanOver):
    """A map that is differentiated anew for every product."""

    rule: Rule = field(metadata={"static": True})
    point: Point
    chunks: Chunks

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self.point.space

    def _product(self, vector: Flat) -> Flat:
        return mean_over(self.chunks, Product(self.rule), self.point, vector)

    def _products(self, rows: Rows) -> Rows:
        return mean_over(self.chunks, Product(self.rule, has_rows=True), self.point, rows)

    def cached(self) -> Operator:
        """Linearise on every chunk, and keep that: of the order of all activations in memory."""
        kept = map_chunks(self.chunks, Linearized(self.rule), self.point)
        return CachedOperator(self.rule, self.like, kept)

    def restricted(self, places: tuple[int, ...]) -> Operator:
        """Return the map of some leaves, with the others held fixed."""
        function, given = self.rule.function.restricted(self.like, self.point.given, places)
        point = Point(alone(self.like, places), given)
        return replace(self, rule=replace(self.rule, function=function), point=point)  # type: ignore

    def retraced(self) -> Operator:
        """Return the map with a rule that is equal to no other."""
        function = replace(self.rule.function, mark=object())
        return replace(self, rule=replace(self.rule, function=function))  # type: ignore


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class CachedOperator(MeanOver):
    """A map that keeps its linearisation; `chunks` are linear maps."""

    rule: Rule = field(metadata={"static": True})
    space: PyTree
    chunks: Chunks

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self.space

    def _product(self, vector: Flat) -> Flat:
        return mean_over(self.chunks, apply_linear, vector)

    def _products(self, rows: Rows) -> Rows:
        return mean_over(self.chunks, apply_linear_to_rows, rows)

    def _kind(self) -> str:
        return f"{self.rule.kind}, linearised,"


def mean_operator(
    caller: str,
    rule: Rule,
    point: Point,
    batches: tuple[Any, ...],
    batch_size: int | None,
    mesh: Devices | None,
) -> MeanOperator:
    """Read the data, and put the parameters where they lie."""
    chunks = read_chunks(caller, batches, batch_size, mesh)
    if mesh is not None:
        point = replicated(jax.tree.map(jnp.asarray, point), with_auto_axes(mesh))
    return MeanOperator(rule, point, chunks)
