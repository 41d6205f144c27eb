"""Every rule gives JAX's derivatives, in both modes and once more on top."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxopt_tut import autodiff, jaxprs
from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.twins import is_twin

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape)


def positive(*shape):
    return RNG.uniform(0.2, 0.8, size=shape)


def conv(strides=(1, 1), padding="SAME", groups=1, lhs_dilation=(1, 1), rhs_dilation=(1, 1)):
    return lambda x, k: lax.conv_general_dilated(
        x,
        k,
        strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def window(operation, start):
    return lambda x: lax.reduce_window(
        x, np.asarray(start, x.dtype), operation, (1, 3, 2), (1, 2, 1), "SAME"
    )


def spd(x):
    return x @ x.T + 4 * jnp.eye(x.shape[0], dtype=x.dtype)


def rnn(w, h0, xs):
    def step(h, x):
        h = jnp.tanh(w @ h + x)
        return h, (h, jnp.sum(h**2))

    return lax.scan(step, h0, xs)


def rnn_with_counter(w, h0, xs):
    scale = jnp.exp(w[0, 0])  # the loop reads a value computed from a constant

    def step(state, x):
        count, h = state
        h = jnp.sin(scale * (w @ h)) + x * count.astype(x.dtype)
        return (count + 1, h), count

    return lax.scan(step, (0, h0), xs, reverse=True)[0][1]


def nested_loops(w, xs):
    def outer(total, x):
        inner = lax.fori_loop(0, 3, lambda i, v: jnp.sin(w * v) + i.astype(v.dtype), x)
        return total + jax.nn.softplus(inner), jnp.max(inner)

    return lax.scan(outer, jnp.zeros_like(xs[0]), xs)


def branches(x, y):
    first = lax.cond(x[0] > 0, lambda: jnp.sin(x) * y, lambda: x - y)
    return lax.switch(2, [lambda v: v, jnp.cos, lambda v: jnp.exp(v) * y], first)


A, B, C = normal(3, 4), normal(4, 2), normal(3, 4)
SQUARE, VECTOR = normal(3, 3), normal(3)
IMAGE, KERNEL = normal(2, 6, 5, 4), normal(3, 2, 4, 6)
COMPLEX = normal(4) + 1j * normal(4)
INDEX = np.array([2, 0, 2, 1])
UNARY = {
    **dict.fromkeys(
        [
            "sin",
            "cos",
            "tan",
            "sinh",
            "cosh",
            "tanh",
            "asinh",
            "exp",
            "exp2",
            "expm1",
            "neg",
            "square",
            "erf",
            "erfc",
            "logistic",
            "bessel_i0e",
            "bessel_i1e",
            "abs",
        ],
        normal,
    ),
    **dict.fromkeys(
        [
            "asin",
            "acos",
            "atan",
            "atanh",
            "log",
            "log1p",
            "sqrt",
            "rsqrt",
            "cbrt",
            "erf_inv",
            "lgamma",
            "digamma",
        ],
        positive,
    ),
    "acosh": lambda *s: 1 + positive(*s),
}
CASES = {
    **{name: (getattr(lax, name), (draw(2, 3),)) for name, draw in UNARY.items()},
    "log2": (jnp.log2, (positive(2, 3),)),  # a primitive from jax 0.12 on, as the next one
    "one_minus_square": (getattr(lax, "one_minus_square", lambda x: 1 - x * x), (A,)),
    "integer_pow": (lambda x: x**3 + x**-2 + x**1, (A,)),
    "add_sub": (lambda x, y: (x + y) - (2 * x - y), (A, C)),
    "mul_div": (lambda x, y: x * y / (3 + y * y) + 2.0 / (4 + x**2), (A, C)),
    "scalar_operands": (lambda x, s: s * x + lax.max(x, 0.3) / s, (A, 1.5)),
    "pow": (lambda x, y: x**y, (positive(2, 3), normal(2, 3))),
    "atan2": (lax.atan2, (A, C)),
    "rem": (lax.rem, (5 * A, 1 + positive(3, 4))),
    "max_min": (lambda x, y: lax.max(x, y) * lax.min(x, y), (A, C)),
    "clamp": (lambda low, x, high: lax.clamp(low, x, high), (-positive(3, 4), A, positive(3, 4))),
    "where": (lambda x, y: jnp.where(x > 0, x * y, y), (A, C)),
    "select_n": (lambda x, y: lax.select_n(np.array([2, 0, 1]), x, y, x * y), (VECTOR, normal(3))),
    "zero_derivative": (lambda x: lax.stop_gradient(x) * x + jnp.floor(x) + jnp.sign(x), (A,)),
    "cast": (lambda x: x.astype(jnp.float32).astype(jnp.float64) ** 2, (A,)),
    "reduce_precision": (lambda x: lax.reduce_precision(x, 8, 20) * x, (A,)),
    "complex_parts": (lambda z: z.real * z.imag + jnp.abs(z) ** 3, (COMPLEX,)),
    "complex_product": (lambda z, x: jnp.conj(z) * lax.complex(x, x**2) / z, (COMPLEX, normal(4))),
    "complex_functions": (lambda z: jnp.sin(z) * jnp.exp(z) + z**3 + jnp.sqrt(z), (COMPLEX,)),
    "reduce_sum": (lambda x: jnp.sum(x**2, 0) * jnp.sum(x), (A,)),
    "reduce_extrema": (lambda x: jnp.max(x, 1) * jnp.min(x), (A,)),
    "reduce_prod": (lambda x: jnp.prod(x, 0) + jnp.prod(x), (A,)),
    "reduce_prod_with_zeros": (lambda x: jnp.prod(x, 1), (A * (A > 0),)),
    "logsumexp": (lambda x: jax.nn.logsumexp(3 * x, 1), (A,)),
    "softmax": (lambda x: jax.nn.softmax(x) * jax.nn.log_softmax(x), (A,)),
    "var_std": (lambda x: jnp.var(x, 0) + jnp.std(x, 0), (A,)),
    "broadcast": (lambda x: jnp.broadcast_to(x[:, None], (3, 5)) * x[0], (VECTOR,)),
    "stretch": (
        lambda x: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)) ** 2,
        (normal(1, 4).repeat(3, 0),),
    ),
    "reshape": (lambda x: jnp.sin(x.reshape(2, 6)).T.ravel(), (A,)),
    "rev_squeeze": (lambda x: jnp.flip(x[:, None], 0).squeeze(1) * x, (A,)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y * 2, x], 1) ** 2, (A, C)),
    "split": (lambda x: jnp.split(x, [1, 3], 1)[0] * jnp.split(x, [1, 3], 1)[2], (A,)),
    "pad": (lambda x, v: lax.pad(x, v, [(1, -1, 0), (2, 1, 2)]) ** 2, (A, 0.7)),
    "slice": (lambda x: x[::2, 1:4:2] ** 2, (A,)),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (1, INDEX[0]), (2, 2)) ** 2, (A,)),
    "dynamic_update": (
        lambda x, y: lax.dynamic_update_slice(x, y[:2, :2] ** 2, (1, 1)) ** 2,
        (A, C),
    ),
    "matmul": (lambda x, y: jnp.tanh(x @ y), (A, B)),
    "einsum": (lambda x, y: jnp.einsum("bij,kbj->bki", x, y), (normal(2, 3, 4), normal(5, 2, 4))),
    "tensordot": (
        lambda x, y: lax.dot_general(x, y, (((0, 2), (1, 0)), ((), ()))),
        (normal(2, 3, 4), normal(4, 2, 5)),
    ),
    "cholesky": (lambda x: jnp.linalg.cholesky(spd(x)), (SQUARE,)),
    "cholesky_raw": (lambda x: lax.linalg.cholesky(spd(x), symmetrize_input=False), (SQUARE,)),
    "eigh": (lambda x: jnp.linalg.eigvalsh(x + x.T), (SQUARE,)),
    "fft": (lambda z: jnp.abs(jnp.fft.fft(z) * jnp.fft.ifft(z**2)), (COMPLEX,)),
    "rfft": (lambda x: jnp.abs(jnp.fft.rfftn(x)) ** 2, (A,)),
    "irfft": (lambda z: jnp.fft.irfft(z, 6) ** 2 + jnp.fft.irfft(z**2, 7)[:6], (COMPLEX,)),
    "gather": (lambda x: x[INDEX] * jnp.take_along_axis(x, INDEX[:3, None] % 4, 1)[0], (A,)),
    "scatter_add": (lambda x, y: x.at[INDEX].add(y**2) ** 2, (A, normal(4, 4))),
    "scatter_unique": (lambda x, y: x.at[:, 1].set(y) ** 2, (A, VECTOR)),
    "scatter_repeated": (lambda x, y: x.at[INDEX].set(y) ** 2, (A, normal(4, 4))),
    "scatter_mul": (
        lambda x, y: x.at[np.array([0, 2])].mul(y, unique_indices=True) ** 2,
        (A, normal(2, 4)),
    ),
    "sort": (lambda x: jnp.sort(x, 0) * jnp.arange(3.0)[:, None], (A,)),
    "sort_pairs": (lambda x, y: lax.sort((x, y), dimension=1, num_keys=1)[1] ** 2, (A, C)),
    "top_k": (lambda x: lax.top_k(x, 2)[0] ** 2, (A,)),
    "conv": (conv(), (IMAGE, KERNEL)),
    "conv_valid_strided": (conv((2, 1), "VALID"), (IMAGE, KERNEL)),
    "conv_padded": (conv((2, 2), [(3, 0), (-1, 2)]), (IMAGE, KERNEL)),
    "conv_dilated": (conv((2, 1), [(1, 1), (2, 0)], 1, (1, 2), (2, 1)), (IMAGE, KERNEL)),
    "conv_grouped": (conv((1, 2), "SAME", 2), (IMAGE, normal(3, 2, 2, 6))),
    "max_pool": (window(lax.max, -np.inf), (normal(2, 7, 5),)),
    "min_pool": (window(lax.min, np.inf), (normal(2, 7, 5),)),
    "sum_pool": (lambda x: window(lax.add, 0.0)(x) ** 2, (normal(2, 7, 5),)),
    "cumsum": (lambda x: jnp.cumsum(x, 0) ** 2, (A,)),
    "cumprod": (lambda x: lax.cumprod(x, 1), (A,)),
    "cumprod_with_zeros": (lambda x: lax.cumprod(x, 1, reverse=True), (A * (A > 0),)),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), (100 * A,)),
    "cumlogsumexp_reverse": (lambda x: lax.cumlogsumexp(x, 0, reverse=True), (A,)),
    "cummax": (lambda x: lax.cummax(x, 1) ** 2, (normal(3, 9),)),
    "cummin_reverse": (lambda x: lax.cummin(x, 0, reverse=True) ** 2, (normal(9, 2),)),
    "scan": (rnn, (SQUARE / 2, VECTOR, normal(5, 3))),
    "scan_reverse_counter": (rnn_with_counter, (SQUARE / 2, VECTOR, normal(5, 3))),
    "nested_loops": (nested_loops, (0.7, normal(4, 3))),
    "cond": (branches, (VECTOR, normal(3))),
    "remat": (jax.checkpoint(lambda x: jnp.sin(jnp.exp(jnp.sin(x)))), (A,)),
    "remat_policy": (
        jax.checkpoint(
            lambda x, y: jnp.sin(jnp.sin(x) @ y), policy=jax.checkpoint_policies.dots_saveable
        ),
        (A, B),
    ),
    "custom_jvp": (lambda x: jax.nn.relu(x) + jax.nn.silu(x) * jax.nn.elu(x), (A,)),
    "relu_at_zero": (jax.nn.relu, (np.zeros(3),)),
    "log_sigmoid": (jax.nn.log_sigmoid, (30 * A,)),
    "gelu": (jax.nn.gelu, (A,)),
}
BY_JAX = {
    "solve": (lambda x, y: jnp.linalg.solve(spd(x), y), (SQUARE, VECTOR)),
    "qr": (lambda x: jnp.linalg.qr(x)[1], (SQUARE,)),
    "svd": (lambda x: jnp.linalg.svd(x, compute_uv=False), (A,)),
    "det": (jnp.linalg.det, (SQUARE,)),
    "igamma": (lambda x: jax.scipy.special.gammainc(2.0, x), (positive(3),)),
}
ALL = {**CASES, **BY_JAX}
# Sums of at most ~1e3 products in double precision; solves multiply by a condition below 1e2.
TOLERANCE = {"rtol": 1e-10, "atol": 1e-11}
FAST = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here


def random_like(tree, seed):
    rng = np.random.default_rng(seed)

    def draw(x):
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return np.zeros(x.shape, jax.dtypes.float0)
        value = rng.normal(size=x.shape)
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            value = value + 1j * rng.normal(size=x.shape)
        return jnp.asarray(value, x.dtype)

    return jax.tree.map(draw, tree)


def assert_close(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        if a.dtype != jax.dtypes.float0:
            np.testing.assert_allclose(a, b, **TOLERANCE)


STEPS = np.array([1e-4, 5e-5])  # the remainder, about 1e-9, is far above rounding


# What XLA promises on a CPU alone.
OPEN_ELSEWHERE = {
    "scatter_repeated": "which of several updates to one place wins",
    "max_pool": "that second derivatives of pooling are not rounded to half the bits",
    "min_pool": "that second derivatives of pooling are not rounded to half the bits",
}


@functools.cache  # three tests read it
def measured(name):
    """All derivatives of a case by both engines, with the directions they were taken in."""
    if name in OPEN_ELSEWHERE and jax.default_backend() != "cpu":
        pytest.skip(f"open on this device: {OPEN_ELSEWHERE[name]}")
    fun, args = ALL[name]
    args = jax.tree.map(jnp.asarray, args)
    tangents = random_like(args, 1)
    cotangents = random_like(jax.eval_shape(fun, *args), 2)

    def derivatives(engine):
        value, pull = engine.vjp(fun, *args)
        pushed = engine.jvp(fun, args, tangents)[1]
        reverse = lambda *x: engine.vjp(fun, *x)[1](cotangents)
        return value, pull(cotangents), pushed, engine.jvp(reverse, args, tangents)[1]

    def moved(step):
        move = lambda x, t: x if t.dtype == jax.dtypes.float0 else x + step.astype(x.dtype) * t
        return fun(*jax.tree.map(move, args, tangents))

    ours = jax.jit(lambda: (derivatives(autodiff), jax.vmap(moved)(STEPS)), compiler_options=FAST)
    theirs = jax.jit(lambda: derivatives(jax), compiler_options=FAST)
    return jax.device_get((tangents, cotangents, *ours(), theirs()))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("x64")
def test_both_modes_and_their_composition_equal_jax(name):
    _, _, ours, _, theirs = measured(name)
    assert_close(ours, theirs)


def products(left, right):
    """Real products of two trees' leaves; their sum is the pairing that vjp and jvp share."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return np.concatenate(
        [np.real(np.ravel(a * b)) for a, b in pairs if a.dtype != jax.dtypes.float0]
    )


