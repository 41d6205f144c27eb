"""Fixed points as layers: the derivative of endless depth, in the memory of one layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    Anderson,
    Implicit,
    Neumann,
    Newton,
    OneStep,
    Picard,
    Unroll,
    fixed_point,
    layers,
)

DIM, INPUTS = 8, 5
RNG = np.random.default_rng(0)
# of norms near 1/2, so that tanh contracts
PARAMS = {
    "inner": RNG.standard_normal((DIM, DIM)) / 12,
    "outer": RNG.standard_normal((DIM, INPUTS)),
    "bias": RNG.standard_normal(DIM),
}
X = RNG.standard_normal(INPUTS)
START = np.zeros(DIM)


def layer(params, y, x):
    return jnp.tanh(params["inner"] @ y + params["outer"] @ x + params["bias"])


def loss(params, x, **options):
    return jnp.sum(layers.deq(layer, params, x, y0=START, **options) ** 2)


def by_formula(params, y):
    """Return the derivatives of the loss in the bias and in x, in NumPy."""
    slope = 1 - np.asarray(y) ** 2
    adjoint = np.linalg.solve(np.eye(DIM) - slope[:, None] * params["inner"], np.diag(slope))
    bias = 2 * np.asarray(y) @ adjoint
    return bias, bias @ params["outer"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", [Picard(), Anderson()], ids=["picard", "anderson"])
def test_the_gradient_is_that_of_the_formula_and_of_the_unrolled_network(solver):
    steps = 80
    gradient = jax.jit(jax.grad(lambda p, x: loss(p, x, solver=solver, steps=steps), (0, 1)))
    found, in_x = gradient(PARAMS, X)

    def unrolled(params, x):
        step = lambda y, _: (layer(params, y, x), None)
        return jnp.sum(jax.lax.scan(step, jnp.zeros(DIM), length=steps)[0] ** 2)

    expected = jax.jit(jax.grad(unrolled, (0, 1)))(PARAMS, X)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), (found, in_x), expected
    )
    y = layers.deq(layer, PARAMS, X, y0=START, solver=solver, steps=steps)
    bias, formula = by_formula(PARAMS, y)
    np.testing.assert_allclose(found["bias"], bias, atol=1e-12)
    np.testing.assert_allclose(in_x, formula, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_forward_mode_and_the_second_derivative_are_those_of_the_unrolled_network():
    towards = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), PARAMS)

    def along(t, diff):
        moved = jax.tree.map(lambda a, b: a + t * b / 50, PARAMS, towards)
        return loss(moved, X, solver=Picard(), steps=60, diff=diff)

    orders = lambda diff: jax.jit(
        lambda t: (jax.jvp(lambda t: along(t, diff), (t,), (1.0,))[1],
                   jax.jacfwd(jax.grad(lambda t: along(t, diff)))(t))
    )(0.3)  # fmt: skip
    np.testing.assert_allclose(orders(None), orders(Unroll()), rtol=1e-9)


def test_memory_does_not_grow_with_the_number_of_steps():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)

    def size(steps, diff):
        value = lambda p: jnp.sum(
            layers.deq(
                layer,
                p,
                jnp.ones(INPUTS),
                y0=jnp.zeros(DIM),
                solver=Picard(),
                steps=steps,
                diff=diff,
            )
        )
        program = jax.jit(jax.grad(value)).lower(params).compile()
        return program.memory_analysis().temp_size_in_bytes

    assert size(10, None) == size(1000, None)
    assert size(10, OneStep()) == size(1000, OneStep())
    # the loop that keeps its steps shows that the measure sees them
    assert size(1000, Unroll()) - size(10, Unroll()) >= 990 * DIM * 4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", [Picard(), Anderson()], ids=["picard", "anderson"])
def test_biased_modes_are_backpropagation_through_the_last_applications(solver):
    y = layers.deq(layer, PARAMS, X, y0=START, steps=80)
    modes = {1: OneStep(), 4: Implicit(Neumann(4, step_size=1.0))}

    def last(params, count):
        at = jax.lax.stop_gradient(y)
        for _ in range(count):
            at = layer(params, at, X)
        return jnp.sum(at**2)

    for count, mode in modes.items():
        found = jax.grad(lambda p, m=mode: loss(p, X, solver=solver, steps=80, diff=m))(PARAMS)
        expected = jax.grad(lambda p, k=count: last(p, k))(PARAMS)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), found, expected)


def test_each_member_of_a_batch_has_its_own_equilibrium():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    xs = jnp.asarray(RNG.standard_normal((3, INPUTS)), jnp.float32)
    solve = lambda x: layers.deq(
        layer, params, x, y0=jnp.zeros(DIM), steps=60, tol=1e-5, has_info=True
    )
    ys, info = jax.jit(jax.vmap(solve))(xs)
    for y, steps, x in zip(ys, info.steps, xs, strict=True):
        alone, told = jax.jit(solve)(x)
        # which of two equal stops comes first rounding decides, at the tolerance
        np.testing.assert_allclose(y, alone, atol=1e-5)
        assert abs(int(steps) - int(told.steps)) <= 1
        assert bool(told.converged)


def test_any_tree_starts_at_zeros_like_the_input():
    mix = lambda w, y, x: {
        "a": 0.3 * w * jnp.sin(y["b"][0]) + x["a"],
        "b": (x["b"][0] - 0.5 * y["a"],),
        "none": None,
    }
    x = {"a": jnp.array([1.0, 2.0]), "b": (jnp.array([0.5, -0.5]),), "none": None}
    value = lambda w: layers.deq(mix, w, x, steps=40)
    y = value(1.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), y, mix(1.0, y, x))
    # da/dw = .3 sin b + .3 w cos b db/dw, and db/dw = -.5 da/dw
    sine, cosine = np.sin(y["b"][0]), np.cos(y["b"][0])
    np.testing.assert_allclose(
        jax.jacrev(value)(1.0)["a"], 0.3 * sine / (1 + 0.15 * cosine), rtol=1e-5
    )


@pytest.mark.parametrize("diff", [None, OneStep()], ids=["implicit", "one_step"])
def test_a_layer_that_does_not_contract_is_told(diff):
    grows = lambda w, y, x: w * y + x
    options = {"solver": Picard(), "steps": 50, "diff": diff, "has_info": True}
    _, info = layers.deq(grows, 3.0, jnp.ones(4), **options)
    assert not bool(info.converged)
    assert int(info.steps) == (50 if diff is None else 51)


def test_it_is_a_fixed_point_in_other_words():
    x = jnp.ones(3)
    y = layers.deq(lambda w, y, x: w * jnp.cos(y) + x, 0.5, x, steps=30)
    same = fixed_point(lambda y, z: z[0] * jnp.cos(y) + z[1], jnp.zeros(3), (0.5, x), steps=30)
    np.testing.assert_array_equal(y, same.y)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: layers.deq(3.0, 1.0, 1.0, steps=3),
            TypeError,
            r"^deq needs a function layer\(params, y, x\), got layer=3.0",
        ),
        (
            lambda: layers.deq(lambda w, y, x: w[x] + 0.5 * y, jnp.ones(3), jnp.arange(2), steps=3),
            TypeError,
            r"^deq needs y0=\.\.\. where x has leaves .* got x=int32\[2\]",
        ),
        (
            lambda: layers.deq(lambda _w, y, _x: y, 1.0, 1.0, steps=3, solver=Newton()),
            TypeError,
            "^fixed_point needs one of Picard",
        ),
        (
            lambda: layers.deq(lambda _w, y, _x: y[:1], 1.0, jnp.ones(2), steps=3),
            ValueError,
            "^fixed_point needs ",
        ),
        (
            lambda: jax.grad(lambda w: layers.deq(lambda _, y, x: w * y + x, 1.0, 1.0, steps=3))(
                0.1
            ),
            ValueError,
            "needs what is differentiated as an argument",
        ),
        (
            lambda: jax.grad(
                lambda w: layers.deq(lambda _, y, x: w * y + x, 1.0, 1.0, steps=3, diff=OneStep())
            )(0.1),
            ValueError,
            "needs what is differentiated as an argument",
        ),
        (
            lambda: jax.grad(
                lambda y: layers.deq(lambda w, y, x: w * y + x, 0.1, 1.0, y0=y, steps=3)
            )(0.1),
            ValueError,
            "has no derivative with respect to y0 under Implicit",
        ),
    ],
)
def test_bad_input_is_refused_in_a_sentence(call, error, message):
    with pytest.raises(error, match=message):
        call()
