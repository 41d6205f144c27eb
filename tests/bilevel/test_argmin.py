import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.bilevel import (
    ClosedForm,
    Forward,
    Implicit,
    Minimize,
    Stream,
    Truncate,
    Unroll,
    argmin,
    hypergrad,
)
from jaxopt_tut.bilevel.modes.loops import checkpointed_loop, num_rounds
from jaxopt_tut.optimizers import adam, lbfgs, sgd


def f(y, z):
    return jnp.sum((y - z) ** 2)


def with_batch(y, z, batch):
    return jnp.sum((y - z * batch) ** 2)


def solve(**options):
    arguments = {"solver": sgd(0.1), "steps": 3, **options}
    fun = arguments.pop("f", f)
    return argmin(fun, arguments.pop("y0", jnp.zeros(2)), jnp.ones(2), **arguments)


BAD = {
    "mode": ({"diff": "unroll"}, TypeError, r"needs one of the modes .* got diff='unroll'"),
    "mode_type": ({"diff": Unroll}, TypeError, r"got its class, diff=Unroll: call it, Unroll\(\)"),
    "steps": ({"steps": -1}, ValueError, "whole number steps >= 0, got steps=-1"),
    "integer_start": (
        {"y0": {"k": jnp.zeros(2, int)}},
        TypeError,
        "argmin needs floating .* int32 at 'k'",
    ),
    "vector": ({"f": lambda y, z: (y - z) ** 2}, ValueError, "f to return a real scalar"),
    "solver": ({"solver": 0.1}, TypeError, "needs an optax transformation, .* got solver=0.1"),
    "no_hp": ({"solver": sgd}, ValueError, "needs hp=... for a solver that is a function"),
    "hp_unused": ({"hp": 0.1}, ValueError, "got a transformation, on which hp has no effect"),
    "short_batches": (
        {"f": with_batch, "batches": {"x": jnp.zeros((2, 2))}},
        ValueError,
        r"leading axis of steps=3, got shape \(2, 2\) at 'x'",
    ),
    "function_batches": (
        {"f": with_batch, "batches": lambda _, step: step},
        TypeError,
        r"Stream\(draw, key\)",
    ),
    "not_differentiable": (
        {"solver": Minimize(lbfgs())},
        ValueError,
        "Unroll needs a solver whose steps can be",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_a_sentence(name):
    options, error, match = BAD[name]
    with pytest.raises(error, match=match):
        solve(**options)


def test_truncating_to_no_step_is_refused():
    with pytest.raises(ValueError, match="Truncate needs a whole number k >= 1, got k=0"):
        Truncate(0)


def outer(y, _):
    return jnp.sum(y)


BAD_OUTER = {
    "vector": ({"outer": lambda y, _: y}, ValueError, "outer to return a real scalar, got float"),
    "wrt": ({"wrt": ("w",)}, ValueError, r"needs wrt to name some of .* got wrt=\('w',\)"),
    "no_hp": ({"wrt": ("hp",)}, ValueError, "hypergrad needs hp to differentiate it"),
    "integer_z": ({"z": jnp.ones(2, int)}, TypeError, "hypergrad needs floating .* got int32"),
    "no_effect": ({"f": lambda y, _: jnp.sum(y**2)}, ValueError, "on which z has no effect"),
}


@pytest.mark.parametrize("name", BAD_OUTER)
def test_bad_input_of_hypergrad_is_refused_in_a_sentence(name):
    options, error, match = BAD_OUTER[name]
    options = {"outer": outer, "f": f, "z": jnp.ones(2), **options}
    functions = options.pop("outer"), options.pop("f")
    with pytest.raises(error, match=match):
        hypergrad(
            *functions,
            jnp.zeros(2),
            options.pop("z"),
            solver=sgd(0.1),
            steps=2,
            diff=Unroll(),
            **options,
        )


def test_an_unbounded_inner_problem_is_flagged():
    result = argmin(lambda y, z: -jnp.sum(z * y**2), jnp.ones(2), 1.0, solver=sgd(0.5), steps=200)
    assert not result.info.converged


def test_no_step_returns_the_start():
    np.testing.assert_array_equal(solve(steps=0).y, 0)


def test_the_path_is_that_of_the_optimizer():
    y, state = jnp.zeros(2), adam(0.1).init(jnp.zeros(2))
    for _ in range(3):
        updates, state = adam(0.1).update(jax.grad(f)(y, jnp.ones(2)), state, y)
        y = optax.apply_updates(y, updates)
    result = solve(solver=adam(0.1))
    np.testing.assert_allclose(result.y, y, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), result.opt_state, state)


@pytest.mark.parametrize("mode", [Unroll(), Unroll(2), Forward(), Truncate(3)], ids=str)
def test_each_step_sees_its_batch(mode):
    rows = jnp.array([[1.0, 2.0], [3.0, 4.0], [-1.0, 0.5]])
    y = jnp.zeros(2)
    for row in rows:
        y = y - 0.1 * jax.grad(with_batch)(y, jnp.ones(2), row)
    result = solve(f=with_batch, batches=rows, diff=mode)
    np.testing.assert_allclose(result.y, y, rtol=1e-6)


def draw(key, step):
    return jax.random.normal(jax.random.fold_in(key, step), (2,))


@pytest.mark.parametrize("mode", [Unroll(), Unroll(2), Forward()], ids=str)
def test_a_stream_is_the_same_as_its_rows(mode):
    key = jax.random.key(3)
    rows = jnp.stack([draw(key, step) for step in range(3)])

    def gradient(batches):
        return hypergrad(
            outer,
            with_batch,
            jnp.zeros(2),
            jnp.ones(2),
            solver=sgd(0.1),
            steps=3,
            diff=mode,
            batches=batches,
        )[1]["z"]

    np.testing.assert_allclose(gradient(Stream(draw, key)), gradient(rows), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_implicit_takes_the_mean_of_the_batches():
    rows = jnp.array([[1.0, 2.0], [3.0, 4.0]] * 200)
    # steps of one length would swing between the batches for ever
    running_mean = sgd(lambda t: 0.5 / (1.0 + jnp.asarray(t, float)))
    for batches in (rows, {"x": rows}):
        inner = with_batch if batches is rows else lambda y, z, b: with_batch(y, z, b["x"])

        _, grads, _ = hypergrad(
            outer,
            inner,
            jnp.zeros(2),
            jnp.ones(2),
            solver=running_mean,
            steps=400,
            diff=Implicit(),
            batches=batches,
        )
        # y* = z times the mean batch
        np.testing.assert_allclose(grads["z"], [2.0, 3.0], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", [Unroll(), Unroll("step"), Forward(), Implicit()], ids=str)
def test_a_closed_form_is_a_solver(mode):
    g = lambda y, z: 0.5 * (y - z**2) ** 2
    _, grads, info = hypergrad(
        lambda y, z: y * z, g, 0.0, 3.0, solver=ClosedForm(lambda z: z**2), steps=1, diff=mode
    )
    np.testing.assert_allclose(grads["z"], 27.0, rtol=1e-12)
    assert info.converged


def test_trees_with_every_kind_of_node_pass():
    y0 = {"a": jnp.zeros((2, 1)), "none": None, "empty": {}, "rows": jnp.zeros((0, 2))}
    z = {"target": jnp.array([[1.0], [2.0]]), "labels": jnp.arange(2), "key": jax.random.key(0)}

    def inner(y, z):
        return jnp.sum(
            (y["a"] - z["target"] * (1 + z["labels"][:, None].astype(y["a"].dtype))) ** 2
        )

    for mode in (Unroll("sqrt"), Implicit(), Forward()):

        def loss(target, mode=mode):
            result = argmin(inner, y0, {**z, "target": target}, solver=sgd(0.5), steps=2, diff=mode)
            return jnp.sum(result.y["a"])

        derivative = jax.jacfwd if isinstance(mode, Forward) else jax.grad
        np.testing.assert_allclose(
            jax.jit(derivative(loss))(z["target"]), [[1.0], [2.0]], rtol=1e-5
        )


def test_bfloat16_inner_variables_keep_their_dtype():
    y0 = jnp.zeros(2, jnp.bfloat16)
    g = lambda y, z: jnp.sum((y.astype(jnp.float32) - z) ** 2)
    for mode in (Unroll(), Implicit()):
        result = argmin(g, y0, jnp.ones(2), solver=sgd(0.25), steps=8, diff=mode)
        assert result.y.dtype == jnp.bfloat16
    slope = jax.grad(
        lambda z: (
            argmin(g, y0, z, solver=sgd(0.25), steps=8, diff=Implicit()).y.astype(jnp.float32).sum()
        )
    )(jnp.ones(2))
    np.testing.assert_allclose(slope, 1.0, rtol=2**-8)


@pytest.mark.usefixtures("x64")
def test_complex_variables_are_pairs_of_real_ones():
    # written without a modulus, whose second derivative at 0 is not a number
    g = lambda y, z: jnp.sum((y.real - z) ** 2 + (y.imag - 2 * z) ** 2)
    for mode in (Unroll(), Implicit()):
        value = lambda z, mode=mode: jnp.sum(
            argmin(g, jnp.zeros(2, complex), z, solver=sgd(0.25), steps=60, diff=mode).y.imag
        )
        np.testing.assert_allclose(jax.jit(jax.grad(value))(jnp.ones(2)), 2.0, rtol=1e-12)


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("num_steps", [0, 1, 7, 16])
def test_a_checkpointed_loop_is_a_loop(num_steps, levels):
    step = lambda carry, index: jnp.sin(carry) + 0.1 * index.astype(carry.dtype)
    expected = jnp.float32(0.5)
    for index in range(num_steps):
        expected = step(expected, jnp.int32(index))
    loop = lambda x: checkpointed_loop(step, x, num_steps, levels)
    np.testing.assert_allclose(loop(jnp.float32(0.5)), expected, rtol=1e-6)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 90, 1000, 1024])
def test_the_rounds_reach_the_number_of_steps_and_no_loop_is_idle(num_steps):
    for levels in range(1, 12):
        rounds = num_rounds(num_steps, levels)
        assert np.prod(rounds) >= num_steps
        assert max(rounds) - min(rounds) <= 1
        shorter = np.prod(rounds) // rounds[-1] * (rounds[-1] - 1)
        assert shorter < num_steps
