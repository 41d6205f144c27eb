"""Programs are compiled once for what they are made of, and go with it."""

import functools
import gc
import logging
import operator
import re
import threading
import weakref

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxopt_tut import programs
from jaxopt_tut.bilevel import CG, Implicit, Minimize, Neumann, Proximal
from jaxopt_tut.optimizers import (
    adam,
    bfgs,
    lbfgs,
    levenberg_marquardt,
    newton,
    norms,
    project,
    projections,
    sgd,
    steepest_descent,
    trust_region,
)


def applied(made_of, x):
    """Step with an optimizer, or multiply by what a function of nothing returns."""
    count, function = made_of
    count()
    if isinstance(function, optax.GradientTransformation):
        extra = {"value": jnp.sum(x**2), "grad": 2 * x, "value_fn": lambda w: jnp.sum(w**2)}
        if function.update.__module__.endswith("levenberg_marquardt"):
            extra["residual_fn"] = lambda w: w
        with jax.numpy_dtype_promotion("standard"):  # as optax needs it
            transform = optax.with_extra_args_support(function)
            return transform.update(x, function.init(x), x, **extra)[0]
    return function() * x if callable(function) else x


class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1


def traces(*things):
    """Count the traces of a program made of one thing after another."""
    counter, before = Counter(), []
    count = lambda: counter.add()
    for thing in things:
        programs.run(applied, (count, thing), jnp.ones(2))
        before.append(counter.count)
    return before


schedule = lambda _: 0.5
inside = lambda w: jnp.clip(w, 0.0, 1.0)
MAKERS = {
    "sgd": lambda: sgd(0.5),
    "schedule": lambda: sgd(schedule),
    "schedule_of_optax": lambda: sgd(optax.exponential_decay(0.1, 10, 0.5)),
    "adam": lambda: adam(0.1, b1=0.8),
    "bfgs": bfgs,
    "lbfgs": lambda: lbfgs(memory=3),
    "newton": lambda: newton(damping=0.1),
    "levenberg_marquardt": levenberg_marquardt,
    "trust_region": trust_region,
    "norm": lambda: steepest_descent(0.1, norm=norms.LInf()),
    "projection": lambda: optax.chain(sgd(0.1), project(projections.box(0.0, 1.0))),
    "projection_of_arrays": lambda: optax.chain(
        sgd(0.1), project(projections.box(np.zeros(2, np.float32), jnp.ones(2)))
    ),
    "own_projection": lambda: optax.chain(sgd(0.1), project(inside)),
    "optax_adamw": lambda: optax.adamw(0.1),
    "optax_lbfgs": optax.lbfgs,
    "partition": lambda: optax.partition({"a": sgd(0.1), "b": adam(0.1)}, "a"),
    "masked": lambda: optax.masked(adam(0.1), True),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), sgd(0.1)),
    "injected": lambda: optax.inject_hyperparams(sgd)(learning_rate=0.1),
    "implicit": lambda: Implicit(CG(), damping=0.1),
    "neumann": lambda: Implicit(Neumann(3, jnp.float32(0.1))),
    "minimize": lambda: Minimize(lbfgs()),
    "proximal": lambda: Proximal(inside, jnp.float32(0.1)),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in MAKERS.items()])
def test_what_is_built_anew_from_equal_parts_shares_a_program(make):
    first, *rest = traces(make(), make(), make())
    assert rest == [first, first]


def _dense(layer):
    params = layer.init(jax.random.key(0), jnp.ones((1, 2)))
    return lambda: jnp.sum(layer.apply(params, jnp.ones((1, 2))))


READ = {
    "linen": lambda: _dense(linen.Dense(1)),
    "nnx": lambda: functools.partial(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), jnp.ones(2)),
    "equinox": lambda: functools.partial(
        equinox.nn.Linear(2, 1, key=jax.random.key(0)), jnp.ones(2)
    ),
    "method": lambda: Model(jnp.ones(2)).mean,
    "jitted": lambda: jax.jit(lambda: jnp.ones(2)),
    "logger": lambda: lambda: logging.getLogger("model").debug("traced") or 1.0,
    "range": lambda: lambda r=range(3): float(len(r)),
    "pattern": lambda: lambda p=re.compile("a"): float(p.groups),
    "iterator": lambda: functools.partial(operator.length_hint, iter([1.0])),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in READ.items()])
def test_what_is_kept_and_does_not_change_is_traced_once(make):
    function = make()
    first, *rest = traces(function, function, function)
    assert rest == [first, first]


