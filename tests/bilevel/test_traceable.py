"""Modes and linear solves whose numbers may be traced."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import CG, Implicit, Neumann, Truncate
from jaxopt_tut.bilevel.traceable import as_code, is_above, is_at_least, register


def test_the_leaves_of_a_registered_value_are_its_numbers():
    @register(numbers=("tol",))
    @dataclasses.dataclass(frozen=True)
    class Solve:
        tol: float
        count: int

    assert jax.tree.map(lambda tol: 2 * tol, Solve(0.5, 3)) == Solve(1.0, 3)


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        (Truncate(3), "Truncate(k=3)"),
        (
            Implicit(Neumann(2)),
            "Implicit(solve=Neumann(k=2, step_size=None), tol=None, damping=0.0)",
        ),
        (
            Implicit(CG(), damping=jnp.float32(0.5)),
            "Implicit(solve=CG(max_steps=10000), tol=None, damping=0.5)",
        ),
    ],
    ids=["truncate", "neumann", "array"],
)
def test_a_mode_is_written_as_its_constructor_is_called(mode, code):
    assert as_code(mode) == code


def test_a_traced_number_has_no_value_to_be_written():
    said = []
    jax.eval_shape(lambda x: said.append(as_code(Implicit(CG(), damping=x))) or x, 0.5)
    assert said == ["Implicit(solve=CG(max_steps=10000), tol=None, damping=traced)"]


@pytest.mark.parametrize(
    ("value", "above", "at_least"),
    [
        (2, True, True),
        (1.0, False, True),
        (np.float32(0.5), False, False),
        (float("nan"), False, False),
        (None, True, True),
        (jnp.float32(-5.0), True, True),
    ],
    ids=str,
)
def test_a_number_is_compared_if_it_is_known_and_passes_if_not(value, above, at_least):
    assert is_above(value, 1) is above
    assert is_at_least(value, 1) is at_least
