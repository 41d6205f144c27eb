"""At every kink the engine gives JAX's derivative, or a number that docs/autodiff.md defends."""

import cmath
import functools
import math
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

from jaxopt_tut import autodiff

PAGE = Path(__file__).parents[2] / "docs" / "autodiff.md"


class Row(NamedTuple):
    """One deliberate difference, as the page has it."""

    function: str
    order: int
    where: str
    example: str
    at: str
    jax: str
    here: str
    because: str


def rows():
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    cells = ([cell.strip().strip("`") for cell in line.strip("|").split(" | ")] for line in lines)
    return [Row(c[0], int(c[1]), *c[2:]) for c in cells]


ROWS = rows()
NAMES = {"jnp": jnp, "lax": lax, "special": special, "nan": math.nan}


def number(text):
    return complex(text) if text.endswith("j") else float(text)


def derivative(engine, row):
    """Differentiate a row's example, as often as it says, in single precision."""
    fun = eval(f"lambda t: {row.example}", NAMES)
    at = eval(row.at, NAMES)
    for _ in range(row.order):
        fun = engine.grad(fun, holomorphic=isinstance(at, complex))
    dtype = jnp.complex64 if isinstance(at, complex) else jnp.float32
    with jax.numpy_dtype_promotion("standard"):  # which JAX's rule of pow needs
        return jax.jit(fun)(jnp.asarray(at, dtype))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.function} {row.order} {row.at}")
def test_the_table_of_differences_is_true(row):
    # The functions here round a few times; the table has eight digits.
    np.testing.assert_allclose(derivative(autodiff, row), number(row.here), rtol=2e-6, atol=1e-12)
    if row.jax == "refused":
        with pytest.raises(NotImplementedError):
            derivative(jax, row)
        return
    theirs = derivative(jax, row)
    repaired = np.allclose(theirs, number(row.here), rtol=2e-6, equal_nan=True)
    if not repaired:  # a later JAX may do as we do
        np.testing.assert_allclose(theirs, number(row.jax), rtol=2e-6, atol=1e-12)


