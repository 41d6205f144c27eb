"""What an `update` asks for besides the gradient is read off its signature."""

import jax.numpy as jnp
import optax
import pytest

from jaxopt_tut.optimizers import lbfgs
from jaxopt_tut.optimizers.extra_arguments import is_transformation, names_taken, takes_any
from jaxopt_tut.optimizers.objective import part_of, within
from jaxopt_tut.optimizers.state_readings import last_evaluation

OFFERED = ["value", "grad", "value_fn"]


def by_name(grad, state, params, *, value, scale=1.0):
    return grad, (state, params, value, scale)


def by_position(value, grad, state):
    return value, (state, grad)


def by_position_and_any(value, grad, state, **rest):
    return value, (state, grad, rest)


@pytest.mark.parametrize(
    ("update", "names"),
    [
        (by_name, ["value"]),
        (by_position, []),
        (by_position_and_any, ["value_fn"]),
        (optax.sgd(0.1).update, OFFERED),
        (optax.scale(2.0).update, []),
    ],
)
def test_an_update_is_handed_what_it_names(update, names):
    assert names_taken(update, OFFERED) == names


def test_transformations_are_told_by_what_they_can_do():
    accumulating = optax.MultiSteps(optax.sgd(0.1), 2)
    assert all(map(is_transformation, (optax.sgd(0.1), optax.scale(2.0), accumulating)))
    assert not any(map(is_transformation, (optax.sgd, None, "sgd", (None, None))))
    assert takes_any(accumulating.update)
    assert not takes_any(optax.scale(2.0).update)


def test_a_part_of_the_parameters_is_filled_up_by_the_rest():
    part = {"a": 5.0, "b": optax.MaskedNode()}
    loss = within(lambda w: w["a"] * w["b"], {"a": 2.0, "b": 3.0})
    assert (loss(part), loss({"a": 5.0, "b": 7.0})) == (15.0, 35.0)
    assert part_of({"a": 1.0, "b": 2.0}, part) == {"a": 1.0, "b": optax.MaskedNode()}


def test_only_the_last_link_knows_the_point_stepped_to():
    params = jnp.ones(2)
    assert last_evaluation(lbfgs().init(params)) is not None
    assert last_evaluation(optax.chain(lbfgs(), optax.scale(0.5)).init(params)) is None