ROUNDED = {"cast": 2**-24, "reduce_precision": 2**-21}  # what the case itself rounds to


@pytest.mark.parametrize("name", ALL)
@pytest.mark.usefixtures("x64")
def test_reverse_mode_is_the_transpose_of_forward_mode(name):
    tangents, cotangents, (_, pulled, pushed, _), _, _ = measured(name)
    left, right = products(cotangents, pushed), products(pulled, tangents)
    size = np.sum(np.abs(left)) + np.sum(np.abs(right))
    # The relative tolerance above, or what a rounding to fewer digits loses in each direction.
    np.testing.assert_allclose(
        np.sum(left), np.sum(right), rtol=0, atol=size * ROUNDED.get(name, 1e-10)
    )


# Rounding is no smooth function, the slope at a kink or of stop_gradient is a convention.
NOT_SMOOTH = {*ROUNDED, "relu_at_zero", "zero_derivative"}


@pytest.mark.parametrize("name", sorted({*ALL} - NOT_SMOOTH))
@pytest.mark.usefixtures("x64")
def test_the_taylor_remainder_is_of_second_order(name):
    _, _, (value, _, pushed, _), moved, _ = measured(name)
    remainders, sizes = [], []
    for y, t, ys in zip(*map(jax.tree.leaves, (value, pushed, moved)), strict=True):
        if t.dtype == jax.dtypes.float0:
            continue
        steps = STEPS.reshape(2, *[1] * y.ndim)
        remainders.append(np.abs(ys - y - steps * t).reshape(2, -1))
        sizes.append(np.ravel(np.abs(y) + np.abs(ys[0])))
    first, second = np.linalg.norm(np.concatenate(remainders, 1), axis=1)
    # Halving the step divides the remainder by four, up to a third-order part of about h = 1e-4;
    # a function that is linear along the line leaves what rounding its values leaves.
    rounding = 1e3 * 2**-52 * np.linalg.norm(np.concatenate(sizes))
    assert second <= first / 4 * (1 + 0.01) + rounding


