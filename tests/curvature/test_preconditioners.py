"""The preconditioner is what the optimizer's own step divides the gradient by."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import optimizers
from jaxopt_tut.curvature import adam_preconditioner

B = {"b1": 0.8, "b2": 0.9, "eps": 1e-3}
PARAMS = {"w": jnp.ones((2, 3)), "inner": [jnp.zeros(2), jnp.float32(1.0)], "none": None}


HALF = {"w": "a", "inner": ["b", "a"], "none": None}
OPTIMIZERS = {
    "ours": optimizers.adam(0.1, **B),
    "our adamw": optimizers.adamw(0.1, **B),
    "optax": optax.adam(0.1, **B),
    "nadam": optax.nadam(0.1, **B),
    "chain": optax.chain(optax.clip_by_global_norm(9.0), optax.adamw(0.1, **B), optax.ema(0.5)),
    "injected": optax.inject_hyperparams(optax.adam)(learning_rate=0.1, **B),
    "multisteps": optax.MultiSteps(optax.adam(0.1, **B), 1).gradient_transformation(),
    "if finite": optax.apply_if_finite(optax.adam(0.1, **B), 3),
    "masked with all": optax.masked(
        optax.adam(0.1, **B), lambda p: jax.tree.map(lambda _: True, p)
    ),
    "partition": optax.partition({"a": optax.adam(0.1, **B), "b": optax.adam(1.0, **B)}, HALF),
    "by subtree": optax.partition(
        {"a": optax.adam(0.1, **B), "b": optax.adam(1.0, **B)},
        {"w": "a", "inner": "b", "none": None},
    ),
    "schedule": optax.adam(optax.linear_schedule(0.1, 0.0, 10), **B),
}


def updated(optimizer, grads, state, params=PARAMS):
    """Take a step; optax multiplies floats by counts."""
    with jax.numpy_dtype_promotion("standard"):
        return optimizer.update(grads, state, params)


def gradients(step):
    keys = jax.random.split(jax.random.key(step), 3)
    draw = lambda key, leaf: jax.random.normal(key, leaf.shape) + 0.5
    leaves, structure = jax.tree.flatten(PARAMS)
    return structure.unflatten(map(draw, keys, leaves))


def averages(num_steps):
    """Return Adam's second moments in float64, by their definition."""
    nu = [np.zeros(leaf.shape) for leaf in jax.tree.leaves(PARAMS)]
    for step in range(num_steps):
        squares = [np.asarray(g, float) ** 2 for g in jax.tree.leaves(gradients(step))]
        nu = [0.9 * v + 0.1 * g for v, g in zip(nu, squares, strict=True)]
    return nu


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_scale_is_one_over_what_adam_divides_by(name):
    optimizer, num_steps = OPTIMIZERS[name], 4
    state = optimizer.init(PARAMS)
    for step in range(num_steps):
        _, state = updated(optimizer, gradients(step), state)
    scale = adam_preconditioner(state, **B)
    assert jax.tree.structure(scale) == jax.tree.structure(PARAMS)
    for found, nu in zip(jax.tree.leaves(scale), averages(num_steps), strict=True):
        # a sum of four squares, two powers and a root in float32
        expected = 1 / ((1 - 0.8**num_steps) * (np.sqrt(nu / (1 - 0.9**num_steps)) + 1e-3))
        np.testing.assert_allclose(found, expected, rtol=20 * np.finfo(np.float32).eps)


def test_the_step_that_stands_still_is_the_scale_times_the_average():
    """Adam's update with a zero learning in its averages: m / (1 - b1^t) over the root."""
    optimizer = optax.scale_by_adam(b1=0.0, b2=0.0, eps=0.5)
    gradient = jnp.array([3.0, -4.0])
    update, state = updated(optimizer, gradient, optimizer.init(gradient))
    scale = adam_preconditioner(state, b1=0.0, b2=0.0, eps=0.5)
    np.testing.assert_allclose(scale * gradient, update, rtol=4 * np.finfo(np.float32).eps)


def test_the_largest_average_of_amsgrad_stands_in_its_place():
    optimizer = optax.amsgrad(0.1, **B)
    state = optimizer.init(jnp.zeros(1))
    for gradient in (9.0, 0.1, 0.1):
        _, state = updated(optimizer, jnp.full(1, gradient), state, jnp.zeros(1))
    largest = optax.tree.get(state, "nu_max")
    scale = adam_preconditioner(state, **B)
    np.testing.assert_allclose(scale, 1 / ((1 - 0.8**3) * (np.sqrt(largest) + 1e-3)), rtol=1e-5)


def test_before_the_first_update_nothing_is_known():
    scale = adam_preconditioner(optax.adam(0.1).init(PARAMS))
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(scale))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.complex64])
def test_the_scale_is_real_and_at_least_single(dtype):
    params = jnp.ones(3, dtype)
    optimizer = optimizers.adam(0.1)
    _, state = updated(optimizer, params, optimizer.init(params), params)
    scale = adam_preconditioner(state)
    assert scale.dtype == jnp.float32
    # the square of 1 is averaged in the precision of the parameters
    rounding = 4 * float(jnp.finfo(dtype).eps) + 1e-4
    np.testing.assert_allclose(scale, 10.0, rtol=rounding)


def test_under_transformations_the_scale_is_the_same():
    optimizer = optax.adam(0.1, **B)
    _, state = updated(optimizer, PARAMS, optimizer.init(PARAMS))
    plain = adam_preconditioner(state, **B)
    compiled = jax.jit(lambda state, eps: adam_preconditioner(state, **B | {"eps": eps}))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), compiled(state, 1e-3), plain
    )


@pytest.mark.parametrize(
    ("opt_state", "message"),
    [
        (optax.sgd(0.1, momentum=0.9).init(PARAMS), "with Adam's in it, .* got none in tuple."),
        (None, "got none in NoneType."),
        (
            optax.masked(optax.adam(0.1), {"w": True, "inner": False, "none": None}).init(PARAMS),
            "needs averages of all parameters, got a state of Adam's that leaves some",
        ),
        (
            optax.chain(optax.adam(0.1), optax.adam(0.1)).init(PARAMS),
            "needs one state of Adam's for each parameter, got several.",
        ),
    ],
    ids=["momentum", "none", "masked", "two"],
)
def test_what_is_no_state_of_adam_is_refused(opt_state, message):
    with pytest.raises(ValueError, match=f"adam_preconditioner {message}|{message}"):
        adam_preconditioner(opt_state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b1": 1.0}, "adam_preconditioner needs 0 <= b1 < 1, got b1=1.0."),
        ({"b2": -0.1}, "adam_preconditioner needs 0 <= b2 < 1, got b2=-0.1."),
        ({"eps": -1.0}, "adam_preconditioner needs a finite eps >= 0, got eps=-1.0."),
        ({"eps_root": -1.0}, "adam_preconditioner needs a finite eps_root >= 0"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adam_preconditioner(optax.adam(0.1).init(PARAMS), **options)