OTHERS = {
    "number": (sgd(0.5), sgd(0.25)),
    "type": (sgd(1), sgd(1.0)),
    "zero": (sgd(0.0), sgd(-0.0)),
    "structure": (sgd(0.5), optax.chain(sgd(0.5))),
    "count": (lbfgs(memory=3), lbfgs(memory=4)),
    "array": (
        project(projections.box(np.zeros(2, np.float32), 2.0)),
        project(projections.box(np.ones(2, np.float32), 2.0)),
    ),
    "function": (sgd(lambda _: 0.5), sgd(lambda _: 0.5)),
    "mode": (Implicit(CG()), Implicit(Neumann(3))),
}


@pytest.mark.parametrize("pair", [pytest.param(pair, id=name) for name, pair in OTHERS.items()])
def test_what_differs_has_a_program_of_its_own(pair):
    first, second, *again = traces(*pair, *pair)
    assert second == 2 * first
    assert again == [second, second]


def test_arrays_among_the_numbers_are_operands():
    first, *rest = traces(*(sgd(rate) for rate in jnp.array([0.1, 0.2, 0.3])))
    assert rest == [first, first]
    count = lambda: None
    update = lambda rate: programs.run(applied, (count, sgd(rate)), jnp.ones(2))
    np.testing.assert_allclose(update(jnp.float32(0.25)), -0.25)
    np.testing.assert_allclose(jax.vmap(update)(jnp.array([1.0, 2.0])), [[-1, -1], [-2, -2]])
    np.testing.assert_allclose(jax.jacfwd(update)(2.0), -1)
    np.testing.assert_allclose(jax.jit(update)(2.0), -2)


@pytest.mark.parametrize("reset", ["nothing", "the count", "the list"])
def test_what_tracing_itself_changes_is_no_change(reset):
    state, seen = {"count": 0}, []

    def function():
        state["count"] += 1
        seen.append(1)
        return 2.0

    for _ in range(3):
        if reset == "the count":
            state["count"] = 0
        if reset == "the list":
            seen.clear()
        programs.run(applied, (lambda: None, function), jnp.ones(2))
        programs.run(applied, (int, function), jnp.ones(2))
    assert state["count"] <= 6


def held_by(make):
    """Return weak references to what a program was made of once nobody else holds it."""
    data = jnp.ones(1000)
    function = make(data)
    result = programs.run(applied, (_nothing, function), jnp.ones(2))
    references = [weakref.ref(data), weakref.ref(result)]
    if not isinstance(function, tuple):
        references.append(weakref.ref(function))
    return references


def _nothing():
    return None


class Model:
    def __init__(self, data):
        self.data = data

    def mean(self):
        return jnp.mean(self.data)

    __call__ = mean


def _custom(data):
    @jax.custom_jvp
    def mean():
        return jnp.mean(data)

    mean.defjvp(lambda *_: (jnp.mean(data), 0.0))
    return mean


HOLDERS = {
    "lambda": lambda data: lambda: jnp.mean(data),
    "default": lambda data: lambda d=data: jnp.mean(d),
    "partial": lambda data: functools.partial(jnp.mean, data),
    "method": lambda data: Model(data).mean,
    "object": Model,
    "jitted": lambda data: jax.jit(lambda: jnp.mean(data)),
    "custom_rule": _custom,
    "schedule": lambda data: sgd(lambda _: jnp.mean(data)),
    "projection": lambda data: optax.chain(sgd(0.1), project(lambda w: w + jnp.mean(data))),
    "array": lambda data: project(projections.box(-data[0], data[0])),
    "solve": lambda data: newton(solve=lambda _, gradient: gradient * data[0]),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in HOLDERS.items()])
def test_nothing_is_kept_beyond_what_the_user_keeps(make):
    references = held_by(make)
    gc.collect()
    assert [reference() for reference in references] == [None] * len(references)


def test_programs_of_one_function_do_not_grow_without_end():
    from jaxopt_tut.programs import cache

    for rate in range(cache._MAX_PROGRAMS + 5):
        programs.run(applied, (_nothing, sgd(0.001 * rate)), jnp.ones(2))
    assert len(cache._programs) <= cache._MAX_PROGRAMS


def test_a_program_made_under_a_transformation_keeps_no_tracer():
    def loss(scale):
        return jnp.sum(programs.run(applied, (_nothing, lambda: 2 * scale), jnp.ones(2)))

    with jax.checking_leaks():
        assert jax.grad(loss)(3.0) == 4
        np.testing.assert_array_equal(jax.vmap(jax.grad(loss))(jnp.arange(3.0)), [4, 4, 4])
    assert jax.jit(jax.grad(loss))(3.0) == 4


def test_threads_do_not_mix_their_functions():
    found = {}

    def work(number):
        for _ in range(5):
            result = programs.run(applied, (_nothing, lambda: float(number)), jnp.ones(2))
            found.setdefault(number, []).append(float(result[0]))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == {number: [float(number)] * 5 for number in range(4)}
