"""Each mode does what it declares, and raises for the rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Forward, Implicit, OneStep, Truncate, Unroll, argmin, hypergrad
from jaxopt_tut.bilevel import modes as room
from jaxopt_tut.optimizers import sgd

MODES = [Unroll(), Unroll("sqrt"), Forward(), Truncate(3), Implicit(), OneStep()]
IDS = ["unroll", "unroll_sqrt", "forward", "truncate", "implicit", "one_step"]
DERIVATIVES = ["jvp", "vjp", "second"]
ARGUMENTS = ["z", "hp", "y0"]
MESSAGES = {
    "vjp": r"argmin has no derivative in reverse mode under Forward; modes that define it: Unr",
    "second": r"argmin has no derivative of second order under OneStep; modes that define it: Unr",
    "hp": r"argmin has no derivative with respect to hp under \w+; modes that define it: Unr",
    "y0": r"argmin has no derivative with respect to y0 under \w+; modes that define it: Unr",
}
NUM_STEPS = 6


def f(y, z):
    return jnp.sum((y - z) ** 2 * (1 + 0.1 * y**2))


def solution(mode, **fixed):
    values = {"y0": jnp.array([0.5, -1.0]), "z": jnp.array([1.0, 0.3]), "hp": 0.1, **fixed}
    return argmin(
        f, values["y0"], values["z"], solver=sgd, steps=NUM_STEPS, diff=mode, hp=values["hp"]
    ).y


def value_at(mode, name):
    """Return a function of one number that moves the argument `name`."""

    def value(amount):
        start = {"y0": jnp.array([0.5, -1.0]), "z": jnp.array([1.0, 0.3]), "hp": 0.1}[name]
        return jnp.sum(jnp.sin(solution(mode, **{name: start + amount})))

    return value


@pytest.mark.parametrize("mode", room.MODES)
def test_every_mode_has_a_row(mode):
    assert mode in map(type, MODES), f"add a row for {mode.__name__} to MODES above"


def derivative_of(value, kind, mode):
    if kind == "jvp":
        return lambda x: jax.jvp(value, (x,), (1.0,))[1]
    if kind == "vjp":
        return jax.grad(value)
    first = jax.grad(value) if "vjp" in mode.derivatives else jax.jacfwd(value)
    return jax.jacfwd(first)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("kind", DERIVATIVES)
@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_a_mode_defines_what_it_declares_and_nothing_else(mode, kind, name):
    derivative = jax.jit(derivative_of(value_at(mode, name), kind, mode))
    if kind not in mode.derivatives or name not in mode.wrt:
        why = name if name not in mode.wrt else kind
        with pytest.raises(ValueError, match=MESSAGES[why]):
            derivative(0.0)
        return
    found = derivative(0.0)
    assert found != 0
    assert jnp.isfinite(found)
    if mode.is_exact and mode != Unroll():
        exact = jax.jit(derivative_of(value_at(Unroll(), name), kind, Unroll()))(0.0)
        # float32: two orders of adding up six steps
        np.testing.assert_allclose(found, exact, rtol=1e-4)


UNDEFINED = [(m, name) for m in MODES for name in ARGUMENTS if name not in m.wrt]


@pytest.mark.parametrize(("mode", "name"), UNDEFINED, ids=str)
def test_hypergrad_refuses_what_the_mode_does_not_define(mode, name):
    match = f"hypergrad has no derivative with respect to {name} under {type(mode).__name__}"
    with pytest.raises(ValueError, match=match):
        hypergrad(
            lambda y, _: jnp.sum(y),
            f,
            jnp.zeros(2),
            jnp.ones(2),
            solver=sgd,
            steps=2,
            diff=mode,
            hp=0.1,
            wrt=(name,),
        )


@pytest.mark.parametrize("mode", [Implicit(), OneStep()], ids=["implicit", "one_step"])
def test_without_strict_an_undefined_derivative_is_zero(mode):
    def value(hp):
        y0, z = jnp.zeros(2), jnp.ones(2)
        result = argmin(f, y0, z, solver=sgd, steps=3, diff=mode, hp=hp, strict=False)
        return jnp.sum(result.y)

    assert jax.grad(value)(0.1) == 0


@pytest.mark.parametrize("where", ["f", "solver"])
@pytest.mark.parametrize("mode", [Implicit(), OneStep()], ids=["implicit", "one_step"])
def test_a_differentiated_value_closed_over_raises(mode, where):
    def value(x):
        factor, rate = (x, 0.1) if where == "f" else (1.0, x)
        g = lambda y, z: factor * f(y, z)
        return jnp.sum(argmin(g, jnp.zeros(2), jnp.ones(2), solver=sgd(rate), steps=3, diff=mode).y)

    for wrap in (lambda g: g, jax.jit):
        with pytest.raises(ValueError, match="hand it to f through z, or to solver through hp"):
            jax.grad(wrap(value))(0.2)


@pytest.mark.parametrize("mode", [Unroll(), Truncate(6)], ids=["unroll", "truncate"])
def test_modes_of_the_steps_differentiate_what_is_closed_over(mode):
    z = jnp.array([1.0, 0.3])

    def closed(scale):
        g = lambda y, z: f(y, scale * z)
        return jnp.sum(argmin(g, jnp.zeros(2), z, solver=sgd(0.1), steps=6, diff=mode).y)

    def open_(scale):
        return jnp.sum(argmin(f, jnp.zeros(2), scale * z, solver=sgd(0.1), steps=6, diff=mode).y)

    # the same operations up to the place of one product
    np.testing.assert_allclose(jax.grad(closed)(1.0), jax.grad(open_)(1.0), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_vmap_is_a_loop_and_closed_over_batched_values_pass(mode):
    def one(shift):
        g = lambda y, z: f(y - shift, z)
        return argmin(g, jnp.zeros(2), jnp.ones(2), solver=sgd(0.1), steps=4, diff=mode).y

    shifts = jnp.array([0.0, 0.5, -1.0])
    loop = jnp.stack([jax.jit(one)(shift) for shift in shifts])
    np.testing.assert_allclose(jax.vmap(one)(shifts), loop, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_jit_and_eager_agree(mode):
    np.testing.assert_allclose(solution(mode), jax.jit(lambda: solution(mode))(), rtol=1e-5)


def test_the_solver_state_has_no_derivative_under_implicit():
    from jaxopt_tut.optimizers import momentum

    def value(z, part):
        result = argmin(f, jnp.zeros(2), z, solver=momentum(0.1), steps=3, diff=Implicit())
        leaves = jax.tree.leaves(result.opt_state)
        return jnp.sum(result.y) + (jnp.sum(leaves[0]) if part == "state" else 0)

    assert jnp.isfinite(jax.grad(value)(jnp.ones(2), "y")).all()
    assert jnp.isnan(jax.grad(value)(jnp.ones(2), "state")).all()
