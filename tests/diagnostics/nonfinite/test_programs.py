"""Whether what is not finite does harm: what was meant is passed over, what went wrong is named."""

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxopt_tut.diagnostics import first_nonfinite

W = jnp.array([[1.0, -1.0], [0.5, 2.0]])
X = jnp.array([[2.0, 1.0], [1.0, 2.0], [3.0, 0.5]])
CAUSAL = jnp.tril(jnp.ones((3, 3), bool))
KEEP = jnp.array([True, True, False])
NONE = jnp.zeros(3, bool)
HOLED = X.at[1, 0].set(jnp.nan)


def attend(w, x, mask):
    q = x @ w
    scores = jnp.where(mask, q @ q.T, -jnp.inf)
    return jnp.sum(jax.nn.softmax(scores) @ x)


def attend_by_bias(w, x, bias):
    q = x @ w
    return jnp.sum(jax.nn.softmax(q @ q.T + bias) @ x)


def attend_online(w, x):
    """Flash attention: the maximum so far starts at -inf."""
    q = x @ w

    def step(state, row):
        top, total = state
        score = jnp.sum(q * row, axis=-1)
        new = jnp.maximum(top, score)
        return (new, total * jnp.exp(top - new) + jnp.exp(score - new)), None

    start = jnp.full(3, -jnp.inf), jnp.zeros(3)
    return jnp.sum(jax.lax.scan(step, start, q)[0][1])


def masked_mean(w, x, keep):
    return jnp.sum(jnp.where(keep[:, None], x @ w, 0.0)) / jnp.sum(keep)


def nll(w, x, label):
    scores = jnp.where(jnp.array([True, False]), x @ w, -jnp.inf)
    return -jnp.mean(jax.nn.log_softmax(scores)[:, label])


def bounded(w, x, low, high):
    return jnp.sum(jnp.clip(x @ w, low, high))


def mixture(w, x):
    """A weight of zero has the logarithm -inf, and drops out of the sum."""
    return jnp.sum(jax.nn.logsumexp(x @ w + jnp.log(jnp.array([1.0, 0.0]) * w[0, 0])))


def scanned(w, x):
    return jnp.sum(jax.lax.scan(lambda h, _: (jnp.exp(h @ w), None), x, None, length=4)[0])


def turned(w, x):
    step = lambda state: (state[0] + 1, jnp.exp(state[1] @ w))
    return jnp.sum(jax.lax.while_loop(lambda state: state[0] < 4, step, (0, x))[1])


def branched(w, x):
    return jnp.sum(jax.lax.cond(w[0, 0] > 0, lambda z: jnp.log(z - z), jnp.sin, x @ w))


@jax.custom_vjp
def own_rule(x):
    return jnp.sqrt(x - 100.0)


own_rule.defvjp(lambda x: (own_rule(x), x), lambda x, ct: (ct * x,))


@jax.custom_vjp
def wrong_rule(x):
    return 2 * x


wrong_rule.defvjp(lambda x: (2 * x, x), lambda x, ct: (ct / (x - x),))


def shared(w, x):
    """A healthy mask and a true failure in one array."""
    scores = jnp.where(CAUSAL, x @ x.T, -jnp.inf).at[2, 2].set(jnp.log(-w[0, 0]))
    return jnp.sum(jax.nn.softmax(scores))


