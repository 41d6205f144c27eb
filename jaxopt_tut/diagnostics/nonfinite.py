"""Find the first place inside a function where a NaN or an infinity appears."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxopt_tut.taps import Site, record_gradients
from jaxopt_tut.taps.graph import read_graph
from jaxopt_tut.taps.interpreter import evaluate
from jaxopt_tut.taps.site import find_sites
from jaxopt_tut.taps.tracing import trace_program


def first_nonfinite(fun: Callable, *args: Any, gradient: bool = False) -> Site | None:
    r"""Find the first value inside a function that is NaN or infinite.

    $$\min\,\{i : v_i \text{ not finite}\}, \qquad \text{then, going back,} \qquad
      \max\,\{i : \bar v_i \text{ not finite}\}$$

    Every value of the program is looked at, not only the layers, so the site names the operation:
    its `op`, its `scope` and the parameter next to it. Values that are infinite on purpose, such
    as the `-inf` of a mask, count. Costs an evaluation (with `gradient` a gradient) and the memory
    of all values inside; `jax.debug_nans` costs less, and names a line of a program that ran
    operation by operation.

    Args:
      fun: Any function of pytrees; with `gradient` a loss of its first argument.
      *args: Its arguments.
      gradient: Look at the backward pass too, if the forward pass is finite. The site named is
        then the one whose cotangent was the first to go wrong: the operation that reads it has a
        derivative that is not finite.

    Returns:
      The site, or None if all is finite.

    Raises:
      TypeError: If `fun` cannot be traced.
      ValueError: With `gradient`, if `fun` returns no real scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> def loss(w, x):
      ...     return jnp.sum(jnp.log(jnp.maximum(x @ w, 0.0)) ** 2)
      >>> w, x = jnp.array([1.0, -1.0]), jnp.array([[2.0, 1.0], [1.0, 2.0]])
      >>> first_nonfinite(loss, w, x).op
      'log'
      >>> first_nonfinite(loss, w, x[:1]) is None
      True
      >>> def norm(w, x):
      ...     return jnp.sqrt(jnp.sum((x @ w) ** 2))
      >>> first_nonfinite(norm, w, jnp.ones((1, 2))) is None
      True
      >>> first_nonfinite(norm, w, jnp.ones((1, 2)), gradient=True).op  # d sqrt(s) / ds at s = 0
      'reduce_sum'
    """
    program = trace_program("first_nonfinite", fun, args)
    lengths = {node.place: node.frame.lengths for node in read_graph(program.jaxpr)}
    found = [(site, lengths[place]) for site, place in find_sites(program)]
    if not found:
        return None
    places = {place: k for k, (_, place) in enumerate(find_sites(program))}
    _, recorded, taken = evaluate(program.jaxpr, program.arrays, places, {})
    is_run = {site.name: taken.get(k) for k, (site, _) in enumerate(found)}
    values = {
        site.name: _where_run(recorded[k], is_run[site.name]) for k, (site, _) in enumerate(found)
    }
    site = _first(found, values)
    if site is not None or not gradient:
        return site
    _, _, _, cotangents = record_gradients(fun, "*")(*args)
    # Backwards: in the program, and in the steps of its scans.
    backward = {
        site.name: np.flip(
            _where_run(cotangents[site.name], is_run[site.name]), tuple(range(len(steps)))
        )
        for site, steps in found
        if site.name in cotangents
    }
    return _first([one for one in found[::-1] if one[0].name in backward], backward)


def _where_run(value, is_run):
    """Return a value, with zeros for the NaN of the parts of a program that did not run."""
    value = np.asarray(value)
    if is_run is None:
        return value
    is_run = np.asarray(is_run)
    return np.where(is_run.reshape(is_run.shape + (1,) * (value.ndim - is_run.ndim)), value, 0)


def _first(found, values) -> Site | None:
    """Return the first site with such a value; of those in the same scan that of the first step."""
    bad = [
        (site, steps, is_bad)
        for site, steps in found
        if (is_bad := ~np.isfinite(np.asarray(values[site.name], np.complex128))).any()
    ]
    if not bad:
        return None
    beside = [(site, is_bad) for site, steps, is_bad in bad if steps == bad[0][1]]
    count = math.prod(bad[0][1])
    first = [int(np.argmax(is_bad.reshape(count, -1).any(axis=1))) for _, is_bad in beside]
    return beside[int(np.argmin(first))][0]
