"""Symmetric linear maps on trees of parameters, as values that pass `jit` as arguments."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import Block
from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.space import (
    Flat,
    Rows,
    dtype_of,
    flat_vector,
    leaf_sizes,
    raveled,
    size_of,
    unraveled,
)
from jaxopt_tut.hyperparameters import require_real
from jaxopt_tut.tracing import is_traced, is_tracing, known
from jaxopt_tut.trees import require_same_structure
from jaxopt_tut.types import DTypeLike, Number, PyTree

ROWS_AT_ONCE = 16
"""Vectors whose products are computed together: more of them take memory, and more time on CPU."""


class Operator(Block):
    """A symmetric linear map between trees like `like`; its arrays are the leaves of a pytree.

    Subclasses say what a product is, in `_product` for a flat vector.
    """

    __array_ufunc__ = None  # a number of NumPy on the left leaves the product to us

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        raise NotImplementedError

    def _product(self, vector: Flat) -> Flat:
        raise NotImplementedError

    def _products(self, rows: Rows) -> Rows:
        """Multiply a few vectors at once."""
        return jax.vmap(self._product)(rows)

    @property
    def size(self) -> int:
        """The number of rows and of columns."""
        return size_of(self.like)

    @property
    def dtype(self) -> DTypeLike:
        """The precision of flat vectors."""
        return dtype_of(self.like)

    @property
    def needs_host(self) -> bool:
        """Whether a product has to be led by the host, so that no transformation can hold it."""
        return False

    @property
    def note(self) -> str | None:
        """What is to be known of the numbers, if there is anything."""
        return None

    def unravel(self, vector: Flat) -> PyTree:
        """Make a tree of a flat vector."""
        return unraveled(self.like, vector)

    def matvec(self, vector: PyTree) -> PyTree:
        """Return the product with one vector: a flat one, or a tree like the parameters."""
        flat, is_flat = flat_vector("matvec", self.like, vector)
        product = self._product(flat)
        return product if is_flat else self.unravel(product)

    def matmat(
        self, rows: Float[Array | np.ndarray, "k size"], *, at_once: int | None = None
    ) -> Rows:
        """Return the products with several vectors, one a row, as `jax.vmap(op.matvec)`.

        `at_once` of them are computed together, which takes as many times the memory of one.
        """
        if jnp.ndim(rows) != 2 or jnp.shape(rows)[1] != self.size:
            raise ValueError(
                f"matmat needs vectors as rows, an array of shape [k, {self.size}], got shape "
                f"{jnp.shape(rows)}."
            )
        number = self._at_once() if at_once is None else whole_number(at_once)
        if number is None or number < 1:
            raise ValueError(f"matmat needs at_once >= 1, got at_once={at_once!r}.")
        rows = jnp.asarray(rows).astype(self.dtype)
        count = rows.shape[0]
        if count <= number:
            return self._products(rows) if count else rows
        if is_tracing() or any(map(is_traced, jax.tree.leaves((self, rows)))):
            full = count - count % number
            stack = rows[:full].reshape(-1, number, self.size)
            step = lambda _, block: (None, self._products(block))
            products = control_flow.scan(step, None, stack)[1].reshape(full, self.size)
            rest = [self._products(rows[full:])] if full < count else []
            return jnp.concatenate([products, *rest])
        starts = range(0, count, number)
        return jnp.concatenate([self._products(rows[start : start + number]) for start in starts])

    def _at_once(self) -> int:
        return ROWS_AT_ONCE

    def to_dense(self) -> Float[Array, "size size"]:
        """Return the matrix."""
        return self.matmat(jnp.eye(self.size, dtype=self.dtype))

    def cached(self) -> "Operator":
        """Return the same map with all kept that does not depend on the vector."""
        return self

    def preconditioned(self, scale: PyTree) -> "Operator":
        r"""Return the map between scaled coordinates, with the eigenvalues of $D H$.

        $$D^{1/2} H D^{1/2}, \qquad D = \operatorname{diag}(\text{scale})$$

        The scale is what a step multiplies the gradient by: $1/(\sqrt v + \epsilon)$ for Adam. An
        eigenvector $u$ of this map is $D^{-1/2} u$ for $D H$.

        Args:
          scale: Positive numbers: one for all, a flat vector, or a tree like the parameters.

        Returns:
          The symmetric map.

        Raises:
          ValueError: If a number is not positive, or the trees differ.
        """
        if jnp.ndim(scale) == 0 if isinstance(scale, _NUMBERS) else False:
            require_real("preconditioned", scale=scale)
            flat = jnp.broadcast_to(jnp.asarray(scale, self.dtype), (self.size,))
        else:
            flat, _ = flat_vector("preconditioned", self.like, scale)
        numbers = known(flat)
        if numbers is not None and not np.all(numbers > 0):
            worst = numbers[~(numbers > 0)][0]
            raise ValueError(f"preconditioned needs positive numbers as scale, got {worst}.")
        return Preconditioned(jnp.sqrt(flat), self)

    def restricted(self, places: tuple[int, ...]) -> "Operator":
        """Return the diagonal block of some leaves of the tree, counted as `jax.tree.leaves`."""
        return Restricted(places, self)

    def retraced(self) -> "Operator":
        """Return the same map for which the functions of users are called once more."""
        return self

    def __add__(self, other: "Operator") -> "Operator":
        """Add two maps."""
        if not isinstance(other, Operator):
            return NotImplemented
        require_same_structure(self.like, other.like, "a sum of operators")
        return Sum((self, other))

    def __mul__(self, factor: Number) -> "Operator":
        """Multiply all products by a number."""
        require_real("a multiple of an operator", factor=factor)
        return Multiple(factor, self)

    __rmul__ = __mul__

    def __radd__(self, other: Any) -> "Operator":
        """Begin a sum of several maps, as `sum(maps)` does."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def __truediv__(self, factor: Number) -> "Operator":
        """Divide all products by a number."""
        require_real("a multiple of an operator", factor=factor)
        return self * (1 / factor)

    def __matmul__(self, vector: PyTree) -> PyTree:
        """Return the product with a vector, as `matvec`."""
        return self.matvec(vector)

    def __neg__(self) -> "Operator":
        """Turn all signs round."""
        return -1.0 * self

    def __sub__(self, other: "Operator") -> "Operator":
        """Subtract a map."""
        return self + -other if isinstance(other, Operator) else NotImplemented

    def _kind(self) -> str:
        return type(self).__name__

    def _rows(self) -> list[tuple[str, str]]:
        return []

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        notes = [("note", self.note)] if self.note else []
        return f"{self._kind()} [{self.size}, {self.size}]", [*self._rows(), *notes]