# name: (function, arguments, operation and parameter of the site; None where all is well)
FORWARD = {
    "causal mask": (attend, (W, X, CAUSAL), None),
    "mask as argument": (attend_by_bias, (W, X, jnp.where(CAUSAL, 0.0, -jnp.inf)), None),
    "a row masked throughout": (attend, (W, X, CAUSAL.at[1].set(False)), ("sub", "")),
    "the same as argument": (
        attend_by_bias,
        (W, X, jnp.where(CAUSAL.at[0].set(False), 0.0, -jnp.inf)),
        ("sub", ""),
    ),
    "a masked label": (nll, (W, X, 1), ("select_n", "")),
    "a label that is not": (nll, (W, X, 0), None),
    "online softmax": (attend_online, (W, X), None),
    "log weight of zero": (mixture, (W, X), None),
    "padding of NaN, selected away": (masked_mean, (W, X.at[2].set(jnp.nan), KEEP), None),
    "padding of NaN, kept": (masked_mean, (W, X.at[1].set(jnp.nan), KEEP), ("input", "x")),
    "nothing kept": (masked_mean, (W, X, NONE), ("div", "")),
    "infinite bounds": (bounded, (W, X, -jnp.inf, jnp.inf), None),
    "a lower bound that is too high": (bounded, (W, X, jnp.inf, jnp.inf), ("input", "low")),
    "maximum of nothing": (
        lambda w, x: jnp.max(x @ w, initial=-jnp.inf, where=NONE[:, None]),
        (W, X),
        ("select_n", ""),
    ),
    "maximum of something": (
        lambda w, x: jnp.max(x @ w, initial=-jnp.inf, where=KEEP[:, None]),
        (W, X),
        None,
    ),
    "NaN as a mark": (lambda w, x: jnp.nansum(jnp.where(x > 1, x, jnp.nan) @ w), (W, X), None),
    "minimum by argsort": (
        lambda w, x: jnp.sum(x[jnp.argsort(jnp.where(KEEP, x[:, 0], jnp.inf))[:2]] @ w),
        (W, X),
        None,
    ),
    "sure, by a sigmoid": (lambda w, x: jnp.sum(jax.nn.sigmoid(3e38 * (9 * x @ w))), (W, X), None),
    "a mask and a failure": (
        lambda w, x, m: attend(w, x, m) + jnp.sum(jnp.log(x @ w - 100)),
        (W, X, CAUSAL),
        ("log", ""),
    ),
    "a failure before a mask": (
        lambda w, x, m: attend(w, jnp.sqrt(x - 1.5), m),
        (W, X, CAUSAL),
        ("sqrt", None),
    ),
    "both in one array": (shared, (W, X), ("log", None)),
    "two failures": (
        lambda w, x: jnp.sum(jnp.log(-((x @ w) ** 2))) + jnp.sum(jnp.sqrt(-(x**2))),
        (W, X),
        ("log", ""),
    ),
    "a failure that is selected away, and another": (
        lambda w, x: jnp.sum(jnp.where(x > 0, x, jnp.log(-x)) @ w) / (x[0, 0] - 2),
        (W, X),
        ("div", None),
    ),
    "overflow of exp": (lambda w, x: jnp.sum(jnp.exp(100 * (x @ w))), (W, X), ("exp", "")),
    "overflow of a square": (
        lambda w, x: jnp.sum((1e20 * (x @ w)) ** 2),
        (W, X),
        ("integer_pow", ""),
    ),
    "an overflow that ends as zero": (
        lambda w, x: jnp.sum(1 / jnp.exp(100 * x)) * w[0, 0],
        (W, X),
        None,
    ),
    "inf - inf": (
        lambda w, x: jnp.sum(jnp.exp(99 * (x @ w)) - jnp.exp(98 * (x @ w))),
        (W, X),
        ("exp", ""),
    ),
    "variance of one": (
        lambda w, x: (
            jnp.sum((x[:1] @ w - jnp.mean(x[:1] @ w)) ** 2) / (len(x[:1]) - jnp.sum(KEEP[:1]))
        ),
        (W, X),
        ("div", ""),
    ),
    "a singular matrix": (
        lambda w, x: jnp.sum(jnp.linalg.inv(jnp.ones((2, 2)) * w[0, 0]) @ x.T),
        (W, X),
        ("", None),
    ),
    "not positive definite": (
        lambda w, x: jnp.sum(jnp.linalg.cholesky(-w @ w.T) @ x.T),
        (W, X),
        ("cholesky", ""),
    ),
    "scan": (scanned, (W, X), ("exp", "")),
    "while": (turned, (W, X), ("exp", "")),
    "cond": (branched, (W, X), ("log", "")),
    "remat": (
        lambda w, x: jnp.sum(jax.checkpoint(lambda z: jnp.log(z - 100))(x @ w)),
        (W, X),
        ("log", ""),
    ),
    "jit": (jax.jit(lambda w, x: jnp.sum(jnp.log(x @ w - 100))), (W, X), ("log", "")),
    "vmap": (lambda w, x: jnp.sum(jax.vmap(lambda r: jnp.log(r @ w - 9))(x)), (W, X), ("log", "")),
    "inside a rule": (lambda w, x: jnp.sum(own_rule(x @ w)), (W, X), ("sqrt", "")),
    "a derivative within": (
        lambda w, x: jnp.sum(jax.grad(lambda y: jnp.sum(jnp.sqrt(y - y)))(x) @ w),
        (W, X),
        ("div", None),
    ),
    "float16": (
        lambda w, x: jnp.sum((x @ w) * 3e4 / 3e4),
        (W.astype("float16"), X.astype("float16")),
        ("mul", ""),
    ),
    "bfloat16 does not overflow": (
        lambda w, x: jnp.sum((x @ w) * 3e4 / 3e4),
        (W.astype("bfloat16"), X.astype("bfloat16")),
        None,
    ),
    "complex": (
        lambda w, x: jnp.sum(jnp.abs(jnp.log((x @ w) * (0.0 + 0j)))),
        (W.astype(complex), X),
        ("log", ""),
    ),
    "integers": (lambda n: 1.0 / n, (jnp.arange(3),), ("div", None)),
    "integers that are fine": (lambda n: 1.0 / (1 + n), (jnp.arange(3),), None),
    "a parameter": (
        lambda p, x: jnp.sum(x @ p["w"]),
        ({"w": W.at[0, 0].set(jnp.inf)}, X),
        ("input", "w"),
    ),
    "a leaf of the batch": (
        lambda p, batch: jnp.sum(batch["x"][0] @ p["w"]),
        ({"w": W}, {"x": (HOLED,)}),
        ("input", "batch/x/0"),
    ),
    "a batch that is closed over": (
        lambda p: jnp.sum(HOLED @ p["w"]),
        ({"w": W},),
        ("input", "constant0"),
    ),
    "a pair": (lambda w, x: (jnp.sum(x @ w), {"aux": jnp.log(x[0, 0] - 2)}), (W, X), ("log", None)),
    "what is handed through": (lambda w, x: (jnp.sum(w), x), (W, HOLED), ("input", "x")),
    "logits with a mask, returned": (
        lambda w, x: jnp.where(KEEP[:, None], x @ w, -jnp.inf),
        (W, X),
        ("select_n", ""),
    ),
    "out of bounds": (lambda w, x: jnp.sum(x.at[7].get(mode="fill") @ w), (W, X), ("gather", None)),
}


