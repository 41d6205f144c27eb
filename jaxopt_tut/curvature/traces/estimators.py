"""The trace of an operator, by any method."""

import inspect
from typing import Any

import jax.numpy as jnp

from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.eigenpairs import check_operator
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.traces.deflated import Krylov
from jaxopt_tut.curvature.traces.methods import TraceMethod
from jaxopt_tut.curvature.traces.plain import Hutchinson
from jaxopt_tut.keys import require_key
from jaxopt_tut.types import PRNGKey


def trace(
    op: Operator, key: PRNGKey, *, num_products: int = 100, method: TraceMethod | None = None
) -> Estimate:
    r"""Estimate the trace of an operator, with a standard error.

    $$\operatorname{tr} A = \sum_i A_{ii}$$

    Products cost what gradients cost, and all else is little beside them. With 100 products the
    error is a fraction of a per cent of the trace on the Hessian of a trained network, whose
    outliers `Krylov` takes out, and some per cent at its start. `Hutchinson` needs the least
    memory; `XNysTrace` is the best for Gauss-Newton and Fisher matrices of fast decay; the standard
    errors of `XTrace` and `XNysTrace` are too small, those of the others are not.

    Args:
      op: The operator.
      key: Key of all random vectors.
      num_products: Products, at least `method.fewest`. With as many as the operator has rows, or
        more, the trace is exact from that many, whatever the method.
      method: `Krylov()` unless another is given: `Hutchinson()`, `HutchPP()`, `XTrace()`,
        `XNysTrace()`, or a `TraceMethod` of one's own.

    Returns:
      The trace and its standard error: 0 where exact.

    Raises:
      TypeError: If `op` is no operator, `key` not one key, `num_products` no whole number, or
        `method` no method.
      ValueError: If `num_products` is below what the method needs.

    Example:
      >>> import jax
      >>> from jaxopt_tut.curvature import linear_map
      >>> outliers = jnp.zeros(1000).at[:3].set(jnp.array([30.0, 20.0, -10.0]))
      >>> op = linear_map(lambda v, a: a * v, outliers, outliers + 0.01)
      >>> found = trace(op, jax.random.key(0), num_products=20)
      >>> print(f"{found.mean:.3f}")
      50.000
    """
    check_operator("trace", op)
    method = Krylov() if method is None else method
    if inspect.isclass(method) or not isinstance(method, TraceMethod):
        raise TypeError(
            f"trace needs a method with `fewest` and `estimate`, such as Krylov(), got {method!r}."
        )
    require_key("trace", key)
    count = require_products("trace", f" for {method}", method.fewest, num_products)
    if op.size <= count:
        total = jnp.trace(op.to_dense())
        return Estimate(total, jnp.zeros_like(total))
    return method.estimate(op, key, count)


def hutchinson_trace(op: Operator, key: PRNGKey, *, num_products: int = 100) -> Estimate:
    r"""Estimate the trace of an operator from random signs alone.

    $$\operatorname{tr} A \approx \frac1k \sum_i z_i^\top A z_i, \qquad z_{ij} = \pm 1$$

    As `trace` with `Hutchinson()`, which says when it is good.

    Args:
      op: The operator.
      key: Key of the probes.
      num_products: Products k, at least 2.

    Returns:
      The trace and its standard error: 0 where exact.

    Raises:
      TypeError: If `op` is no operator, `key` not one key, or `num_products` no whole number.
      ValueError: If it is below 2.

    Example:
      >>> import jax
      >>> from jaxopt_tut.curvature import linear_map
      >>> op = linear_map(lambda v, a: a * v, jnp.zeros(500), jnp.arange(500.0))
      >>> print(hutchinson_trace(op, jax.random.key(0), num_products=3).mean)
      124750.0
    """
    check_operator("hutchinson_trace", op)
    require_key("hutchinson_trace", key)
    count = require_products("hutchinson_trace", "", Hutchinson.fewest, num_products)
    return trace(op, key, num_products=count, method=Hutchinson())


def require_products(caller: str, name: str, fewest: int, num_products: Any) -> int:
    """Refuse a number of products that is no whole number, or too small."""
    count = whole_number(num_products)
    if count is None:
        raise TypeError(
            f"{caller} needs a whole number as num_products, got num_products={num_products!r}."
        )
    if count < fewest:
        raise ValueError(
            f"{caller} needs num_products >= {fewest}{name}, got num_products={num_products}."
        )
    return count
