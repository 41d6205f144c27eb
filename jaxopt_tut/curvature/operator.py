"""Symmetric linear maps on trees of parameters, as values that pass `jit` as arguments."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.types import DTypeLike, Number, PyTree
from jaxopt_tut.vectors import ravel

Flat = TypeAliasType("Flat", Float[Array, "size"])
"""A vector: the leaves of a tree end to end, as `vectors.ravel` lays them."""

Rows = TypeAliasType("Rows", Float[Array, "k size"])
"""Vectors as rows."""


class Operator:
    """A symmetric linear map between trees like `like`; its arrays are the leaves of a pytree.

    Subclasses say what a product is, in `_product` for a flat vector.
    """

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        raise NotImplementedError

    def _product(self, vector: Flat) -> Flat:
        raise NotImplementedError

    @property
    def size(self) -> int:
        """The number of rows and of columns."""
        return jax.eval_shape(lambda: ravel(self.like)[0]).size

    @property
    def dtype(self) -> DTypeLike:
        """The precision of flat vectors."""
        return jax.eval_shape(lambda: ravel(self.like)[0]).dtype

    @property
    def needs_host(self) -> bool:
        """Whether a product has to be led by the host, so that no transformation can hold it."""
        return False

    def unravel(self, vector: Flat) -> PyTree:
        """Make a tree of a flat vector."""
        return ravel(self.like)[1](vector)

    def matvec(self, vector: PyTree) -> PyTree:
        """Return the product with one vector: a flat one, or a tree like the parameters."""
        if np.shape(vector) == (self.size,):
            return self._product(jnp.asarray(vector))
        return self.unravel(self._product(ravel(vector)[0]))

    def matmat(self, rows: Rows) -> Rows:
        """Return the products with several vectors, one a row, as `jax.vmap(op.matvec)`."""
        return control_flow.scan(lambda _, row: (None, self._product(row)), None, rows)[1]

    def to_dense(self) -> Float[Array, "size size"]:
        """Return the matrix."""
        return self.matmat(jnp.eye(self.size, dtype=self.dtype))

    def __add__(self, other: "Operator") -> "Operator":
        """Add two maps."""
        return Sum((self, other))

    def __mul__(self, factor: Number) -> "Operator":
        """Multiply all products by a number."""
        return Multiple(factor, self)

    __rmul__ = __mul__


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
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
        return ravel(self.product(self.unravel(vector), *self.args))[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sum(Operator):
    """The sum of maps on one space."""

    terms: tuple[Operator, ...]

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self.terms[0].like

    def _product(self, vector: Flat) -> Flat:
        return functools.reduce(jnp.add, (term._product(vector) for term in self.terms))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Multiple(Operator):
    """A map times a number."""

    factor: Number
    term: Operator

    @property
    def like(self) -> PyTree:
        """A tree of the structure, shapes and dtypes that vectors have."""
        return self.term.like

    def _product(self, vector: Flat) -> Flat:
        return jnp.asarray(self.factor, vector.dtype) * self.term._product(vector)


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