def check(site, expected):
    if expected is None:
        assert site is None
        return
    op, where = expected
    assert site is not None
    assert site.op == op or not op
    if op == "input":
        assert site.name == where
    elif where is not None:
        assert site.param == where


@pytest.mark.parametrize(("fun", "args", "expected"), FORWARD.values(), ids=FORWARD)
def test_the_place_that_the_result_suffers_from_is_named(fun, args, expected):
    with jax.numpy_dtype_promotion("standard"):
        values = jax.tree.leaves(fun(*args))
        assert all(bool(jnp.all(jnp.isfinite(x))) for x in values) == (expected is None)
        check(first_nonfinite(fun, *args), expected)


def located(*args, **kwargs):
    site = first_nonfinite(*args, **kwargs)
    assert site is not None
    return site


def test_arguments_go_by_keyword_too():
    def loss(params, batch, *, offset, train=True):
        z = batch @ params["w"] + offset
        return jnp.sum(jnp.log(z) if train else z)

    params = {"w": W}
    assert first_nonfinite(loss, params, X, offset=9.0) is None
    assert located(loss, params, X, offset=-9.0).op == "log"
    assert first_nonfinite(loss, params, X, offset=-9.0, train=False) is None
    assert located(loss, params=params, batch=X, offset=np.float32(jnp.nan)).name == "offset"
    assert located(loss, params, batch=HOLED, offset=9.0, gradient=True).name == "batch"


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return jnp.sum(jnp.sqrt(linen.Dense(2, name="first")(x) - 100))


