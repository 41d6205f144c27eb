"""Keyword arguments of a function are its arguments: arrays are traced, flags are held fixed."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxopt_tut import taps
from jaxopt_tut.taps.program import trace_program
from jaxopt_tut.taps.tracing import first_by_position

X = jax.random.normal(jax.random.key(1), (3, 4))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, *, train, mask=None):
        h = linen.Dropout(0.5)(linen.Dense(6)(x), deterministic=not train)
        return linen.Dense(2)(h if mask is None else h * mask)


class NnxNet(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.drop = nnx.Dropout(0.5)
        self.last = nnx.Linear(6, 2, rngs=rngs)

    def __call__(self, x, *, train, mask=None, rngs=None):
        h = self.drop(self.first(x), deterministic=not train, rngs=rngs)
        return self.last(h if mask is None else h * mask)


class EquinoxNet(equinox.Module):
    first: equinox.nn.Linear
    drop: equinox.nn.Dropout
    last: equinox.nn.Linear

    def __init__(self):
        self.first, self.last = (
            equinox.nn.Linear(*sizes, key=jax.random.key(0)) for sizes in ((4, 6), (6, 2))
        )
        self.drop = equinox.nn.Dropout(0.5)

    def __call__(self, x, *, train, mask=None, rngs=None):
        h = self.drop(jax.vmap(self.first)(x), key=rngs, inference=not train)
        return jax.vmap(self.last)(h if mask is None else h * mask)


def plain(params, x, *, train, mask=None, rngs=None):
    h = x @ params["first"]
    if train:
        h = jnp.where(jax.random.bernoulli(rngs, 0.5, h.shape), h, 0)
    return (h if mask is None else h * mask) @ params["last"]


LINEN = LinenNet().init(jax.random.key(0), X, train=False)
MODELS = {
    "linen": (LinenNet().apply, (LINEN, X), lambda key: {"dropout": key}),
    "nnx": (NnxNet(), (X,), lambda key: key),
    "nnx_as_argument": (lambda m, x, **kw: m(x, **kw), (NnxNet(), X), lambda key: key),
    "equinox": (EquinoxNet(), (X,), lambda key: key),
    "plain": (plain, ({"first": jnp.ones((4, 6)), "last": jnp.ones((6, 2))}, X), lambda key: key),
}
CALLS = {
    "flag": lambda _: {"train": False},
    "none": lambda _: {"train": False, "mask": None},
    "array": lambda _: {"train": False, "mask": jnp.arange(6.0)},
    "numpy": lambda _: {"train": False, "mask": np.arange(6.0, dtype=np.float32)},
    "rngs": lambda wrap: {"train": True, "rngs": wrap(jax.random.key(2))},
}
LAYERS = {
    "linen": ["params/Dense_0/kernel", "params/Dense_1/kernel"],
    "nnx": ["first/kernel", "last/kernel"],
    "nnx_as_argument": ["first/kernel", "last/kernel"],
    "equinox": ["first/weight", "last/weight"],
    "plain": ["first", "last"],
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_recorded_as_it_is_called(model, call):
    fun, args, wrap = MODELS[model]
    kwargs = CALLS[call](wrap)
    out, tape = taps.record(fun)(*args, **kwargs)
    np.testing.assert_array_equal(out, fun(*args, **kwargs))
    pre_activations = [s.name for s in taps.sites(fun, *args, **kwargs) if s.kind != "other"]
    assert pre_activations == LAYERS[model]
    assert set(LAYERS[model]) <= set(tape)


def loss_fn(params, x, y=None, *, train=False, rngs=None, scale=1.0):
    out = plain(params, x, train=train, rngs=rngs)
    return scale * jnp.sum((out - y) ** 2)


PARAMS = MODELS["plain"][1][0]
Y = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((PARAMS, X), {"y": Y}),
        ((PARAMS,), {"x": X, "y": Y, "scale": 2.0}),
        ((), {"y": Y, "x": X, "params": PARAMS}),
        ((PARAMS, X), {"y": Y, "train": True, "rngs": jax.random.key(2)}),
        ((PARAMS, X, Y), {"scale": jnp.float32(3.0), "train": False}),
    ],
    ids=["data", "float", "parameters", "flag_and_key", "array"],
)
def test_gradients_are_those_of_the_call_by_keyword(args, kwargs):
    params = args[0] if args else kwargs["params"]
    rest = {k: v for k, v in kwargs.items() if k != "params"}
    expected = jax.value_and_grad(loss_fn)(params, *args[1:], **rest)
    loss, gradients, values, cotangents = taps.record_gradients(loss_fn)(*args, **kwargs)
    jax.tree.map(np.testing.assert_array_equal, (loss, gradients), expected)
    assert list(values) == list(cotangents) == ["first", "last"]
    # dL / dz of the last layer, by hand
    by_hand = 2 * kwargs.get("scale", 1.0) * (values["last"] - Y)
    np.testing.assert_allclose(cotangents["last"], by_hand, rtol=1e-6)


def test_a_keyword_is_differentiated_compiled_and_mapped():
    def size(mask):
        return jnp.sum(taps.record(plain)(PARAMS, X, train=False, mask=mask)[1]["last"])

    # the sum over the last layer's two columns of ones
    expected = 2 * jnp.sum(X @ PARAMS["first"], axis=0)
    np.testing.assert_allclose(jax.jit(jax.grad(size))(jnp.ones(6)), expected, rtol=1e-6)
    masks = jnp.eye(6)
    np.testing.assert_allclose(jax.jit(jax.vmap(size))(masks), expected, rtol=1e-6)


def test_shapes_stand_for_arrays_given_by_keyword():
    shapes = jax.eval_shape(lambda: (PARAMS, X, jnp.ones(6)))
    found = taps.sites(plain, *shapes[:2], train=False, mask=shapes[2])
    assert found == taps.sites(plain, PARAMS, X, train=False, mask=jnp.ones(6))


def test_any_name_may_be_a_keyword():
    """The names that the wrappers themselves use are free."""

    def fun(w, x, *, fun, select, caller, args, kwargs, params):
        return (x @ w) * (fun + select + caller + args + kwargs + params)

    names = dict.fromkeys(("fun", "select", "caller", "args", "kwargs", "params"), jnp.ones(()))
    out, _ = taps.record(fun)(jnp.ones((4, 2)), X, **names)
    np.testing.assert_array_equal(out, fun(jnp.ones((4, 2)), X, **names))
    assert taps.sites(fun, jnp.ones((4, 2)), X, **names)[0].param == ""
    loss = lambda *args, **kwargs: jnp.sum(fun(*args, **kwargs))
    np.testing.assert_array_equal(
        taps.record_gradients(loss)(jnp.ones((4, 2)), X, **names)[0], jnp.sum(out)
    )


def test_the_first_argument_holds_the_parameters_however_it_is_given():
    by_name = taps.sites(loss_fn, y=Y, x=X, params=PARAMS)
    assert by_name == taps.sites(loss_fn, PARAMS, X, Y)
    assert first_by_position(lambda *, x: x, (), {"x": 1}) == ((), {"x": 1})
    assert first_by_position(lambda **kw: kw, (), {"x": 1}) == ((), {"x": 1})
    names = trace_program("example", lambda *, x: 2 * x, (), {"x": X}).names
    assert names == [None]


def test_gradients_need_parameters():
    with pytest.raises(TypeError, match=r"record_gradients needs the parameters as first argument"):
        taps.record_gradients(lambda *, x: jnp.sum(x))(x=X)