@pytest.mark.parametrize("name", CASES)
def test_the_rule_is_our_own(name):
    fun, args = CASES[name]
    with jax.enable_x64(True):
        autodiff.trace(fun, strict=True)(*jax.tree.map(jnp.asarray, args))


@pytest.mark.parametrize("length", [1, 2, 7, 8])
@pytest.mark.usefixtures("x64")
def test_running_extrema_split_ties_as_jax_does(length):
    """Three distinct numbers in a row of `length`: most places tie with an earlier one."""
    x = jnp.asarray(RNG.integers(0, 3, size=(2, length)), jnp.float64)
    cotangent, tangent = jnp.asarray(normal(2, length)), jnp.asarray(normal(2, length))
    runs = [
        lambda x, run=run, reverse=reverse: run(x, 1, reverse=reverse)
        for run in (lax.cummax, lax.cummin)
        for reverse in (False, True)
    ]

    def both(engine):
        pulled = [engine.vjp(run, x)[1](cotangent)[0] for run in runs]
        return pulled, [engine.jvp(run, (x,), (tangent,))[1] for run in runs]

    ours, theirs = jax.jit(lambda: (both(autodiff), both(jax)), compiler_options=FAST)()
    # Sums of at most 8 numbers below 4 times powers of 1/2, which are exact.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=8 * 32 * 2**-52)


# Reached by what JAX makes of a program, or with a file of tests of their own.
TESTED_ELSEWHERE = {
    *("add_any", "copy", "name", "zero_product", "zero_quotient"),
    *("scatter-max", "scatter-min", "scatter-sub"),
    *("select_and_gather_add", "select_and_scatter_add", "triangular_solve"),
}


@pytest.mark.usefixtures("x64")
def test_every_rule_has_a_case():
    traced = [autodiff.trace(fun)(*map(jnp.asarray, args)) for fun, args in ALL.values()]
    seen = {step.primitive for graph in traced for step in graph.program.steps}
    # some are made when a program needs them: which there are depends on the tests before
    made = {p for p in registry.RULES if is_twin(p) or p.name.startswith(jaxprs.ROUNDED)}
    without = {str(primitive) for primitive in registry.RULES.keys() - seen - made}
    assert without == TESTED_ELSEWHERE, "add a case to CASES for each rule that has none"