class Nnx(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(2, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return jnp.sum(jnp.sqrt(self.first(x) - 100))


class Equinox(equinox.Module):
    first: equinox.nn.Linear

    def __init__(self):
        self.first = equinox.nn.Linear(2, 2, key=jax.random.key(0))

    def __call__(self, x):
        return jnp.sum(jnp.sqrt(jax.vmap(self.first)(x) - 100))


@pytest.mark.parametrize(
    ("fun", "args", "param"),
    [
        (Linen().apply, (Linen().init(jax.random.key(0), X), X), "params/first/kernel"),
        (Nnx(), (X,), "first/kernel"),
        (lambda model, x: model(x), (Nnx(), X), "first/kernel"),
        (Equinox(), (X,), "first/weight"),
        (lambda model, x: model(x), (Equinox(), X), "first/weight"),
    ],
    ids=["linen", "nnx", "nnx as argument", "equinox", "equinox as argument"],
)
def test_models_are_taken_as_taps_take_them(fun, args, param):
    site = located(fun, *args)
    assert (site.op, site.param) == ("sqrt", param)


# name: (loss of w and x, operation of the site or None); the value is finite
GRADIENT = {
    "smooth": (lambda w, x: jnp.sum((x @ w) ** 2), None),
    "root at zero": (lambda w, x: jnp.sum(jnp.sqrt(0.0 * (x @ w))), "sqrt"),
    "norm at zero": (lambda w, x: jnp.linalg.norm(0.0 * (x @ w)), "sqrt"),
    "root of a parameter": (lambda w, x: jnp.sum(jnp.sqrt(w - w)) + jnp.sum(x), "sqrt"),
    "where behind": (lambda w, x: jnp.sum(jnp.where(x > 9, jnp.sqrt(0.0 * (x @ w)), 0.0)), "sqrt"),
    "where before and behind": (
        lambda w, x: jnp.sum(jnp.where(x > 9, jnp.log(jnp.where(x > 9, x @ w, 1.0)), 0.0)),
        None,
    ),
    "a root that is cut off": (
        lambda w, x: jnp.sum(jnp.sqrt(jax.lax.stop_gradient(0.0 * (x @ w)))) + jnp.sum(w),
        None,
    ),
    "a root of the data": (lambda w, x: jnp.sum(jnp.sqrt(x - x)) + jnp.sum(x @ w), None),
    "a healthy mask": (
        lambda w, x: jnp.sum(jax.nn.softmax(jnp.where(KEEP, x @ w @ x.T, -jnp.inf)) @ x),
        None,
    ),
    "a mask and a root": (
        lambda w, x: (
            jnp.sum(jax.nn.softmax(jnp.where(KEEP, x @ w @ x.T, -jnp.inf)) @ x)
            + jnp.sqrt(jnp.sum(w - w))
        ),
        "sqrt",
    ),
    "a root that is selected away, and a power": (
        lambda w, x: jnp.sum(jnp.sqrt(jnp.where(x > 9, x @ w, 0.0))) + jnp.sum((0.0 * w) ** 0.5),
        "pow",
    ),
    "scan": (
        lambda w, x: jnp.sum(
            jax.lax.scan(lambda h, r: (jnp.sqrt((h + r @ w) * 0), None), x[0], x)[0]
        ),
        "sqrt",
    ),
    "remat": (lambda w, x: jnp.sum(jax.checkpoint(lambda z: jnp.sqrt(z * 0))(x @ w)), "sqrt"),
    "cond": (
        lambda w, x: jnp.sum(jax.lax.cond(w[0, 0] > 0, lambda z: jnp.sqrt(z * 0), jnp.sin, x @ w)),
        "sqrt",
    ),
    "the branch not taken": (
        lambda w, x: jnp.sum(jax.lax.cond(w[0, 0] < 0, lambda z: jnp.sqrt(z * 0), jnp.sin, x @ w)),
        None,
    ),
    "jit": (jax.jit(lambda w, x: jnp.sum(jnp.sqrt(0.0 * (x @ w)))), "sqrt"),
    "a rule that is wrong": (lambda w, x: jnp.sum(wrong_rule(x @ w)), "custom_vjp_call"),
    "an arc cosine at its end": (lambda w, x: jnp.sum(jnp.arccos(x[0, 1] * w[0, 0])), "acos"),
    "a pair": (lambda w, x: (jnp.sum(jnp.sqrt(0.0 * (x @ w))), {"x": x}), "sqrt"),
    "a second derivative": (
        lambda w, x: jnp.sum(jax.grad(lambda y: jnp.sum(y**1.5))(0 * (x @ w))),
        "pow",
    ),
    "an overflow on the way back": (lambda w, x: 1e30 * jnp.sum(1e30 * (1e-35 * (x @ w))), "mul"),
    "a sum of slopes that overflows": (
        lambda w, x: jnp.sum(2e38 * (1e-30 * w)) + jnp.sum(2e38 * (1e-30 * w) * x[0, 1]),
        None,
    ),
}


@pytest.mark.parametrize(("loss", "op"), GRADIENT.values(), ids=GRADIENT)
def test_the_operation_whose_derivative_the_gradient_suffers_from_is_named(loss, op):
    assert first_nonfinite(loss, W, X) is None
    value = lambda w: jax.tree.leaves(loss(w, X))[0]
    assert bool(jnp.all(jnp.isfinite(jax.grad(value)(W)))) == (op is None)
    site = first_nonfinite(loss, W, X, gradient=True)
    assert (None if site is None else site.op) == op
