"""The modes that differentiate steps go through any optax transformation, zero gradients too."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import (
    Forward,
    HypergradientWarning,
    OneStep,
    Truncate,
    Unroll,
    argmin,
    hypergrad,
)
from jaxopt_tut.optimizers import differentiable

# With an eps of 1 the curvature at a zero gradient, rate / eps^2 a step, lets differences judge.
OPTIMIZERS = {
    "adamw": lambda rate: optax.adamw(rate, weight_decay=1e-2, eps=1.0),
    "lamb": lambda rate: optax.lamb(rate, eps=1.0),
    "radam": lambda rate: optax.radam(rate, eps=1.0),
    "nadam": lambda rate: optax.nadam(rate, eps=1.0),
    "adafactor": lambda rate: optax.adafactor(rate, eps=1.0, min_dim_size_to_factor=1),
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1.0)),
}


def inner(y, z):
    # The second gradient is zero at the start, whatever z is.
    return jnp.sum((y[:1] - z) ** 2) + 2 * y[1] ** 2 + y[1] ** 2 * z**2


def outer(y, z):
    return jnp.sum((y - 0.3) ** 2) + 0 * z


START = (0.2, 0.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hypergradients_through_optax_are_finite_and_those_of_differences(name):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        y0 = jnp.array(START)

        @jax.jit
        def value(z, rate, y0):
            return outer(argmin(inner, y0, z, solver=OPTIMIZERS[name], hp=rate, steps=4).y, z)

        point = (jnp.float64(0.7), jnp.float64(0.05), y0)
        _, grads, _ = hypergrad(
            outer,
            inner,
            y0,
            point[0],
            solver=OPTIMIZERS[name],
            hp=point[1],
            steps=4,
            diff=Unroll(),
            wrt=("z", "hp", "y0"),
        )
        h = 1e-6
        for k, wrt in enumerate(("z", "hp", "y0")):
            shape = jnp.shape(point[k])
            for d in jnp.eye(max(1, point[k].size)) * h:
                shifted = lambda s, k=k, d=d, shape=shape: [
                    p + s * d.reshape(shape) if j == k else p for j, p in enumerate(point)
                ]
                difference = (value(*shifted(1)) - value(*shifted(-1))) / (2 * h)
                slope = jnp.sum(jnp.asarray(grads[wrt]) * d.reshape(shape)) / h
                # f'' jumps by less than 10 at the kink of |g|: 10 h, and rounding eps / h.
                np.testing.assert_allclose(slope, difference, rtol=0, atol=2e-5)


@pytest.mark.parametrize("mode", [Unroll("step"), Truncate(2), OneStep(), Forward()], ids=repr)
def test_every_mode_of_steps_takes_the_switch(mode):
    def slope(mode):
        _, grads, _ = hypergrad(
            outer, inner, jnp.array(START), 0.7, solver=optax.adamw(0.05), steps=3, diff=mode
        )
        return grads["z"]

    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", HypergradientWarning)  # three steps do not converge
        assert np.isfinite(slope(mode))
        plain = type(mode)(**{**vars(mode), "zero_safe": False})
        assert repr(plain) == repr(mode)
    assert plain != mode


def test_without_the_switch_jax_says_nan():
    solve = functools.partial(
        hypergrad, outer, inner, jnp.array(START), 0.7, solver=optax.adamw(0.05), steps=3
    )
    with jax.numpy_dtype_promotion("standard"):
        assert np.isfinite(solve(diff=Unroll())[1]["z"])
        assert np.isfinite(solve(diff=Unroll("sqrt"))[1]["z"])
        with pytest.warns(HypergradientWarning, match="not finite"):
            assert np.isnan(solve(diff=Unroll(zero_safe=False))[1]["z"])


def test_weight_decay_can_be_learned_through_adamw():
    solver = lambda decay: optax.adamw(1e-2, weight_decay=decay)
    options = {"solver": solver, "steps": 5, "diff": Unroll()}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        y0 = jnp.array(START)
        _, grads, _ = hypergrad(outer, inner, y0, 0.7, hp=0.1, wrt=("hp",), **options)
        end = lambda decay: outer(argmin(inner, y0, 0.7, hp=decay, **options).y, 0.7)
        difference = (end(0.1 + 1e-4) - end(0.1 - 1e-4)) / 2e-4
    # Truncation, the step squared, and rounding, eps over the step, beside a slope of 1e-3.
    np.testing.assert_allclose(grads["hp"], difference, rtol=0, atol=1e-8)


def test_differentiable_keeps_updates_states_and_extra_arguments():
    plain = optax.chain(optax.scale_by_backtracking_linesearch(5), optax.scale(1.0))
    safe = differentiable(plain)
    w = {"a": jnp.array([1.0, -2.0]), "b": None}
    value_fn = lambda w: jnp.sum(w["a"] ** 4)
    value, grad = jax.value_and_grad(value_fn)(w)
    extra = {"value": value, "grad": grad, "value_fn": value_fn}
    with jax.numpy_dtype_promotion("standard"):
        expected = plain.update(grad, plain.init(w), w, **extra)
        found = safe.update(grad, safe.init(w), w, **extra)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_differentiable_refuses_what_is_no_transformation():
    with pytest.raises(TypeError, match=r"differentiable needs an optax transformation, got 3\."):
        differentiable(3)
