"""Eager users get one program a shape, and nothing is kept beyond what they keep."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.bilevel import (
    Forward,
    Implicit,
    Minimize,
    OneStep,
    Proximal,
    Stream,
    Truncate,
    Unroll,
    argmin,
    bilevel_step,
    hypergrad,
    layers,
)
from jaxopt_tut.optimizers import bfgs, sgd


def distance(y, z):
    return 0.5 * jnp.sum((y - z) ** 2)


def total(y, _):
    return jnp.sum(y)


def with_argmin(f):
    return lambda z: argmin(f, jnp.zeros(2), z, solver=sgd(0.5), steps=3).y


def derivative_of_argmin(diff, make_solver=lambda: sgd(0.5)):
    def use(f):
        solve = lambda z: argmin(f, jnp.zeros(2), z, solver=make_solver(), steps=30, diff=diff).y
        return jax.grad(lambda z: jnp.sum(solve(z)))

    return use


def with_hypergrad(diff, make_solver=lambda: sgd(0.5)):
    options = {"steps": 30, "diff": diff}
    return lambda f: (
        lambda z: hypergrad(total, f, jnp.zeros(2), z, solver=make_solver(), **options)[1]["z"]
    )


def with_step(f):
    step = bilevel_step(total, f, solver=sgd(0.5), steps=3, diff=Unroll(), outer_optimizer=sgd(0.1))
    return lambda z: step.update(step.init(jnp.zeros(2), z))[0].z


def with_layer(f):
    layer = layers.argmin_layer(f, jnp.zeros(2), solver=sgd(0.5), steps=3)
    return lambda z: layer(z[None])


def draw(key, step):
    return jax.random.normal(jax.random.fold_in(key, step), (2,))


def with_stream(f):
    inner = lambda y, z, batch: f(y, z + batch)
    solve = lambda z: argmin(
        inner, jnp.zeros(2), z, solver=sgd(0.5), steps=3, batches=Stream(draw, jax.random.key(0))
    )
    return lambda z: solve(z).y


USES = {
    "argmin": with_argmin,
    "unroll": derivative_of_argmin(Unroll()),
    "implicit": derivative_of_argmin(Implicit()),
    "one_step": derivative_of_argmin(OneStep()),
    "hypergrad_unroll": with_hypergrad(Unroll("sqrt")),
    "hypergrad_forward": with_hypergrad(Forward()),
    "hypergrad_truncate": with_hypergrad(Truncate(2)),
    "hypergrad_implicit": with_hypergrad(Implicit()),
    "minimize": with_hypergrad(Implicit(), lambda: Minimize(bfgs())),
    "proximal": with_hypergrad(Implicit(), lambda: Proximal(_shrunk, 0.5)),
    "bilevel_step": with_step,
    "layer": with_layer,
    "stream": with_stream,
}


def _shrunk(y, _, rate):
    return y / (1 + rate)


every_use = pytest.mark.parametrize(
    "use", [pytest.param(use, id=name) for name, use in USES.items()]
)


@pytest.mark.untyped  # the closures of the library are wrapped anew in each call
@every_use
def test_later_calls_are_not_traced(use):
    traces = []

    def f(y, z):
        traces.append(1)
        return distance(y, z)

    run = use(f)
    run(jnp.ones(2))
    count = len(traces)
    for number in (2.0, 3.0):
        run(number * jnp.ones(2))
    assert len(traces) == count > 0


@every_use
def test_what_f_closes_over_goes_with_it(use):
    data = jnp.ones(2)
    f = lambda y, z: distance(y, z * data)
    run = use(f)
    run(jnp.ones(2))
    references = [weakref.ref(data), weakref.ref(f)]
    del data, f, run
    gc.collect()
    assert [reference() for reference in references] == [None, None]


@pytest.mark.filterwarnings("ignore::jaxopt_tut.bilevel.doubts.HypergradientWarning")
def test_every_round_of_a_sweep_is_right():
    found = []
    for weight in (1.0, 2.0, 3.0):
        # as at module level, where nothing binds the variable
        inner = lambda y, z: 0.5 * jnp.sum((y - weight * z) ** 2)  # noqa: B023
        outer = lambda y, _: weight * jnp.sum(y)  # noqa: B023
        options = {"solver": sgd(1.0), "steps": 1, "diff": Implicit()}
        y = argmin(inner, jnp.zeros(1), jnp.ones(1), **options).y
        _, grads, _ = hypergrad(outer, inner, jnp.zeros(1), jnp.ones(1), **options)
        solver = Proximal(lambda y, *_: jnp.clip(y, 0, weight), 1.0)  # noqa: B023
        clipped = argmin(distance, jnp.zeros(1), jnp.full(1, 9.0), solver=solver, steps=3).y
        solve = lambda _, b: weight * b  # noqa: B023
        scaled = hypergrad(
            total,
            distance,
            jnp.zeros(1),
            jnp.ones(1),
            solver=sgd(1.0),
            steps=1,
            diff=Implicit(solve),
        )[1]["z"]
        found.append([y[0], grads["z"][0], clipped[0], scaled[0]])
    np.testing.assert_allclose(found, [[w, w * w, w, w] for w in (1, 2, 3)], rtol=1e-5)


@pytest.mark.untyped  # as above
def test_the_tolerance_of_a_step_may_change_without_another_program():
    traces = []

    def f(y, z):
        traces.append(1)
        return distance(y, z)

    options = {"solver": sgd(0.5), "steps": 50, "diff": Implicit(), "outer_optimizer": sgd(0.0)}
    step = bilevel_step(total, f, tol=lambda count: 0.1 / (1 + count.astype(float)), **options)
    state = step.init(jnp.zeros(2), jnp.ones(2))
    state, info = step.update(state)
    first = len(traces)
    for count in range(1, 4):
        state, info = step.update(state)
        assert info.inner_residual <= 0.1 / (1 + count)
    assert len(traces) == first


PROGRAM = (jnp.ones((1, 3)), jnp.ones(1), -jnp.eye(3), jnp.zeros(3))
LAYERS = {
    "qp": lambda q: layers.qp(jnp.eye(3), q, *PROGRAM),
    "prox_tv1d": lambda x: layers.prox_tv1d(x, 0.1),
    "prox_tv1d_derivative": jax.grad(lambda x: jnp.sum(layers.prox_tv1d(x, 0.1) ** 2)),
}


@pytest.mark.parametrize("layer", [pytest.param(fun, id=name) for name, fun in LAYERS.items()])
def test_layers_compile_once_a_shape(layer):
    compiled = []
    x = jnp.array([1.0, -2.0, 0.5])
    others = jax.block_until_ready((2 * x, 3 * x))
    jax.block_until_ready(layer(x))
    listener = lambda event, *_, **__: (
        compiled.append(event) if "backend_compile" in event else None
    )
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        for other in others:
            jax.block_until_ready(layer(other))
        assert compiled == []
        jax.block_until_ready(jax.jit(lambda v: v + 1)(x))
        assert compiled  # the counter counts
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
