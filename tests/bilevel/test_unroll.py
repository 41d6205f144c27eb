import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import sgd
from tests.bilevel.problems import NUM_STEPS, RATE, make_ridge

REMATS = ["none", "step", "sqrt", 3]


@pytest.mark.slow
@pytest.mark.parametrize("remat", REMATS)
@pytest.mark.usefixtures("x64")
def test_matches_the_formula_of_gradient_descent_on_ridge(remat):
    ridge = make_ridge()

    def value(z, rate, start):
        return ridge.outer(ridge.path(z, rate, start, NUM_STEPS), z)

    z = jnp.float64(-1.0)
    expected = jax.grad(value, argnums=(0, 1, 2))(z, RATE, ridge.start)
    found, grads, info = jax.jit(
        lambda z, hp, y0: hypergrad(
            ridge.outer,
            ridge.f,
            y0,
            z,
            solver=sgd,
            steps=NUM_STEPS,
            diff=Unroll(remat),
            hp=hp,
            wrt=("z", "hp", "y0"),
        )
    )(z, jnp.float64(RATE), ridge.start)
    np.testing.assert_allclose(found, value(z, RATE, ridge.start), rtol=1e-12)
    for name, wanted in zip(("z", "hp", "y0"), expected, strict=True):
        np.testing.assert_allclose(grads[name], wanted, rtol=1e-8)
    assert info.steps == NUM_STEPS
    assert info.mode == f"Unroll(remat={remat!r})"


@pytest.mark.usefixtures("x64")
def test_converges_to_the_closed_form_of_ridge():
    ridge = make_ridge()
    z = jnp.float64(-1.0)
    closed = jax.grad(lambda z: ridge.outer(ridge.solution(z), z))(z)
    _, grads, info = hypergrad(
        ridge.outer, ridge.f, ridge.start, z, solver=sgd(RATE), steps=400, diff=Unroll("sqrt")
    )
    assert info.converged
    np.testing.assert_allclose(grads["z"], closed, rtol=1e-8)


def test_unknown_remat_is_refused():
    with pytest.raises(ValueError, match=r"Unroll needs remat to be .* got remat='cube'"):
        Unroll("cube")


def test_remat_of_no_levels_is_refused():
    with pytest.raises(ValueError, match="got remat=0"):
        Unroll(0)


def test_bytes_shrink_with_levels():
    ridge = make_ridge("float32")
    sizes = [
        argmin(ridge.f, ridge.start, -1.0, solver=sgd(RATE), steps=64, diff=Unroll(r)).info.bytes
        for r in ("none", "step", "sqrt", 3)
    ]
    assert sizes == sorted(sizes, reverse=True)