_NUMBERS = (int, float, np.generic, np.ndarray, jax.Array)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class LinearMap(Operator):
    """A function that is linear in its first argument, and the arrays it takes behind it."""

    product: Callable[..., PyTree] = field(metadata={"static": True})
    space: PyTree
    args: tuple[Any, ...] = ()

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self.space

    def _product(self, vector: Flat) -> Flat:
        return _applied(self.space, vector, self.args, product=self.product)

    def _kind(self) -> str:
        return f"Linear map {getattr(self.product, '__name__', '')}".strip()


@functools.partial(jax.jit, static_argnames="product")
def _applied(
    space: PyTree, vector: Flat, args: tuple[Any, ...], *, product: Callable[..., PyTree]
) -> Flat:
    return raveled(product(unraveled(space, vector), *args))


class Derived(Operator):
    """A map made of others on one space."""

    def _terms(self) -> Sequence[Operator]:
        raise NotImplementedError

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self._terms()[0].like

    @property
    def needs_host(self) -> bool:
        """Whether a product has to be led by the host, so that no transformation can hold it."""
        return any(term.needs_host for term in self._terms())

    @property
    def note(self) -> str | None:
        """What is to be known of the numbers, if there is anything."""
        notes = [note for term in self._terms() if (note := term.note)]
        return " ".join(dict.fromkeys(notes)) or None

    def _at_once(self) -> int:
        return min(term._at_once() for term in self._terms())

    def _rows(self) -> list[tuple[str, str]]:
        return [("of", str(term)) for term in self._terms()]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class Sum(Derived):
    """The sum of maps on one space."""

    terms: tuple[Operator, ...]

    def _terms(self) -> Sequence[Operator]:
        return self.terms

    def _product(self, vector: Flat) -> Flat:
        return functools.reduce(jnp.add, (term._product(vector) for term in self.terms))

    def _products(self, rows: Rows) -> Rows:
        return functools.reduce(jnp.add, (term._products(rows) for term in self.terms))

    def cached(self) -> Operator:
        """Keep what does not depend on the vector in all terms."""
        return Sum(tuple(term.cached() for term in self.terms))

    def restricted(self, places: tuple[int, ...]) -> Operator:
        """Return the sum of the blocks."""
        return Sum(tuple(term.restricted(places) for term in self.terms))

    def retraced(self) -> Operator:
        """Return the sum of the terms for which functions are called once more."""
        return Sum(tuple(term.retraced() for term in self.terms))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class Multiple(Derived):
    """A map times a number."""

    factor: Number
    term: Operator

    def _terms(self) -> Sequence[Operator]:
        return (self.term,)

    def _product(self, vector: Flat) -> Flat:
        return jnp.asarray(self.factor).astype(vector.dtype) * self.term._product(vector)

    def _products(self, rows: Rows) -> Rows:
        return jnp.asarray(self.factor).astype(rows.dtype) * self.term._products(rows)

    def cached(self) -> Operator:
        """Keep what does not depend on the vector."""
        return Multiple(self.factor, self.term.cached())

    def restricted(self, places: tuple[int, ...]) -> Operator:
        """Return the multiple of the block."""
        return Multiple(self.factor, self.term.restricted(places))

    def retraced(self) -> Operator:
        """Return the multiple of the map for which functions are called once more."""
        return Multiple(self.factor, self.term.retraced())


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class Preconditioned(Derived):
    """A map between coordinates scaled by the square roots of positive numbers."""

    root: Flat
    term: Operator

    def _terms(self) -> Sequence[Operator]:
        return (self.term,)

    def _product(self, vector: Flat) -> Flat:
        return self.root * self.term._product(self.root * vector)

    def _products(self, rows: Rows) -> Rows:
        return self.root * self.term._products(self.root * rows)

    def cached(self) -> Operator:
        """Keep what does not depend on the vector."""
        return Preconditioned(self.root, self.term.cached())

    def restricted(self, places: tuple[int, ...]) -> Operator:
        """Return the block in scaled coordinates."""
        return Preconditioned(_cut(self.root, self.like, places), self.term.restricted(places))

    def retraced(self) -> Operator:
        """Scale the map for which functions are called once more."""
        return Preconditioned(self.root, self.term.retraced())


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False, eq=False)
class Restricted(Derived):
    """A diagonal block of a map: the rows and columns of some leaves."""

    places: tuple[int, ...] = field(metadata={"static": True})
    term: Operator

    def _terms(self) -> Sequence[Operator]:
        return (self.term,)

    @property
    def like(self) -> PyTree:
        """The tree with these leaves alone."""
        return alone(self.term.like, self.places)

    def _product(self, vector: Flat) -> Flat:
        return self._narrow(self.term._product(self._wide(vector)))

    def _products(self, rows: Rows) -> Rows:
        return self._narrow(self.term._products(self._wide(rows)))

    def _wide(self, vectors: Array) -> Array:
        axes, sizes = vectors.shape[:-1], leaf_sizes(self.term.like)
        parts = [jnp.zeros((*axes, size), vectors.dtype) for size in sizes]
        start = 0
        for place in self.places:
            parts[place] = vectors[..., start : start + sizes[place]]
            start += sizes[place]
        return jnp.concatenate(parts, axis=-1)

    def _narrow(self, vectors: Array) -> Array:
        return _cut(vectors, self.term.like, self.places)

    def retraced(self) -> Operator:
        """Return the block of the map for which functions are called once more."""
        return Restricted(self.places, self.term.retraced())