# The whole: every elementwise primitive with a rule, at every number where one may break.
UNARY = {
    name: getattr(lax, name)
    for name in (
        *("neg", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh"),
        *("acosh", "atanh", "exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt"),
        *("logistic", "square", "erf", "erfc", "erf_inv", "lgamma", "digamma", "bessel_i0e"),
        *("bessel_i1e", "abs", "sign", "floor", "ceil", "round", "real", "imag", "conj"),
    )
} | {
    f"integer_pow{n}": functools.partial(lax.integer_pow, y=n) for n in (-3, -2, -1, 0, 1, 2, 3)
}  # fmt: skip
BINARY = {
    name: getattr(lax, name)
    for name in ("add", "sub", "mul", "div", "rem", "atan2", "max", "min", "pow", "complex")
}
CLAMP = {"clamp": lambda x, y: lax.clamp(x, y, x + 1) + lax.clamp(y - 1, x, y) + lax.clamp(x, x, y)}
FAST = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here
FEW = [("float32", 1), ("bfloat16", 1)]
MANY = [
    *(("float32", 2), ("float64", 1), ("float64", 2), ("bfloat16", 2), ("float16", 1)),
    *(("complex64", 1), ("complex64", 2), ("complex128", 1)),
]
slow = pytest.mark.slow
REFUSED = {  # by JAX, for the type of number
    "complex": {
        *("cbrt", "erf", "erfc", "erf_inv", "lgamma", "digamma", "bessel_i0e", "bessel_i1e"),
        *("floor", "ceil", "round", "rem", "complex", "clamp"),
        *(("max", "min") if jax.__version_info__ >= (0, 11) else ()),
    },
    "real": {"real", "imag"},
    "half": {"real", "imag", "conj", "complex"},
}


def kind_of(dtype):
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return "complex"
    return "half" if jnp.finfo(dtype).bits == 16 else "real"


def border(dtype, smooth_range):
    """Zeros, ends of domains, ties; unless `smooth_range` also the ends of the dtype and beyond."""
    info = jnp.finfo(dtype)
    eps, tiny, huge = (float(v) for v in (info.eps, info.tiny, info.max))
    positive = [0.0, 0.3, 0.5, 1 - eps / 2, 1.0, 1 + eps, 1.5, 2.0, 3.0]
    if not smooth_range:
        positive += [float(info.smallest_subnormal), tiny, eps, huge**0.5, huge, math.inf]
    found = [*positive, *(-x for x in positive)]
    return np.array(found if smooth_range else [*found, math.nan])


def points(dtype, count, smooth_range):
    """One array an argument: all combinations of numbers on some border."""
    if kind_of(dtype) == "complex":
        parts = [0.0, -0.0, 0.5, -1.0, 1.0, 2.0]
        line = np.array([complex(a, b) for a in parts for b in parts])
        line = line if count == 1 else line[::3]
    else:
        line = border(dtype, smooth_range)
    grid = np.meshgrid(*[line] * count)
    return tuple(axis.ravel().astype(dtype) for axis in grid)


def first(engine, fun, args, weight):
    """Derivatives of order one in both modes; a cotangent of 1, of .75 and of 0."""
    _, pull = engine.vjp(fun, *args)
    ones = [jnp.ones_like(x) * weight.real.astype(x.dtype) for x in args]
    push = lambda k: tuple(t if j == k else jnp.zeros_like(t) for j, t in enumerate(ones))
    shaped = jax.eval_shape(fun, *args)
    cotangents = [jnp.full(shaped.shape, c, shaped.dtype) for c in (1, 0.75, 0)]
    scaled = [c * weight.real.astype(c.dtype) for c in cotangents]
    return [pull(c) for c in scaled], [engine.jvp(fun, args, push(k))[1] for k in range(len(args))]


def second(engine, fun, args, weight):
    """Derivatives of order two: forward over reverse, and reverse over reverse."""
    shaped = jax.eval_shape(fun, *args)
    cotangent = jnp.ones(shaped.shape, shaped.dtype) * weight.real.astype(shaped.dtype)
    reverse = lambda *x: engine.vjp(fun, *x)[1](cotangent)
    ones = tuple(jnp.ones_like(x) * weight.real.astype(x.dtype) for x in args)
    return engine.jvp(reverse, args, ones)[1], engine.vjp(reverse, *args)[1](ones)


def allowed(name, order, dtype, values):
    """Find a row of the table for this primitive and these arguments."""
    info = jnp.finfo(dtype)
    given = dict(zip("xy", values, strict=False)) | {"z": values[0]}
    known = {
        **{"isnan": cmath.isnan, "isfinite": cmath.isfinite, "abs": abs, "any": any},
        **{"tiny": float(info.tiny), "huge": float(info.max), "eps": float(info.eps)},
    }
    for row in ROWS:
        if row.function.startswith(f"{name}(") and row.order <= order:
            try:
                if eval(row.where, {"__builtins__": {}}, known | given):
                    return True
            except (OverflowError, ZeroDivisionError):
                continue
    return False


CANCELS = ("bessel_i0e", "bessel_i1e", "tanh")  # their slopes subtract terms of size one
EXACT = {
    "div": lambda x, y: float(-Fraction(x) / Fraction(y) ** 2),
    "rem": lambda x, y: float(-math.trunc(Fraction(x) / Fraction(y))),
    "acosh": lambda z: 1 / (cmath.sqrt(z - 1) * cmath.sqrt(z + 1)),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
@pytest.mark.usefixtures("x64")
def test_where_we_differ_for_the_sake_of_accuracy_the_derivative_is_exact(dtype):
    info = jnp.finfo(dtype)
    for name in ("acosh",) if kind_of(dtype) == "complex" else ("div", "rem"):
        fun, count = (UNARY | BINARY)[name], 1 if name in UNARY else 2
        args = points(jnp.dtype(dtype), count, False)
        (*_, ours) = jax.jit(lambda *x: autodiff.vjp(fun, *x)[1](jnp.ones_like(x[0])))(*args)  # noqa: B023
        compared = 0
        for values, found in zip(zip(*args, strict=True), np.asarray(ours), strict=True):
            try:
                exact = EXACT[name](*(v.item() for v in values))
            except (OverflowError, ZeroDivisionError, ValueError):
                continue  # no number, or none that fits
            if not float(info.tiny) <= abs(exact) < float(info.max):
                continue
            if any(0 < abs(v) < info.tiny for v in values):
                continue  # flushed to zero on a CPU
            # A quotient more than 1 / eps is rounded; otherwise four operations round once each.
            assert abs(found - exact) <= 4 * float(info.eps) * abs(exact), (name, values)
            compared += 1
        assert compared > 30


@pytest.mark.parametrize(("dtype", "order"), FEW + [pytest.param(*x, marks=slow) for x in MANY])
@pytest.mark.usefixtures("x64")
def test_every_primitive_is_jax_at_every_border_but_for_the_table(dtype, order):
    dtype, derivatives = jnp.dtype(dtype), (first, second)[order - 1]
    functions = {
        name: (fun, 1 if name in UNARY else 2)
        for name, fun in (UNARY | BINARY | CLAMP).items()
        if name not in REFUSED.get(kind_of(dtype), ())
    }
    args = {count: points(dtype, count, order == 2) for count in (1, 2)}

    def both(args, weight):
        return {
            name: [derivatives(engine, fun, args[count], weight) for engine in (autodiff, jax)]
            for name, (fun, count) in functions.items()
        }

    # The weight, a 1 that XLA does not see, keeps it from simplifying products in one engine.
    found = jax.device_get(jax.jit(both, compiler_options=FAST)(args, jnp.ones((), jnp.float32)))
    info = jnp.finfo(dtype)
    wide = np.complex128 if kind_of(dtype) == "complex" else np.float64
    for name, (ours, theirs) in found.items():
        values = np.stack([np.asarray(x, wide) for x in args[functions[name][1]]], -1)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert a.dtype == b.dtype
            a, b = (x if np.iscomplexobj(x) else x.astype(np.float64) for x in (a, b))
            with np.errstate(all="ignore"):
                # The same operations up to their order: some roundings of a term, which the
                # second derivative takes from terms of size one that may cancel.
                terms = order == 2 or info.bits == 16 or name in CANCELS
                size = np.abs(b) + terms + float(info.tiny) / float(info.eps)
                near = np.abs(a - b) <= 16 * float(info.eps) * size
            same = near | (a == b) | (np.isnan(a) & np.isnan(b))
            for k in np.flatnonzero(~same):
                point = [v.item() for v in values[k]]
                assert allowed(name, order, dtype, point), (name, point, a[k], b[k])


# Operations on whole arrays: ties, zeros among factors, infinities, NaN, places out of bounds.
HARD = np.array(
    [
        [0, -0.0, 1, 1],
        [2, 2, -1, 0],
        [math.inf, 1, math.inf, -math.inf],
        [math.nan, 0, 1, math.nan],
        [0, 0, 0, 0],
    ]
)
TIES = np.array([[0, -0.0, 1, 1], [2, 2, -1, 0], [0, 0, 0, 0], [1, 1, 1, 1.0]])
PLACES = np.array([0, 9, -1, -9, 0])


def pool(operation, start):
    return lambda x: lax.reduce_window(
        x, np.asarray(start, x.dtype), operation, (2, 2), (1, 1), "SAME"
    )


ARRAYS = {
    "max": (lambda x: jnp.max(x, 1), HARD),
    "min": (lambda x: jnp.min(x, 0), HARD),
    "max_of_all": (jnp.max, TIES),
    "prod": (lambda x: jnp.prod(x, 1), HARD),
    "prod_of_all": (jnp.prod, TIES),
    "sort": (lambda x: jnp.sort(x, 1), HARD),
    "sort_down": (lambda x: jnp.sort(x, 0, descending=True), HARD),
    "sort_pairs": (lambda x: lax.sort((x, x * 2), dimension=1, num_keys=1)[1], HARD),
    "top_k": (lambda x: lax.top_k(x, 3)[0], HARD),
    "median": (lambda x: jnp.median(x, 1), TIES),
    "cumsum": (lambda x: jnp.cumsum(x, 1), HARD),
    "cumprod": (lambda x: lax.cumprod(x, 1, reverse=True), HARD),
    "cummax": (lambda x: lax.cummax(x, 1), HARD),
    "cummin": (lambda x: lax.cummin(x, 0, reverse=True), TIES),
    "cumlogsumexp": (lambda x: lax.cumlogsumexp(x, 1), TIES),
    "logsumexp": (lambda x: special.logsumexp(x, 1), HARD),
    "softmax": (lambda x: jax.nn.softmax(x, 1), HARD),
    "norm": (lambda x: jnp.linalg.norm(x, axis=1), TIES),
    "hypot": (lambda x: jnp.hypot(x, x[::-1]), HARD),
    "std": (lambda x: jnp.std(x, 1), TIES),
    "x_to_the_x": (lambda x: x**x, HARD),
    "zero_to_the_x": (lambda x: jnp.zeros_like(x) ** x, HARD),
    "root_behind_where": (lambda x: jnp.where(x > 0, jnp.sqrt(x), 0), HARD),
    "clip": (lambda x: jnp.clip(x, 0.0, 1.0), HARD),
    "relu_and_others": (lambda x: jax.nn.relu(x) + jax.nn.leaky_relu(x) + jax.nn.elu(x), HARD),
    "sinc": (jnp.sinc, HARD),
    "xlogy": (lambda x: special.xlogy(x, x) + special.entr(x), HARD),
    "logaddexp": (lambda x: jnp.logaddexp(x, x[::-1]), HARD),
    "erf_inv": (special.erfinv, HARD),
    "logit": (special.logit, HARD),
    "max_pool": (pool(lax.max, -math.inf), TIES),
    "min_pool": (pool(lax.min, math.inf), TIES),
    "sum_pool": (pool(lax.add, 0.0), HARD),
    "filled": (lambda x: x.at[PLACES].get(mode="fill"), TIES),
    "clipped": (lambda x: x.at[PLACES].get(mode="clip"), TIES),
    "set": (lambda x: x.at[PLACES[:3]].set(x[:3], mode="drop"), TIES),
    "scattered_max": (lambda x: x.at[PLACES[::4]].max(x[:2]), TIES),
    "segment_max": (
        lambda x: jax.ops.segment_max(x, np.array([0, 0, 1, 1]), num_segments=3),
        TIES,
    ),
    "slice_out_of_bounds": (lambda x: lax.dynamic_slice(x, (3, -1), (2, 2)), TIES),
    "distances": (lambda x: jnp.linalg.norm(x[:, None] - x[None], axis=-1), TIES),
}


@pytest.mark.parametrize(
    ("dtype", "order"),
    [("float32", 1), *(pytest.param(d, 2, marks=slow) for d in ("float32", "float64", "bfloat16"))],
)
@pytest.mark.usefixtures("x64")
def test_ties_zeros_and_infinities_in_arrays_are_jax(dtype, order):
    rng = np.random.default_rng(0)
    args = {name: jnp.asarray(x, dtype) for name, (_, x) in ARRAYS.items()}
    shapes = {name: jax.eval_shape(fun, args[name]) for name, (fun, _) in ARRAYS.items()}
    draw = lambda like: jnp.asarray(rng.uniform(0.5, 2, size=like.shape), like.dtype)
    weights, tangents = jax.tree.map(draw, shapes), jax.tree.map(draw, args)

    def derivatives(engine, fun, x, weight, tangent):
        reverse = lambda x: engine.vjp(fun, x)[1](weight)[0]
        if order == 1:
            return reverse(x), engine.jvp(fun, (x,), (tangent,))[1]
        return engine.jvp(reverse, (x,), (tangent,))[1], engine.vjp(reverse, x)[1](tangent)[0]

    def both(args, weights, tangents):
        return {
            name: [
                derivatives(engine, fun, args[name], weights[name], tangents[name])
                for engine in (autodiff, jax)
            ]
            for name, (fun, _) in ARRAYS.items()
        }

    found = jax.device_get(jax.jit(both, compiler_options=FAST)(args, weights, tangents))
    eps = float(jnp.finfo(dtype).eps)
    for name, (ours, theirs) in found.items():
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            # Tens of operations on numbers near one, perhaps in another order.
            a, b = a.astype(float), b.astype(float)
            np.testing.assert_allclose(a, b, rtol=64 * eps, atol=64 * eps, err_msg=name)
