"""The transforms of the library in one table, and the problem on which their contract is tested.

Add a row for each new transform: `tests/test_contracts.py` then tests all that every public
transform promises.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_tut import optimizers


class Case(NamedTuple):
    """One transform with its options.

    Every option that is a `float` is taken for a hyper-parameter: it is traced, vmapped and
    differentiated. Choose values inside of their ranges, for finite differences need both sides.
    """

    name: str
    make: Callable[..., optax.GradientTransformation]
    options: dict[str, Any]
    # (loss, params) -> what `update` wants beside the gradients, made of this very `loss`
    extra_args: Callable[[Callable, Any], dict[str, Any]] = lambda *_: {}
    # the name with which its error messages begin, if it is not that of `make`
    caller: str | None = None
    dtypes: tuple[str, ...] = ("float32", "float64", "bfloat16", "complex64")
    # whether each coordinate's update depends on that coordinate's gradients alone
    is_elementwise: bool = True
    # reverse mode cannot go through a loop of unknown length, as in a line search: there the
    # derivatives come by forward mode
    has_reverse_mode: bool = True
    # the public transform to which this one only adds a learning rate: tested by this row too
    part: Callable[..., optax.GradientTransformation] | None = None
    # how much the transform amplifies rounding errors, in units of the machine epsilon
    rounding: float = 64.0

    @property
    def has_long_programs(self):
        return self.extra_args is not Case._field_defaults["extra_args"]

    @property
    def hyperparameters(self):
        return {name: value for name, value in self.options.items() if isinstance(value, float)}

    def build(self, **overrides):
        return self.make(**{**self.options, **overrides})


def objective(loss, params):
    """Return what a line search wants, as `extra_args` of its row."""
    value, gradient = jax.value_and_grad(loss)(params)
    return {"value": value, "grad": jax.tree.map(jnp.conj, gradient), "value_fn": loss}


def sum_of_squares(loss, params):
    """Return what a least-squares solver wants; for a quadratic without mixed derivatives."""

    def residual_fn(params):
        ones = jax.tree.map(jnp.ones_like, params)
        gradient, curvature = jax.jvp(jax.grad(loss), (params,), (ones,))
        return jax.tree.map(
            lambda g, c: jnp.where(c == 0, 0, g / jnp.sqrt(jnp.where(c == 0, 1, c))),
            gradient,
            curvature,
        )

    return {**objective(loss, params), "residual_fn": residual_fn}


_ADAM = {"b1": 0.8, "b2": 0.9, "eps": 0.5}
_UNSEARCHED = {"learning_rate": 0.5, "line_search": optax.identity()}

_coupled = partial(Case, is_elementwise=False)
_iterative = partial(_coupled, has_reverse_mode=False)

OPTIMIZERS = [
    Case("sgd", optimizers.sgd, {"learning_rate": 0.1}),
    Case("momentum", optimizers.momentum, {"learning_rate": 0.1, "decay": 0.8}),
    Case("nesterov", optimizers.momentum, {"learning_rate": 0.1, "decay": 0.8, "nesterov": True}),
    Case("adam", optimizers.adam, {"learning_rate": 0.1, **_ADAM}),
    Case("adam_rooted", optimizers.adam, {"learning_rate": 0.1, **_ADAM, "eps_root": 1e-2}),
    Case("adamw", optimizers.adamw, {"learning_rate": 0.1, **_ADAM, "weight_decay": 0.25}),
    Case(
        "differentiable",
        optimizers.differentiable,
        {"transformation": optimizers.adam(0.1, **_ADAM)},
        caller="adam",
    ),
    Case("scale_by_learning_rate", optimizers.scale_by_learning_rate, {"learning_rate": 0.1}),
    Case("scale_by_momentum", optimizers.scale_by_momentum, {"decay": 0.8}, caller="momentum"),
    Case("scale_by_adam", optimizers.scale_by_adam, _ADAM, caller="adam"),
    _iterative("bfgs", optimizers.bfgs, {}, objective),
    _coupled("bfgs_unsearched", optimizers.bfgs, _UNSEARCHED, part=optimizers.scale_by_bfgs),
    _iterative("lbfgs", optimizers.lbfgs, {}, objective),
    _iterative("lbfgsb", optimizers.lbfgsb, {}, objective),
    _coupled(
        "lbfgsb_unsearched",
        optimizers.lbfgsb,
        {"line_search": optax.identity()},
        part=optimizers.scale_by_lbfgsb,
    ),
    _coupled("lbfgs_unsearched", optimizers.lbfgs, _UNSEARCHED, part=optimizers.scale_by_lbfgs),
    _coupled(
        "newton",
        optimizers.newton,
        {**_UNSEARCHED, "damping": 0.5},
        objective,
        part=optimizers.scale_by_newton,
    ),
    _iterative(
        "newton_cg",
        optimizers.newton_cg,
        _UNSEARCHED,
        objective,
        part=optimizers.scale_by_newton_cg,
    ),
    _coupled("trust_region", optimizers.trust_region, {"initial_radius": 0.1}, objective),
    _coupled(
        "nonlinear_cg",
        optimizers.nonlinear_cg,
        _UNSEARCHED,
        objective,
        part=optimizers.scale_by_nonlinear_cg,
    ),
    _coupled(
        "gauss_newton",
        optimizers.gauss_newton,
        _UNSEARCHED,
        sum_of_squares,
        part=optimizers.scale_by_gauss_newton,
    ),
    _coupled(
        "levenberg_marquardt",
        optimizers.levenberg_marquardt,
        {"initial_damping": 50.0},  # so that the steps of a check don't reach the minimum
        sum_of_squares,
    ),
    Case("steepest_descent", optimizers.steepest_descent, {"learning_rate": 0.1}),
    *(
        _coupled(
            f"steepest_descent_{name}",
            optimizers.steepest_descent,
            {"learning_rate": 0.1, "norm": norm},
            part=optimizers.scale_by_steepest_descent,
        )
        for name, norm in (  # not LInf: the sign of a gradient of 0 has no derivative
            ("l1", optimizers.norms.L1()),
            ("spectral", optimizers.norms.Spectral()),
            ("newton_schulz", optimizers.norms.Spectral(num_steps=8)),
        )
    ),
    _coupled("project", optimizers.project, {"projection": optimizers.projections.ball(1.0)}),
]


class Layer(NamedTuple):
    """A container that is neither a dict nor a list."""

    weight: Any
    bias: Any


def make_weight(dtype="float32"):
    """Build a tree of one leaf, for the checks of numbers rather than of structure."""
    return jnp.array([[0.0, -1.0, 2.0], [1.5, 0.25, -0.75]], dtype)


def make_params(dtype="float32"):
    """Build a tree with every kind of node: nested, `None`, empty, scalar and zero-size."""
    return {
        "layer": Layer(weight=make_weight(dtype), bias=jnp.array([0.5, 1.0], dtype)),
        "scale": jnp.array(-1.25, dtype),
        "none": None,
        "empty": {},
        "no_rows": jnp.zeros((0, 2), dtype),
    }


def loss(params):
    """Return a quadratic, some of whose partial derivatives are exactly zero.

    Its curvatures are 1, 2, 0, 1, 2, 0, ... in each leaf; and the first weight is at its minimum.
    """
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(params):
        square = jnp.real(jnp.conj(leaf) * leaf).ravel()
        curvature = (jnp.arange(leaf.size) + 1) % 3
        total += 0.5 * jnp.sum(curvature.astype(square.dtype) * square).astype(total.dtype)
    return total


def gradient(params):
    """Return the direction of steepest ascent: for complex leaves the conjugate of `jax.grad`."""
    return jax.tree.map(jnp.conj, jax.grad(loss)(params))
