"""Each check of `tests/checks.py` fails on a transform that breaks the promise it tests."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import optax
import pytest

from tests import cases, checks


def stateless(update):
    """Make a transform of a function from one gradient to one update."""
    return optax.stateless(lambda updates, _: jax.tree.map(update, updates))


def with_state(init, learning_rate):
    """Make plain gradient descent that carries a state along."""
    update = lambda updates, state, _=None: (
        jax.tree.map(lambda g: -learning_rate * g, updates),
        state,
    )
    return optax.GradientTransformation(init, update)


def counts_in_python(learning_rate):
    """Keep the step count outside of the state, where it advances once a trace."""
    count = itertools.count(1)
    return optax.stateless(
        lambda updates, _, i=count: jax.tree.map(
            partial(jnp.multiply, -learning_rate / next(i)), updates
        )
    )


def mixes_lanes(learning_rate):
    """Normalize by the number of lanes of a vmap."""
    step = jax.custom_batching.custom_vmap(lambda g: g)
    step.def_vmap(lambda size, _, g: (g / size, True))
    return stateless(lambda g: -learning_rate * step(g))


def widens(learning_rate):
    return stateless(lambda g: -jnp.float32(learning_rate) * g.astype(jnp.float32))


def flattens(learning_rate):
    return optax.stateless(
        lambda updates, _: [-learning_rate * g for g in jax.tree.leaves(updates)]
    )


def starts_from_python_numbers(learning_rate):
    """Carry a Python float at first, then an array."""
    plain = with_state(lambda _: 0.0, learning_rate)
    update = lambda updates, state, _=None: (plain.update(updates, state)[0], state + jnp.zeros(()))
    return optax.GradientTransformation(plain.init, update)


def detaches_its_learning_rate(learning_rate):
    return stateless(lambda g: -jax.lax.stop_gradient(learning_rate) * g)


def roots_zero(learning_rate):
    """Divide by a root whose derivative at a zero gradient is infinite."""
    return stateless(lambda g: -learning_rate * g / (jnp.sqrt(g * g) + 0.5))


def refuses_extra_arguments(learning_rate):
    plain = optax.sgd(learning_rate)
    update = lambda updates, state, params=None: plain.update(updates, state, params)
    return optax.GradientTransformationExtraArgs(plain.init, update)


def knows_only_floats(learning_rate):
    return optax.sgd(learning_rate if isinstance(learning_rate, float) else 0.0)


def looks_at_the_container(learning_rate):
    """Share the learning rate among the entries of the outermost dict, masked or not."""
    return optax.stateless(
        lambda updates, _: jax.tree.map(lambda g: -learning_rate / len(updates) * g, updates)
    )


def holds_a_buffer_twice(learning_rate):
    return with_state(lambda params: [jax.tree.map(jnp.zeros_like, params)] * 2, learning_rate)


def forgets_the_sharding(learning_rate):
    zeros = lambda params: jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params)
    return with_state(zeros, learning_rate)


def hides_nan(learning_rate):
    return stateless(lambda g: -learning_rate * jnp.nan_to_num(g))


def spreads_nan(learning_rate):
    return stateless(lambda g: -learning_rate * g / jnp.sum(jnp.abs(g)))


def case_of(make):
    return cases.Case(make.__name__, make, {"learning_rate": 0.1})


BROKEN = [
    (checks.check_jit_equals_eager, counts_in_python, AssertionError),
    (checks.check_vmap_equals_loop, mixes_lanes, AssertionError),
    (partial(checks.check_keeps_dtype_and_structure, dtype="bfloat16"), widens, AssertionError),
    (partial(checks.check_keeps_dtype_and_structure, dtype="float32"), flattens, AssertionError),
    (
        partial(checks.check_keeps_dtype_and_structure, dtype="float32"),
        starts_from_python_numbers,
        AssertionError,
    ),
    (partial(checks.check_takes_traced_hyperparameters, dtype="bfloat16"), widens, AssertionError),
    (checks.check_compiles_once, starts_from_python_numbers, AssertionError),
    (checks.check_derivatives, detaches_its_learning_rate, AssertionError),
    (checks.check_derivatives, roots_zero, AssertionError),
    (checks.check_chains, refuses_extra_arguments, TypeError),
    (checks.check_injects_hyperparameters, knows_only_floats, AssertionError),
    (checks.check_masks, looks_at_the_container, AssertionError),
    (checks.check_accumulates, counts_in_python, AssertionError),
    (checks.check_donates, holds_a_buffer_twice, jax.errors.JaxRuntimeError),
    (checks.check_refuses_leaves_without_derivative, optax.sgd, pytest.fail.Exception),
    (checks.check_shows_nan, hides_nan, AssertionError),
    (checks.check_shows_nan, spreads_nan, AssertionError),
]


def name_of(part):
    return getattr(getattr(part, "func", part), "__name__", "")


@pytest.mark.parametrize(("check", "make", "error"), BROKEN, ids=name_of)
def test_fails_on_a_broken_transform(check, make, error):
    with pytest.raises(error):
        check(case_of(make))


def test_the_check_of_sharding_fails_on_a_broken_transform():
    code = (
        "import pytest\n"
        "from tests import checks, test_checks\n"
        "with pytest.raises(AssertionError):\n"
        "    checks.check_keeps_sharding(test_checks.case_of(test_checks.forgets_the_sharding))\n"
    )
    checks.run_on_four_devices(code)


def test_every_check_is_tested():
    public = {value for name, value in vars(checks).items() if name.startswith("check_")}
    tested = {getattr(check, "func", check) for check, _, _ in BROKEN}
    assert public - tested == {checks.check_keeps_sharding}  # in a process of its own, above
