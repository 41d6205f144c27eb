"""Adam: the equations in NumPy, optax to the bit, derivatives at zero gradients, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxopt_tut.optimizers import ScaleByAdamState, adam, scale_by_adam

GRADIENTS = np.random.default_rng(0).normal(size=(60, 4)) * [1.0, 1e-3, 1e3, 0.0]
COMPLEX_GRADIENTS = np.asarray(GRADIENTS[::2] + 1j * GRADIENTS[1::2], np.complex64)
DEFAULTS = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "eps_root": 0.0}


def updates_of(optimizer, gradients):
    """Stack the updates that a transform makes of a sequence of gradients."""

    def step(state, gradient):
        updates, state = optimizer.update(gradient, state)
        return state, updates

    return jax.lax.scan(step, optimizer.init(gradients[0]), gradients)[1]


# A GPU's compiler may else leave out roundings to bfloat16 between two operations.
ROUND_ALL = {"xla_allow_excess_precision": False}


def oracle(gradients, learning_rate, b1, b2, eps, eps_root):
    m, v, updates = 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * np.abs(g) ** 2
        root = np.sqrt(v / (1 - b2**t) + eps_root)
        updates.append(-learning_rate * m / (1 - b1**t) / (root + eps))
    return np.array(updates)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [{}, {"b1": 0.0}, {"b2": 0.0}, {"b1": 0.5, "b2": 0.8}, {"eps": 0.1}, {"eps_root": 0.1}],
    ids=str,
)
def test_matches_its_equations_in_numpy(options):
    actual = updates_of(adam(0.1, **options), jnp.asarray(GRADIENTS))
    expected = oracle(GRADIENTS, 0.1, **{**DEFAULTS, **options})
    # sixty roundings of the averages, a thousand times larger where 1 - b2^t = 0.001 divides
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "jit"),
    [("float32", False), ("float32", True), ("bfloat16", True)],
    ids=["float32-eager", "float32-jit", "bfloat16-jit"],
)
def test_updates_are_those_of_optax_to_the_bit(dtype, jit):
    ours, theirs = adam(0.1), optax.adam(0.1)
    gradients = jnp.asarray(GRADIENTS[:8], dtype)
    our_state, their_state = ours.init(gradients[0]), theirs.init(gradients[0])
    our_update, their_update = ours.update, theirs.update
    if jit:
        our_update = jax.jit(our_update, compiler_options=ROUND_ALL)
        their_update = jax.jit(their_update, compiler_options=ROUND_ALL)
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        for gradient in gradients:
            updates, our_state = our_update(gradient, our_state)
            expected, their_state = their_update(gradient, their_state)
            np.testing.assert_array_equal(updates, expected)
    np.testing.assert_array_equal(our_state[0].nu, their_state[0].nu)


@pytest.mark.usefixtures("x64")
def test_the_first_step_is_the_sign_of_the_gradient_but_for_eps():
    g = np.array([3.0, -1e-5, 2e4, 0.0])
    updates = updates_of(adam(0.1, eps=1e-8), jnp.asarray(g)[None])[0]
    # 1 - 0.999 is rounded in two places, to a relative 1e-13
    np.testing.assert_allclose(updates, -0.1 * g / (np.abs(g) + 1e-8), rtol=2e-13)


_without_eps = jax.jit(lambda gradients: updates_of(scale_by_adam(eps=0.0), gradients))


@settings(deadline=None, max_examples=20)
@given(
    arrays(np.float32, (4, 3), elements=st.floats(-100, 100, width=32)),
    st.integers(-10, 10),
    st.booleans(),
)
def test_without_eps_the_scale_and_the_sign_of_the_gradients_go_through(gradients, power, flip):
    gradients = np.where(np.abs(gradients) < 2**-10, 0, gradients)  # no square underflows
    sign = -1 if flip else 1
    factor = np.float32(sign * 2.0**power)  # a power of two changes no rounding
    actual, expected = _without_eps(factor * gradients), sign * _without_eps(gradients)
    np.testing.assert_array_equal(actual, expected)


def first_update(g, **options):
    optimizer = adam(0.1, **options)
    return optimizer.update(g, optimizer.init(g))[0]


def _slope(g, eps, eps_root):
    return jax.grad(lambda g: first_update(g, eps=eps, eps_root=eps_root))(g)


def _slope_forward(g, eps, eps_root):
    return jax.jacfwd(lambda g: first_update(g, eps=eps, eps_root=eps_root))(g)


_slopes = [jax.jit(_slope), jax.jit(_slope_forward)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("slope", _slopes, ids=["reverse", "forward"])
def test_the_derivative_at_a_zero_gradient_is_large_and_right(slope, dtype):
    with jax.enable_x64(dtype == "float64"):
        for eps, eps_root in ((1e-8, 0.0), (1e-3, 0.0), (1e-8, 1e-4)):
            actual = float(slope(jnp.zeros((), dtype), eps, eps_root))
            # (1 - b1) / (1 - b1^1), eps and the root, rounded each
            tolerance = 8 * float(jnp.finfo(dtype).eps)
            np.testing.assert_allclose(actual, -0.1 / (eps_root**0.5 + eps), rtol=tolerance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("g", [1e-9, -1e-9])
def test_the_derivative_at_a_zero_gradient_is_the_limit_from_both_sides(g):
    # the derivative of g / (|g| + eps) is eps / (|g| + eps)^2: off by 2 |g| / eps
    actual, limit = (_slopes[0](jnp.array(x), 1e-3, 0.0) for x in (g, 0.0))
    np.testing.assert_allclose(actual, limit, rtol=2.1e-6)


@jax.jit
def _score_after_twenty_steps(hyperparameters, start):
    """Run on a quadratic where the gradients of the second and the last entry are exactly zero."""
    curvatures = jnp.array([0.5, 0.0, 2.0, 1.0])
    optimizer = adam(**hyperparameters)

    def step(carry, _):
        w, state = carry
        updates, state = optimizer.update(curvatures * w, state)
        return (w + updates, state), None

    (w, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=20)
    return w @ jnp.array([1.0, -0.5, 0.25, 2.0])


_derivatives_after_twenty_steps = jax.jit(jax.grad(_score_after_twenty_steps, argnums=(0, 1)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "options",
    [
        {"b1": 0.8, "b2": 0.9, "eps": 0.1, "eps_root": 0.01},
        {"b1": 0.0, "b2": 0.9, "eps": 0.1, "eps_root": 0.01},
        {"b1": 0.8, "b2": 0.0, "eps": 0.1, "eps_root": 0.01},
        {"b1": 0.9, "b2": 0.999, "eps": 0.5, "eps_root": 0.25},
    ],
    ids=["usual", "b1=0", "b2=0", "slow"],
)
def test_derivatives_through_twenty_steps_match_finite_differences(options):
    hyperparameters = {"learning_rate": 0.05, **options}
    start = jnp.array([1.0, 1.0, -1.0, 0.0])
    by_option, by_start = _derivatives_after_twenty_steps(hyperparameters, start)
    # rounding eps / h = 2e-9; truncation (h / scale)^2 with a scale of 0.01 at least
    h = 1e-7
    for name, value in hyperparameters.items():
        up = _score_after_twenty_steps({**hyperparameters, name: value + h}, start)
        down = _score_after_twenty_steps({**hyperparameters, name: value - h}, start)
        np.testing.assert_allclose(
            by_option[name], (up - down) / (2 * h), rtol=1e-6, atol=1e-8, equal_nan=False
        )
    for i, direction in enumerate(np.eye(4)):
        up = _score_after_twenty_steps(hyperparameters, start + h * direction)
        down = _score_after_twenty_steps(hyperparameters, start - h * direction)
        np.testing.assert_allclose(
            by_start[i], (up - down) / (2 * h), rtol=1e-6, atol=1e-8, equal_nan=False
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_by_the_hyperparameters_are_zero_where_no_gradient_ever_was(dtype):
    with jax.enable_x64(dtype == "float64"):
        last = lambda options: updates_of(adam(0.1, **options), jnp.zeros((5, 1), dtype)).sum()
        options = {name: jnp.array(value, dtype) for name, value in DEFAULTS.items()}
        derivatives = jax.jit(jax.grad(last))(options)
        assert derivatives == dict.fromkeys(DEFAULTS, 0.0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_without_eps_a_zero_gradient_makes_a_zero_update(dtype):
    gradient = jnp.array([0.0, 4.0], dtype)
    updates = first_update(gradient, eps=0.0)
    assert updates[0] == 0
    # 1 - 0.999 holds a few bits in half precision: 1e-3 / eps of relative error
    tolerance = {"float16": 0.02, "bfloat16": 0.02, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(float(updates[1]), -0.1, rtol=tolerance)


def test_float16_rounds_the_default_eps_to_zero_and_stays_finite():
    updates = updates_of(adam(0.1), jnp.zeros((3, 2), jnp.float16))
    np.testing.assert_array_equal(updates, np.zeros((3, 2)))


@pytest.mark.parametrize("moment", ["mu", "nu"])
def test_a_nan_in_either_average_comes_out(moment):
    optimizer = scale_by_adam()
    state = optimizer.init(jnp.zeros(2))._replace(**{moment: jnp.array([jnp.nan, 0.0])})
    updates, _ = optimizer.update(jnp.ones(2), state)
    np.testing.assert_array_equal(jnp.isnan(updates), [True, False])


def test_the_counter_stays_at_its_largest_value():
    last = ScaleByAdamState(jnp.array(2**31 - 1, jnp.int32), jnp.ones(1), jnp.ones(1))
    updates, state = scale_by_adam().update(jnp.ones(1), last)
    assert int(state.count) == 2**31 - 1
    np.testing.assert_allclose(updates, [1.0], rtol=1e-6)  # no correction is left


def test_float32_averages_of_bfloat16_gradients_are_rounded_only_at_the_end():
    gradients = jnp.asarray(GRADIENTS, jnp.bfloat16)
    mixed = scale_by_adam(mu_dtype="float32", nu_dtype="float32")
    state = mixed.init(gradients[0])
    assert (state.mu.dtype, state.nu.dtype) == (jnp.float32, jnp.float32)
    run = jax.jit(updates_of, static_argnums=0, compiler_options=ROUND_ALL)
    expected = run(scale_by_adam(), gradients.astype(jnp.float32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(run(mixed, gradients), expected)


def test_squares_that_half_precision_rounds_to_zero_count_in_a_float32_average():
    optimizer = scale_by_adam(nu_dtype="float32")
    gradient = jnp.full(2, 1e-4, jnp.float16)  # its square is below the smallest float16
    updates, state = optimizer.update(gradient, optimizer.init(gradient))
    np.testing.assert_allclose(state.nu, 1e-11, rtol=2 * 2**-11)  # the gradient's own rounding
    np.testing.assert_allclose(updates, 1, rtol=2**-10)


def test_averages_can_be_stored_in_less_than_they_are_computed_in():
    optimizer = scale_by_adam(mu_dtype="bfloat16", nu_dtype="bfloat16")
    gradient = jnp.asarray(GRADIENTS[0], jnp.float32)
    updates, state = optimizer.update(gradient, optimizer.init(gradient))
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.bfloat16)
    plain = scale_by_adam()
    expected, _ = plain.update(gradient, plain.init(gradient))
    np.testing.assert_array_equal(updates, expected)


def test_complex_updates_are_those_of_the_equations_and_of_optax():
    ours = updates_of(adam(0.1), COMPLEX_GRADIENTS)
    with jax.numpy_dtype_promotion("standard"):
        theirs = updates_of(optax.adam(0.1), COMPLEX_GRADIENTS)
    # the same operations on a real or on a complex average: a few roundings apart
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.1 * 16 * 1.2e-7)
    # float32 holds 1 - 0.999 to a relative 6e-8 / 1e-3
    expected = oracle(np.asarray(COMPLEX_GRADIENTS, complex), 0.1, **DEFAULTS)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.2 * 6e-5)


def test_complex_updates_turn_with_the_gradients_and_one_real_average_scales_them():
    optimizer = scale_by_adam()
    assert optimizer.init(COMPLEX_GRADIENTS[0]).nu.dtype == jnp.float32
    turned = updates_of(optimizer, 1j * COMPLEX_GRADIENTS)
    expected = 1j * updates_of(optimizer, COMPLEX_GRADIENTS)
    # the parts change places, and with them which of two products is rounded
    np.testing.assert_allclose(turned, expected, rtol=0, atol=16 * 1.2e-7)


@pytest.mark.parametrize(
    ("dtype", "hyperparam_dtype"), [("bfloat16", jnp.float32), ("complex64", None)]
)
def test_injected_hyperparameters_keep_the_dtype_of_the_parameters(dtype, hyperparam_dtype):
    inject = optax.inject_hyperparams(adam, hyperparam_dtype=hyperparam_dtype)
    gradient = jnp.asarray(GRADIENTS[0], dtype)
    updates, injected = [], inject(0.1)
    for optimizer in (injected, adam(0.1)):
        updates.append(optimizer.update(gradient, optimizer.init(gradient), gradient)[0])
    assert updates[0].dtype == dtype
    # a float32 hyper-parameter is rounded before 1 - 0.999 is taken, a Python number after it
    tolerance = max(6e-8 / 1e-3, 4 * float(jnp.finfo(dtype).eps))
    np.testing.assert_allclose(*(np.asarray(u, complex) for u in updates), rtol=tolerance)


def test_trains_an_nnx_module():
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, adam(0.1), wrt=nnx.Param)
    x = jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, -6.0]])
    y = x @ jnp.array([[2.0], [-1.0]]) + 0.5
    graph, state = nnx.split((model, optimizer))

    @jax.jit
    def step(state):
        model, optimizer = nnx.merge(graph, state)
        loss, gradients = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, gradients)
        return nnx.split((model, optimizer))[1], loss

    losses = []
    for _ in range(200):
        state, loss = step(state)
        losses.append(float(loss))
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize("factory", [lambda **kw: adam(0.1, **kw), scale_by_adam])
@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"b1": 1.0}, ValueError, r"^adam needs 0 <= b1 < 1, got b1=1\.0\.$"),
        ({"b2": -0.5}, ValueError, r"^adam needs 0 <= b2 < 1, got b2=-0\.5\.$"),
        ({"eps": -1e-8}, ValueError, r"^adam needs a finite eps >= 0, got eps=-1e-08\.$"),
        ({"eps_root": np.nan}, ValueError, r"^adam needs a finite eps_root >= 0, got eps_root=nan"),
        ({"b1": None}, TypeError, r"^adam needs a real number as b1, got b1=None\.$"),
        (
            {"mu_dtype": "int8"},
            ValueError,
            r"^adam needs a floating or complex mu_dtype, got .*int8",
        ),
        (
            {"nu_dtype": "complex64"},
            ValueError,
            r"^adam needs a floating nu_dtype, got .*complex64",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refuses_bad_options(factory, option, error, message):
    with pytest.raises(error, match=message):
        factory(**option)


@pytest.mark.parametrize(
    ("gradients", "error", "message"),
    [
        ({"v": jnp.ones(2)}, ValueError, r"^adam needs .* 'w' on one side and 'v' on the other\.$"),
        (
            {"w": jnp.ones(3)},
            ValueError,
            r"^adam needs leaves of the same shape, got \(2,\) at 'w'",
        ),
        (
            {"w": jnp.ones(2, jnp.complex64)},
            TypeError,
            r"^adam needs .* complex64 and float32 at 'w'",
        ),
    ],
    ids=["path", "shape", "complex"],
)
def test_refuses_gradients_that_do_not_match(gradients, error, message):
    optimizer = adam(0.1)
    with pytest.raises(error, match=message):
        optimizer.update(gradients, optimizer.init({"w": jnp.ones(2)}))
