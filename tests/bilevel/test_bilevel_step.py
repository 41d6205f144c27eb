import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    Forward,
    Implicit,
    OneStep,
    Plan,
    Truncate,
    Unroll,
    audit,
    audit_table,
    bilevel_step,
    hypergrad,
)
from jaxopt_tut.optimizers import adam, momentum, sgd
from tests.bilevel.problems import RATE, make_ridge


def f(y, z):
    return jnp.sum((y - z) ** 2)


def outer(y, _):
    return jnp.sum((y - 3.0) ** 2)


def test_a_step_is_a_hypergradient_and_an_outer_update_from_where_the_last_ended():
    step = bilevel_step(
        outer, f, solver=sgd(0.2), steps=2, diff=Unroll(), outer_optimizer=momentum(0.1)
    )
    z, y = jnp.array([1.0, -2.0]), jnp.zeros(2)
    state = step.init(y, z)
    outer_state = momentum(0.1).init({"z": z})
    for _ in range(3):
        _, grads, _ = hypergrad(outer, f, y, z, solver=sgd(0.2), steps=2, diff=Unroll())
        updates, outer_state = momentum(0.1).update(grads, outer_state, {"z": z})
        for _ in range(2):
            y = y - 0.2 * jax.grad(f)(y, z)
        z = z + updates["z"]
        state, _ = jax.jit(step.update)(state)
        np.testing.assert_allclose(state.y, y, rtol=1e-5)
        np.testing.assert_allclose(state.z, z, rtol=1e-5)
    assert state.count == 3


def test_steps_compile_once_scan_and_vmap():
    step = bilevel_step(
        outer, f, solver=sgd(0.4), steps=4, diff=Implicit(), outer_optimizer=adam(0.3)
    )
    run = lambda z: jax.lax.scan(
        lambda state, _: step.update(state), step.init(jnp.zeros(2), z), length=40
    )
    zs = jnp.array([[0.0, 1.0], [5.0, -2.0], [3.0, 3.0]])
    states, infos = jax.jit(jax.vmap(run))(zs)
    np.testing.assert_allclose(states.z[2], jax.jit(run)(zs[2])[0].z, rtol=1e-4)
    # a warm start: the residual falls as z settles
    assert jnp.all(infos.inner_residual[:, -1] < infos.inner_residual[:, 0])


def test_a_decreasing_tolerance_asks_for_more_steps():
    step = bilevel_step(
        outer,
        f,
        solver=sgd(0.2),
        steps=200,
        diff=Implicit(),
        outer_optimizer=sgd(0.0),
        tol=lambda count: 0.1 * 0.1 ** count.astype(jnp.float32),
    )
    state = step.init(jnp.zeros(2), jnp.ones(2))
    cold = state.y
    steps = []
    for _ in range(3):
        state, info = step.update(state._replace(y=cold))
        steps.append(int(info.steps))
    assert steps[0] < steps[1] < steps[2]


def test_the_batch_reaches_both_functions_and_hp_is_learned():
    step = bilevel_step(
        lambda y, _, batch: jnp.sum((y - batch[1]) ** 2),
        lambda y, z, batch: jnp.sum((y - z * batch[0]) ** 2),
        solver=sgd,
        steps=2,
        diff=Unroll(),
        outer_optimizer=sgd(0.01),
        wrt=("z", "hp"),
    )
    state = step.init(jnp.zeros(2), jnp.ones(2), 0.1)
    after, _ = step.update(state, (jnp.full(2, 2.0), jnp.full(2, 5.0)))
    assert after.hp > state.hp
    assert jnp.all(after.z > state.z)


@pytest.mark.usefixtures("x64")
def test_the_audit_knows_each_bias():
    rate, num_steps = 0.25, 80
    modes = {"exact": Unroll(), "short": Truncate(2), "one": OneStep(), "implicit": Implicit()}
    rows = audit(
        lambda y, _: y,
        lambda y, z: 0.5 * (y - z) ** 2,
        0.0,
        1.0,
        solver=sgd(rate),
        steps=num_steps,
        modes=modes,
        truth=1.0,
    )
    assert [row.name for row in rows] == list(modes)
    biases = [(1 - rate) ** num_steps, (1 - rate) ** 2, 1 - rate, 0.0]
    np.testing.assert_allclose([row.bias for row in rows], biases, rtol=1e-9, atol=1e-15)
    assert all(row.cosine == pytest.approx(1) and row.seconds > 0 for row in rows)
    assert len(audit_table(rows).splitlines()) == 5


@pytest.mark.slow
def test_without_a_truth_the_audit_compares_with_the_steps():
    ridge = make_ridge("float32")
    rows = audit(
        ridge.outer,
        ridge.f,
        ridge.start,
        -1.0,
        solver=sgd(RATE),
        steps=1024,  # enough to outweigh what a device's programs take anyway
        modes={"plain": Unroll(), "sqrt": Unroll("sqrt"), "forward": Forward()},
    )
    assert max(row.bias for row in rows) < 1e-5
    assert rows[1].bytes < rows[0].bytes


def test_the_audit_refuses_a_truth_of_another_shape():
    with pytest.raises(ValueError, match="audit needs leaves of the same shape"):
        audit(
            outer,
            f,
            jnp.zeros(2),
            jnp.ones(2),
            solver=sgd(0.1),
            steps=1,
            modes={"unroll": Unroll()},
            truth=jnp.ones(3),
        )


@pytest.mark.slow
def test_the_plan_takes_less_memory_as_less_is_given_and_says_so():
    y0, z = jnp.zeros(500), jnp.ones(500)
    g = lambda y, z: jnp.sum((y - z) ** 4)
    value = lambda y, _: jnp.sum(y)
    solve = lambda mode: hypergrad(value, g, y0, z, solver=adam(0.1), steps=16, diff=mode)
    _, exact, _ = solve(Unroll())
    assert solve(Plan(10**9))[2].mode == "Unroll(remat='none')"
    _, grads, info = solve(Plan(100_000))
    assert info.mode in ("Unroll(remat=1)", "Unroll(remat=2)")
    np.testing.assert_allclose(grads["z"], exact["z"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"Plan needs a memory of \d+ bytes at least, which Unr"):
        solve(Plan(1000))


def test_a_plan_without_memory_is_refused():
    with pytest.raises(ValueError, match="Plan needs memory > 0 bytes, got memory=0"):
        Plan(0)


def test_complex_outer_parameters_descend():
    target = 1 + 2j
    square = lambda w: jnp.real(w) ** 2 + jnp.imag(w) ** 2
    method = bilevel_step(
        lambda y, z: square(y - target),  # noqa: ARG005
        lambda y, z: square(y - z),
        solver=sgd(0.25),
        steps=8,
        diff=Unroll(),
        outer_optimizer=sgd(0.25),
    )
    state = method.init(jnp.asarray(0j), jnp.asarray(0j))
    for _ in range(30):
        state, _ = method.update(state)
    np.testing.assert_allclose(state.z, target, rtol=1e-3)
