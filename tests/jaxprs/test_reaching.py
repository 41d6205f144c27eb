"""What a program is read to depend on is what it depends on, through calls, loops and branches."""

import jax
import jax.numpy as jnp
import pytest

from jaxopt_tut import jaxprs


def in_a_scan(a, b, c):
    """The second carry takes up the first only in the turn after."""

    def step(carry, x):
        first, second, third = carry
        return (first * x, second + first, third), second

    return jax.lax.scan(step, (a, b, c), jnp.ones(4))


def in_a_while(a, b, c):
    return jax.lax.while_loop(lambda v: v[0] < c, lambda v: (v[0] + 1, v[1] * 2), (a, b))


def in_no_turn(a, b, c):
    """What a loop returns that is not entered is what it was given."""
    return jax.lax.fori_loop(0, c.astype(int), lambda _, v: (v[1], v[1]), (a, b))


def in_a_branch(a, b, c):
    return jax.lax.cond(a > 0, lambda x, y: (x, y), lambda _, y: (y, -y), b, c)


CASES = {
    "operations": (lambda a, b, c: (a * b, c, 1.0), [{0, 1}, {2}, set()]),
    "jit": (jax.jit(lambda a, b, c: (b, a + c)), [{1}, {0, 2}]),
    "remat": (jax.checkpoint(lambda a, b, c: (jnp.sin(b), a + c)), [{1}, {0, 2}]),
    "custom_jvp": (lambda a, b, c: (jax.nn.relu(a), b + c), [{0}, {1, 2}]),
    "scan": (in_a_scan, [{0}, {0, 1}, {2}, {0, 1}]),
    "while": (in_a_while, [{0, 2}, {0, 1, 2}]),
    "no turn": (in_no_turn, [{0, 1, 2}, {1}]),
    "cond": (in_a_branch, [{0, 1, 2}, {0, 2}]),
    "vmap": (lambda a, b, c: (jax.vmap(jax.jit(jnp.multiply))(a[None], b[None]), c), [{0, 1}, {2}]),
    "stop_gradient": (lambda a, b, c: (jax.lax.stop_gradient(a), b, c), [{0}, {1}, {2}]),
}


@pytest.mark.parametrize(("fun", "expected"), CASES.values(), ids=CASES)
def test_outputs_depend_on_what_they_are_made_of(fun, expected):
    program = jax.make_jaxpr(fun)(*map(jnp.array, (1.0, 2.0, 3.0)))
    assert jaxprs.reach(program) == expected
