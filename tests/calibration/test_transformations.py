"""What decides by measurements says so inside a transformation, however it got there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.calibration import auto_init, coordinate_check, gradinit, lsuv, metainit

KEY = jax.random.key(0)
PARAMS = {"w": jnp.ones((3, 2)), "v": jnp.ones((2, 1))}
X = jnp.ones((4, 3))


def loss(params, x):
    return jnp.mean((jnp.tanh(x @ params["w"]) @ params["v"]) ** 2)


def coordinates(key, fn, params, batch):
    return coordinate_check(lambda _n, _k: (fn, params, None), (2, 4), batch, key=key)


METHODS = {
    "auto_init": auto_init,
    "lsuv": lsuv,
    "metainit": metainit,
    "gradinit": gradinit,
    "coordinate_check": coordinates,
}
every_method = pytest.mark.parametrize("name", METHODS)


def refused(name):
    return pytest.raises(
        TypeError,
        match=rf"^{name} decides by what it measures, and there is nothing to measure inside jit, "
        r"vmap, grad or scan: call it outside \(what it evaluates is compiled\) and pass",
    )


WAYS = {
    "key": lambda call: jax.jit(lambda key: call(key, loss, PARAMS, X))(KEY),
    "batch": lambda call: jax.jit(lambda x: call(KEY, loss, PARAMS, x))(X),
    "nothing": lambda call: jax.jit(lambda: call(KEY, loss, PARAMS, X))(),
    "numpy": lambda call: jax.jit(
        lambda: call(KEY, loss, jax.tree.map(np.asarray, PARAMS), np.asarray(X))
    )(),
    "mapped_batch": lambda call: jax.vmap(lambda x: call(KEY, loss, PARAMS, x))(X[None]),
    "scan": lambda call: jax.lax.scan(lambda c, x: (c, call(KEY, loss, PARAMS, x)), 0, X[None]),
    "eval_shape": lambda call: jax.eval_shape(lambda x: call(KEY, loss, PARAMS, x), X),
}


@pytest.mark.parametrize("way", WAYS)
@every_method
def test_a_measurement_inside_a_transformation_is_a_sentence(name, way):
    with refused(name):
        WAYS[way](METHODS[name])


@pytest.mark.parametrize("name", ["auto_init", "lsuv", "metainit", "gradinit"])
def test_parameters_and_what_a_function_closes_over_are_looked_at_too(name):
    with refused(name):
        jax.jit(lambda p: METHODS[name](KEY, loss, p, X))(PARAMS)
    with refused(name):
        jax.grad(lambda p: METHODS[name](KEY, loss, p, X)[0]["w"].sum())(PARAMS)
    with refused(name):
        jax.vmap(lambda s: METHODS[name](KEY, lambda p, x: s * loss(p, x), PARAMS, X))(jnp.ones(2))


def test_a_traced_option_is_refused():
    with pytest.raises(TypeError, match=r"^lsuv decides by what it measures"):
        jax.vmap(lambda v: lsuv(KEY, loss, PARAMS, X, target=v))(jnp.ones(2))
    with pytest.raises(TypeError, match=r"^gradinit decides by what it measures"):
        jax.vmap(lambda v: gradinit(KEY, loss, PARAMS, X, step_size=v))(jnp.ones(2))
