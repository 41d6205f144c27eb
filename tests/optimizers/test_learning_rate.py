"""The last link of every optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.optimizers import adam, scale_by_learning_rate


@pytest.mark.parametrize("scheduled", [False, True], ids=["number", "schedule"])
def test_equals_that_of_optax_to_the_bit(scheduled):
    rate = optax.exponential_decay(0.3, 2, 0.5) if scheduled else 0.3
    theirs, ours = optax.scale_by_learning_rate(rate), scale_by_learning_rate(rate)
    gradient = jax.random.normal(jax.random.key(0), (50,))
    their_state, our_state = theirs.init(gradient), ours.init(gradient)
    with jax.numpy_dtype_promotion("standard"):  # optax's schedule divides an integer by a float
        for _ in range(4):
            expected, their_state = theirs.update(gradient, their_state)
            actual, our_state = ours.update(gradient, our_state)
            np.testing.assert_array_equal(actual, expected)
    assert jax.tree.structure(our_state) == jax.tree.structure(their_state)


def test_a_float32_schedule_leaves_bfloat16_updates_bfloat16():
    optimizer = scale_by_learning_rate(lambda count: jnp.float32(0.5) ** count)
    gradient = {"w": jnp.array([3.0], jnp.bfloat16)}
    updates, _ = optimizer.update(gradient, optimizer.init(gradient))
    assert updates["w"].dtype == jnp.bfloat16
    assert float(updates["w"][0]) == -3.0


def test_python_numbers_are_leaves_too():
    optimizer = scale_by_learning_rate(0.5)
    updates, _ = optimizer.update({"w": 3.0}, optimizer.init({"w": 1.0}))
    assert float(updates["w"]) == -1.5


def test_the_counter_of_a_schedule_stays_at_its_largest_value():
    optimizer = scale_by_learning_rate(lambda count: count.astype(jnp.float32))
    last = optax.ScaleByScheduleState(count=jnp.array(2**31 - 1, jnp.int32))
    assert int(optimizer.update(jnp.ones(()), last)[1].count) == 2**31 - 1


def test_a_schedule_can_be_differentiated():
    def last(rate, decay):
        optimizer = adam(lambda count: rate * decay ** count.astype(jnp.float32), eps=0.1)
        w, state = jnp.array(1.0), optimizer.init(jnp.array(1.0))
        for _ in range(3):
            updates, state = optimizer.update(jnp.array(1.0), state)
            w = optax.apply_updates(w, updates)
        return w

    # a constant gradient 1 moves by rate * decay^t / 1.1 each time
    by_rate, by_decay = jax.grad(last, argnums=(0, 1))(0.1, 0.5)
    np.testing.assert_allclose(by_rate, -(1 + 0.5 + 0.25) / 1.1, rtol=1e-4)  # f32, 1 - b2 rounded
    np.testing.assert_allclose(by_decay, -0.1 * (1 + 2 * 0.5) / 1.1, rtol=1e-4)


def test_errors_name_the_transform_or_the_optimizer():
    with pytest.raises(ValueError, match=r"^scale_by_learning_rate needs a finite learning_rate"):
        scale_by_learning_rate(float("nan"))
    with pytest.raises(ValueError, match=r"^adam needs a finite learning_rate"):
        adam(float("nan"))