def alone(tree: PyTree, places: tuple[int, ...]) -> PyTree:
    """Return a tree with some of its leaves and None for the others."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        leaf if place in places else None for place, leaf in enumerate(leaves)
    )


def _cut(vectors: Array, like: PyTree, places: tuple[int, ...]) -> Array:
    """Take the parts of some leaves out of vectors."""
    ends = np.cumsum([0, *leaf_sizes(like)])
    parts = [vectors[..., ends[place] : ends[place + 1]] for place in places]
    return jnp.concatenate(parts, axis=-1)


def linear_map(product: Callable[..., PyTree], like: PyTree, *args: Any) -> Operator:
    r"""Make an operator of any symmetric linear function of trees.

    $$v \mapsto A v, \qquad A = A^\top$$

    Args:
      product: `product(vector, *args)`, linear in `vector`, a tree like `like`.
      like: A tree with the structure, shapes and dtypes of the vectors.
      *args: Arrays that the product needs: what it closes over becomes a constant of programs.

    Returns:
      The operator.

    Example:
      >>> matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
      >>> op = linear_map(lambda v, a: a @ v, jnp.zeros(2), matrix)
      >>> print(op.matvec(jnp.array([1.0, 0.0])))
      [2. 1.]
    """
    return LinearMap(product, like, args)
