"""What modes do not define raises, and the sentence names the modes that do."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut.bilevel import Implicit, Plan, Unroll
from jaxopt_tut.bilevel.modes import MODES
from jaxopt_tut.bilevel.modes.refusal import forbid, forward_only, names_of, undefined
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.optimizers import sgd


def problem():
    f = lambda y, z: jnp.sum((y - z) ** 2)
    pose = Pose(caller="argmin", f=f, y0=0.0, z=1.0, solver=sgd(0.1), steps=1, diff=Unroll())
    return pose.problem()[0]


def test_modes_are_written_as_they_are_called():
    expected = "Unroll(), Forward(), Truncate(k), Implicit(), OneStep(), Plan(memory)"
    assert names_of((*MODES, Plan)) == expected


@pytest.mark.parametrize("wanted", ["hp", "y0", "second", "vjp"])
def test_the_sentence_names_the_modes_that_declare_it(wanted):
    sentence = undefined(problem(), Implicit(), wanted)
    named = sentence.split("define it: ")[1].split(".")[0]
    for mode in MODES:
        assert (f"{mode.__name__}(" in named) == (wanted in mode.wrt | mode.derivatives)
    # what a plan chooses is an unrolling, so that it defines the same and is not named again
    assert "Plan" not in named


def test_a_forbidden_derivative_raises_and_the_value_passes():
    fun = lambda x: 2 * forbid(x, "x has no derivative.")
    assert fun(3.0) == 6.0
    assert jax.vmap(fun)(jnp.ones(2)).shape == (2,)
    for derivative in (jax.grad(fun), jax.jacfwd(fun), jax.jit(jax.grad(fun))):
        with pytest.raises(ValueError, match=r"^x has no derivative\."):
            derivative(1.0)


def test_a_function_for_forward_mode_raises_in_reverse_mode():
    square = forward_only(lambda x: x**2, "square goes forwards.")
    assert square(3.0) == 9.0
    assert jax.jvp(square, (3.0,), (1.0,))[1] == 6.0
    with pytest.raises(ValueError, match=r"^square goes forwards\."):
        jax.grad(square)(3.0)
