r"""The table of derivative rules: one vector-Jacobian product a primitive.

A rule answers, for one node $v = f(u_1, \dots, u_k)$ and the adjoint $\bar v$ of its output,

$$\bar u_i = \bar v\, \frac{\partial f}{\partial u_i}, \qquad i = 1, \dots, k,$$

without ever forming the Jacobian. The rules themselves live in `jaxopt_tut.autodiff.rules`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.extend import core
from jax.typing import ArrayLike

if TYPE_CHECKING:
    # Which inputs are arrays, and which cotangents are there, a rule knows and no checker does.
    Value = Any
    Derivative = Any
    # JAX's own annotations know none of NumPy's
    Integer = int
else:
    Value = ArrayLike
    """An array or a tracer, or a number written into the program."""

    Derivative = Array | np.ndarray | None
    """A cotangent or a tangent; None for zero, `float0` zeros where JAX says so."""

    Integer = int | np.integer
    """A number in the parameters of an equation: NumPy's where the caller computed it."""

Values = Sequence[Value]
"""One value an input, or an output, of a step."""

Derivatives = Sequence[Derivative]
"""One derivative a value."""

Needed = Sequence[bool]
"""Which inputs want a cotangent."""

Rule = Callable[..., Sequence[Any]]
"""`rule(cotangents, inputs, outputs, needed, **params) -> one cotangent or None per input`."""


class CallRule(NamedTuple):
    """The derivative of an equation that holds a jaxpr, or that JAX differentiates for us.

    Attributes:
      forward: `(step, inputs, needed) -> (outputs, residuals)`.
      backward: `(step, residuals, cotangents, needed) -> one cotangent or None an input`.
      jvp: `(step, inputs, tangents) -> (outputs, output tangents)`; a tangent may be None.
    """

    forward: Callable[..., tuple[list[Any], Any]]
    backward: Callable[..., Sequence[Any]]
    jvp: Callable[..., tuple[list[Any], list[Any]]]


RULES: dict[core.Primitive, Rule] = {}
PUSHES: dict[core.Primitive, Callable] = {}
CONSTANT: set[core.Primitive] = set()
CALLS: dict[str, CallRule] = {}


def defvjp(primitive: core.Primitive, rule: Rule) -> Rule:
    r"""Add or replace the derivative rule of a primitive.

    $$\bar u_i = \bar v\, \frac{\partial f}{\partial u_i}(u_1, \dots, u_k)$$

    Both modes use the one rule: it is linear in the cotangents, and forward mode transposes it.
    The table is read when a function is differentiated, so a new rule holds from the next call
    on (what `jax.jit` has already compiled keeps the old one).

    Args:
      primitive: For instance `jax.lax.sin_p`.
      rule: `rule(cotangents, inputs, outputs, needed, **params)`. `cotangents` has one array an
        output (None where no node reads an output of several), `inputs` and `outputs` the
        values, `needed` one bool an input, `params` the equation's. It returns one cotangent an
        input, of the input's shape and dtype; None for zero, and wherever `needed` is False.

    Returns:
      The rule, so that `functools.partial(defvjp, primitive)` decorates.

    Raises:
      TypeError: If `primitive` is no primitive or `rule` cannot be called.

    Example:
      A sine whose derivative is doubled; then the true rule again.

      >>> import jax
      >>> def doubled(cotangents, inputs, outputs, needed):
      ...     return [2 * cotangents[0] * jax.numpy.cos(inputs[0])]
      >>> true_rule = RULES[jax.lax.sinh_p]
      >>> _ = defvjp(jax.lax.sinh_p, lambda g, x, y, needed: [2 * g[0] * jax.lax.cosh(x[0])])
      >>> from jaxopt_tut import autodiff
      >>> wrong = autodiff.grad(jax.lax.sinh)(0.0)
      >>> _ = defvjp(jax.lax.sinh_p, true_rule)
      >>> float(wrong), float(autodiff.grad(jax.lax.sinh)(0.0))
      (2.0, 1.0)
    """
    if not isinstance(primitive, core.Primitive):
        raise TypeError(f"defvjp needs a primitive such as jax.lax.sin_p, got {primitive!r}.")
    if not callable(rule):
        raise TypeError(f"defvjp needs a function as the rule of {primitive}, got {rule!r}.")
    PUSHES.pop(primitive, None)
    CONSTANT.discard(primitive)
    RULES[primitive] = rule
    return rule


def define(name: str) -> Callable[[Rule], Rule]:
    """Decorate the rule of the primitive `jax.lax.<name>_p`, where this version of JAX has it."""

    def decorate(rule: Rule) -> Rule:
        primitive = primitive_named(name)
        if primitive is not None:
            RULES[primitive] = rule
        return rule

    return decorate


def define_push(name: str) -> Callable[[Callable], Callable]:
    """Decorate a direct forward rule: `push(tangents, inputs, outputs, **params) -> tangents`.

    Only a shortcut: without it forward mode transposes the primitive's `Rule`.
    """

    def decorate(push: Callable) -> Callable:
        primitive = primitive_named(name)
        if primitive is not None:
            PUSHES[primitive] = push
        return push

    return decorate


def define_constant(*names: str) -> None:
    """Declare that the derivative of these primitives is zero wherever it exists."""
    CONSTANT.update(p for p in map(primitive_named, names) if p is not None)


def primitive_named(name: str) -> Any:
    """Return `<name>_p` from `jax.lax` or the list of primitives, None if there is none."""
    found = getattr(jax.lax, f"{name}_p", None)
    return found if found is not None else getattr(core.primitives, f"{name}_p", None)
