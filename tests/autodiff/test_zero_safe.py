"""Zero times infinity is zero in the derivatives of `zero_safe` functions; the rest is JAX's."""

import functools
import gc
import math
import weakref

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxopt_tut import autodiff, jaxprs
from jaxopt_tut.autodiff import strict, zero_safe
from jaxopt_tut.autodiff.twins import GUARDED
from jaxopt_tut.autodiff.zero_safe import rewritten

INF, NAN = math.inf, math.nan


def pairwise_distances(x):
    return jnp.sqrt(jnp.sum((x[:, None] - x[None]) ** 2, -1))


def masked(condition, value):
    return jnp.where(condition, value, 0.0)


# Name: function, point, its gradient in closed form. The sum of the results is differentiated.
# JAX's gradient is not a number somewhere in each but the last three.
GUARDED_FUNCTIONS = {
    "root": (lambda x: masked(x > 0, jnp.sqrt(x)), [-1.0, 0.0, 4.0], [0.0, 0.0, 0.25]),
    "inverse root": (lambda x: masked(x > 0, x**-0.5), [0.0, 4.0], [0.0, -0.0625]),
    "cube root": (lambda x: masked(x != 0, jnp.cbrt(x)), [0.0, 8.0], [0.0, 1 / 12]),
    "logarithm": (lambda x: masked(x > 0, jnp.log(x)), [-1.0, 0.0, 2.0], [0.0, 0.0, 0.5]),
    "log1p": (lambda x: masked(x > -1, jnp.log1p(x)), [-1.0, 1.0], [0.0, 0.5]),
    "quotient": (lambda x: masked(x != 0, 1 / x), [0.0, 2.0], [0.0, -0.25]),
    "entropy": (
        lambda p: masked(p > 0, -p * jnp.log(p)),
        [0.0, 0.5],
        [0.0, -1 - math.log(0.5)],
    ),
    "power": (lambda x: masked(x > 0, x**0.3), [0.0, 1.0], [0.0, 0.3]),
    "x to the x": (lambda x: masked(x > 0, x**x), [0.0, 1.0], [0.0, 1.0]),
    "elu": (lambda z: jnp.where(z > 0, z, 0.5 * (jnp.exp(z) - 1)), [800.0, 0.0], [1.0, 0.5]),
    "softplus": (
        lambda z: jnp.where(z > 30, z, jnp.log(1 + jnp.exp(z))),
        [800.0, 0.0],
        [1.0, 0.5],
    ),
    "arccosine": (lambda x: masked(jnp.abs(x) < 1, jnp.arccos(x)), [1.0, 0.0], [0.0, -1.0]),
    "arcsine": (lambda x: masked(jnp.abs(x) < 1, jnp.arcsin(x)), [-1.0, 0.0], [0.0, 1.0]),
    "arccosh": (
        lambda x: masked(x > 1, jnp.arccosh(x)),
        [1.0, 2.0],
        [0.0, 3**-0.5],
    ),
    "artanh": (lambda x: masked(jnp.abs(x) < 1, jnp.arctanh(x)), [1.0, 0.0], [0.0, 1.0]),
    "angle": (
        lambda x: masked(x != 0, jnp.arctan2(x, 2 * x**2)),
        [0.0, 1.0],
        [0.0, -0.4],
    ),
    "sine over x": (
        lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x),
        [0.0, math.pi],
        [0.0, -1 / math.pi],
    ),
    "norm": (lambda x: jnp.sqrt(jnp.sum(x**2)), [0.0, 0.0], [0.0, 0.0]),
    "norm by a product": (lambda x: jnp.sqrt(jnp.dot(x, x)), [0.0, 0.0], [0.0, 0.0]),
    "norm by einsum": (
        lambda x: jnp.sqrt(jnp.einsum("bi,bi->b", jnp.stack([x, x + 1]), jnp.stack([x, x + 1]))),
        [0.0, 0.0],
        [0.5**0.5, 0.5**0.5],
    ),
    "deviation": (jnp.std, [2.0, 2.0], [0.0, 0.0]),
    "distances": (
        lambda x: pairwise_distances(x[:, None]),
        [0.0, 1.0, 3.0],
        [-4.0, 0.0, 4.0],
    ),
    "root of the positive part": (
        lambda x: jnp.sqrt(jnp.maximum(x, 0.0)),
        [-1.0, 4.0],
        [0.0, 0.25],
    ),
    "root of the largest of a segment": (
        lambda x: jnp.sqrt(jax.ops.segment_max(x, jnp.array([0, 0, 1]), 2)),
        [0.0, -1.0, 4.0],
        [INF, 0.0, 0.25],
    ),
    "root of the largest": (lambda x: jnp.sqrt(jnp.max(x) - 1), [-1.0, 1.0], [0.0, INF]),
    "cosine": (
        lambda x: masked(jnp.sum(x**2) > 0, x[0] / jnp.sqrt(jnp.sum(x**2))),
        [0.0, 0.0],
        [0.0, 0.0],
    ),
    "logarithm of a product": (
        lambda x: masked(jnp.prod(x) > 0, jnp.log(jnp.prod(x))),
        [0.0, 3.0],
        [0.0, 0.0],
    ),
    "log-gamma": (
        lambda x: masked(x > 0, jax.lax.lgamma(x)),
        [0.0, 1.0],
        [0.0, -0.5772156649015329],
    ),
    "probit": (
        lambda x: masked(jnp.abs(x) < 1, jax.lax.erf_inv(x)),
        [1.0, 0.0],
        [0.0, math.sqrt(math.pi) / 2],
    ),
    # where JAX is right, and where the convention costs the limit
    "bare root": (jnp.sqrt, [0.0, 4.0], [INF, 0.25]),
    "smooth": (lambda x: jnp.tanh(x) * jnp.exp(-(x**2)), [0.0], [1.0]),
    "squared root, by convention": (lambda x: jnp.sqrt(x) ** 2, [0.0], [0.0]),
}


def total(fun):
    return lambda x: jnp.sum(fun(x))


GRADIENTS = {
    "jax reverse": lambda f: jax.grad(total(zero_safe(f))),
    "jax forward": lambda f: jax.jacfwd(total(zero_safe(f))),
    "engine": lambda f: autodiff.grad(total(f), zero_safe=True),
}


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("jax reverse", "float32"), ("jax forward", "float64"), ("engine", "float32")],
)
@pytest.mark.parametrize("name", GUARDED_FUNCTIONS)
def test_guarded_functions_have_their_true_gradients(name, mode, dtype):
    fun, point, truth = GUARDED_FUNCTIONS[name]
    with jax.enable_x64(dtype == "float64"):
        found = GRADIENTS[mode](fun)(jnp.asarray(point, dtype))
    # A handful of roundings: 16 of them, relative to the largest entry.
    size = max([1.0, *(abs(t) for t in truth if math.isfinite(t))])
    np.testing.assert_allclose(found, truth, rtol=0, atol=16 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("name", [*GUARDED_FUNCTIONS][:-3])
def test_jax_itself_gives_nan_for_the_guarded_functions(name):
    fun, point, _ = GUARDED_FUNCTIONS[name]
    assert np.isnan(jax.grad(total(fun))(jnp.asarray(point))).any()


@pytest.mark.parametrize("name", GUARDED_FUNCTIONS)
def test_values_are_kept_to_the_bit(name):
    fun, point, _ = GUARDED_FUNCTIONS[name]
    x = jnp.asarray(point)
    value, _ = jax.vjp(zero_safe(fun), x)
    for found in (zero_safe(fun)(x), value):
        assert np.asarray(found).tobytes() == np.asarray(fun(x)).tobytes()


def test_compiled_values_are_kept_to_the_bit():
    points = {name: jnp.asarray(point) for name, (_, point, _) in GUARDED_FUNCTIONS.items()}
    every = lambda change: (
        lambda points: {name: change(GUARDED_FUNCTIONS[name][0])(x) for name, x in points.items()}
    )
    plain, safe = jax.jit(every(lambda f: f))(points), jax.jit(every(zero_safe))(points)
    for name in points:
        assert np.asarray(plain[name]).tobytes() == np.asarray(safe[name]).tobytes()


# Derivatives of order 2 and 3 in closed form, at the points of the table.
HIGHER = {
    "root": ([0.0, 0.0, -1 / 32], [0.0, 0.0, 3 / 256]),
    "logarithm": ([0.0, 0.0, -0.25], [0.0, 0.0, 0.25]),
    "quotient": ([0.0, 0.25], [0.0, -0.375]),
    "elu": ([0.0, 0.5], [0.0, 0.5]),
    "entropy": ([0.0, -2.0], [0.0, 4.0]),
    "cube root": ([0.0, -1 / 144], [0.0, 5 / 3456]),
}


@pytest.mark.parametrize("engine", ["jax", "ours"])
@pytest.mark.parametrize("name", HIGHER)
def test_second_and_third_derivatives_keep_the_promise(name, engine):
    fun, point, _ = GUARDED_FUNCTIONS[name]
    safe = zero_safe(lambda x: fun(x))
    gradient = jax.grad if engine == "jax" else autodiff.grad
    for x, second, third in zip(point, *HIGHER[name], strict=True):
        np.testing.assert_allclose(gradient(gradient(safe))(x), second, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(
            jax.jit(gradient(gradient(gradient(safe))))(x), third, rtol=1e-5, atol=1e-7
        )


def test_a_zero_slope_keeps_its_own_derivative():
    # (x - 1) log(x) at 1: the cotangent of log is 0 there, but its derivative is not.
    fun = lambda x: (x - 1) * jnp.log(x)  # f'' = 1/x + 1/x^2
    for gradient in (jax.grad, autodiff.grad):
        assert float(gradient(gradient(zero_safe(fun)))(1.0)) == 2.0


root = GUARDED_FUNCTIONS["root"][0]
POINT = jnp.array([-1.0, 0.0, 4.0])
SLOPES = [0.0, 0.0, 0.25]


def test_compiled_and_batched_gradients_are_the_same():
    gradient = jax.grad(lambda x: jnp.sum(zero_safe(root)(x)))
    assert jax.jit(gradient)(POINT).tolist() == SLOPES
    batch = jnp.stack([POINT, POINT[::-1]])
    assert jax.vmap(gradient)(batch).tolist() == [SLOPES, SLOPES[::-1]]
    mapped = jax.grad(lambda batch: jnp.sum(jax.vmap(zero_safe(root))(batch)))
    assert mapped(batch).tolist() == [SLOPES, SLOPES[::-1]]
    uneven = jax.vmap(zero_safe(lambda a, b: masked(b > 0, a / b)), in_axes=(1, None))
    a, b = jnp.ones((2, 3)), jnp.array([0.0, 2.0])
    found = jax.grad(lambda b: jnp.sum(uneven(a, b)))(b)
    assert found.tolist() == [0.0, -0.75]


def test_loops_branches_and_checkpoints_are_gone_into():
    def scanned(x):
        return jax.lax.scan(lambda total, v: (total + root(v), v), 0.0, x)[0]

    def branched(x):
        return jnp.sum(jax.lax.cond(x[2] > 0, root, lambda x: x, x))

    def checkpointed(x):
        return jnp.sum(jax.checkpoint(jax.jit(root))(x))

    def switched(x):
        return jnp.sum(jax.vmap(lambda v: jax.lax.cond(v > 9, lambda v: v, root, v))(x))

    for fun in (scanned, branched, checkpointed, switched):
        assert np.isnan(jax.grad(fun)(POINT)).any()
        assert jax.grad(zero_safe(fun))(POINT).tolist() == SLOPES
        assert autodiff.grad(fun, zero_safe=True)(POINT).tolist() == SLOPES

    def looped(x):  # forward mode alone
        return jax.lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, root(s[1])), (0, x))[1]

    primals, tangents = (jnp.array([0.0, 16.0]),), (jnp.ones(2),)
    assert jax.jvp(zero_safe(looped), primals, tangents)[1].tolist() == [0.0, 1 / 32]


def test_linearization_and_transposition_work():
    _, push = jax.linearize(zero_safe(root), POINT)
    assert push(jnp.ones(3)).tolist() == SLOPES
    assert jax.linear_transpose(push, POINT)(jnp.ones(3))[0].tolist() == SLOPES
    scale = jnp.array([INF, 2.0])
    for scaled in (lambda t: scale * t, lambda t: t * scale, lambda t: t / (1 / scale)):
        (back,) = jax.linear_transpose(zero_safe(scaled), scale)(jnp.array([0.0, 3.0]))
        assert back.tolist() == [0.0, 6.0]


@pytest.mark.parametrize("check_vma", [True, False])
def test_bodies_of_shard_map_are_gone_into(check_vma):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec("data")

    def inside(x):
        return jax.lax.psum(jnp.sum(root(x)), "data")

    outer = zero_safe(
        jax.shard_map(
            inside, mesh=mesh, in_specs=spec, out_specs=PartitionSpec(), check_vma=check_vma
        )
    )
    assert jax.grad(outer)(POINT).tolist() == SLOPES
    inner = jax.shard_map(
        lambda x: jax.grad(lambda x: jnp.sum(zero_safe(root)(x)))(x),
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
        check_vma=check_vma,
    )
    assert inner(POINT).tolist() == SLOPES


def test_arrays_with_explicit_shardings_are_differentiated():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Explicit,))
    x = jax.device_put(POINT, jax.sharding.NamedSharding(mesh, PartitionSpec("data")))
    rows = PartitionSpec("data", None)
    batch = jax.device_put(POINT[None], jax.sharding.NamedSharding(mesh, rows))
    functions = {
        "scalar factor": (lambda x: root(x) * jnp.sum(x), [2.0, 2.0, 2.75]),
        "quotient": (lambda x: x / jnp.sum(x), [0.0, 0.0, 0.0]),
        "positive part": (lambda x: jnp.sqrt(jnp.maximum(x, 0.0)) * jnp.max(x), [0.0, INF, 3.0]),
    }
    for fun, truth in functions.values():
        gradient = jax.grad(total(zero_safe(fun)))
        with jax.set_mesh(mesh):
            for found in (gradient(x), jax.vmap(gradient)(batch)[0]):
                np.testing.assert_allclose(found, truth, rtol=1e-6, atol=1e-7)


def test_rules_of_the_user_are_kept():
    @jax.custom_jvp
    def odd(x):
        return jnp.sqrt(x)

    odd.defjvp(lambda primals, tangents: (jnp.sqrt(primals[0]), 7.0 * tangents[0]))
    assert float(jax.grad(zero_safe(odd))(0.0)) == 7.0
    node = autodiff.custom_node(lambda x: (jnp.sqrt(x), None), lambda _, g: 5.0 * g)
    assert float(jax.grad(zero_safe(node))(0.0)) == 5.0


def test_arguments_and_results_that_are_no_arrays_stay_what_they_are():
    def fun(x, power, label, *, table, flag=True):
        assert power == 2
        assert isinstance(table, np.ndarray)
        value = x["a"] ** power * table.sum() if flag else x["a"]
        return value, {"label": label, "power": power, "none": None}

    x = {"a": jnp.float32(3.0), "b": None}
    table = np.ones(2, np.float32)
    slope, aux = jax.grad(zero_safe(fun), has_aux=True)(x, 2, "name", table=table)
    assert float(slope["a"]) == 12.0
    assert aux == {"label": "name", "power": 2, "none": None}
    value, _ = zero_safe(fun)(x, 2, "name", table=table, flag=False)
    assert float(value) == 3.0


def test_values_that_the_function_closes_over_are_differentiated():
    gradient = jax.grad(lambda x: zero_safe(lambda: jnp.sum(root(x)))())
    assert gradient(POINT).tolist() == SLOPES
    assert jax.jit(gradient)(POINT).tolist() == SLOPES


def test_complex_numbers_are_guarded():
    fun = lambda x: masked(jnp.abs(x) > 0, jnp.abs(jnp.sqrt(jax.lax.complex(x, 0 * x))))
    found = jax.grad(lambda x: jnp.sum(zero_safe(fun)(x)))(jnp.array([0.0, 4.0]))
    np.testing.assert_allclose(found, [0.0, 0.25], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_its_dtype(dtype):
    found = jax.grad(lambda x: jnp.sum(zero_safe(root)(x)))(POINT.astype(dtype))
    assert found.dtype == dtype
    assert found.tolist() == SLOPES


SMOOTH = {
    "tanh": jnp.tanh,
    "exp": lambda x: jnp.exp(0.3 * x),
    "log": lambda x: jnp.log(2.0 + x**2),
    "sqrt": lambda x: jnp.sqrt(1.0 + x * x),
    "ratio": lambda x: x / (1.0 + jnp.square(x)),
    "power": lambda x: (1.5 + jnp.sin(x)) ** 1.7,
    "sigmoid": jax.nn.sigmoid,
    "gelu": jax.nn.gelu,
    "arctan2": lambda x: jnp.arctan2(x, 1.0 + x**2),
    "norm": lambda x: x / (1.0 + jnp.linalg.norm(x)),
    "softmax": jax.nn.softmax,
    "max": lambda x: jnp.maximum(x, 0.1) + jnp.max(x),
    "prod": lambda x: x + jnp.prod(1.0 + 0.1 * x),
    "cumprod": lambda x: jnp.cumprod(1.0 + 0.1 * x),
    "dot": lambda x: x * jnp.dot(x, jnp.cos(x)),
    "erf": jax.lax.erf,
    "reciprocal": lambda x: 1.0 / (2.0 + x**2) ** 3,
}


@hypothesis.settings(deadline=None, max_examples=5)
@hypothesis.given(
    st.lists(st.sampled_from(sorted(SMOOTH)), min_size=1, max_size=4), st.integers(0, 2**31 - 1)
)
def test_derivatives_of_smooth_functions_are_those_of_jax(names, seed):
    fun = lambda x: functools.reduce(lambda v, name: SMOOTH[name](v), names, x)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(seed), (5,), "float64")
        scalar = lambda f: lambda x: jnp.sum(jnp.sin(f(x)))
        plain, safe = scalar(fun), scalar(zero_safe(fun))
        assert float(plain(x)) == float(safe(x))
        # Some 100 roundings a function, each of which may be magnified by a slope of 10.
        tolerance = 1000 * len(names) * np.finfo("float64").eps
        direction = jnp.cos(jnp.arange(5.0))

        def derivatives(fun, x):
            slope = jax.grad(fun)(x)
            pushed = jax.jvp(fun, (x,), (direction,))[1]
            return slope, pushed, jax.jvp(jax.grad(fun), (x,), (direction,))[1]

        # One program, which XLA need not make fast: compiling is what takes the time here.
        both = jax.jit(
            lambda x: (derivatives(plain, x), derivatives(safe, x)),
            compiler_options={"xla_backend_optimization_level": 0},
        )
        for expected, found in zip(*both(x), strict=True):
            size = max(1.0, float(jnp.max(jnp.abs(expected))))
            np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


# An ordinary point for each guarded primitive: its operands and parameters.
ORDINARY = {
    **{name: ([0.3], {}) for name in ("square", "cbrt", "logistic", "tan", "sinh", "cosh", "erf")},
    **{name: ([0.3], {}) for name in ("sin", "cos", "tanh", "asin", "acos", "atan", "asinh")},
    **{name: ([0.3], {}) for name in ("atanh", "erfc", "erf_inv", "exp", "exp2", "expm1", "sqrt")},
    **{name: ([0.3], {}) for name in ("rsqrt", "log", "log1p", "lgamma", "digamma")},
    **{name: ([0.3], {}) for name in ("bessel_i0e", "bessel_i1e")},
    "acosh": ([1.3], {}),
    "abs": ([0.3 + 0.4j], {}),
    "integer_pow": ([0.3], {"y": -3}),
    "pow": ([0.3, 1.4], {}),
    **{name: ([0.3, 1.4], {}) for name in ("mul", "div", "rem", "atan2", "max", "min")},
    "igamma": ([1.3, 1.4], {}),
    "igammac": ([1.3, 1.4], {}),
    "polygamma": ([1.0, 1.4], {}),
    "regularized_incomplete_beta": ([1.3, 1.4, 0.4], {}),
    **{name: ([[0.3, 0.4]], {"axes": (0,)}) for name in ("reduce_max", "reduce_min")},
    "reduce_prod": ([[0.3, 0.4]], {"axes": (0,)}),
    "cumprod": ([[0.3, 0.4]], {"axis": 0}),
    "dot_general": ([[0.3, 0.4], [1.0, 2.0]], {}),
    **{
        f"scatter{sign}{name}": ([[0.3, 0.4], [0.6]], {})
        for name in ("max", "min")
        for sign in "-_"
    },
}
FUNCTIONS = {
    "reduce_max": lambda x, axes: jnp.max(x, axes),
    "reduce_min": lambda x, axes: jnp.min(x, axes),
    "reduce_prod": lambda x, axes: jnp.prod(x, axes),
    "regularized_incomplete_beta": jax.lax.betainc,
    "integer_pow": lambda x, y: jax.lax.integer_pow(x, y),
    "dot_general": jnp.dot,
    **{f"scatter{sign}max": lambda x, y: x.at[jnp.array([1])].max(y) for sign in "-_"},
    **{f"scatter{sign}min": lambda x, y: x.at[jnp.array([1])].min(y) for sign in "-_"},
}
# JAX has no derivative with respect to these operands.
UNDEFINED = {"polygamma": (0,), "regularized_incomplete_beta": (0, 1)}


@pytest.mark.parametrize("name", sorted(primitive.name for primitive in GUARDED))
def test_each_guarded_primitive_has_the_derivative_of_jax_and_ignores_zero_tangents(name):
    operands, params = ORDINARY[name]
    fun = functools.partial(FUNCTIONS.get(name) or getattr(jax.lax, name), **params)
    operands = [jnp.asarray(operand) for operand in operands]
    safe = zero_safe(lambda *args: fun(*args))
    for k in range(len(operands)):
        if k in UNDEFINED.get(name, ()):
            continue

        def along(f, x, k=k):
            return f(*operands[:k], x, *operands[k + 1 :])

        x = operands[k]
        one = jnp.ones_like(x)
        expected = jax.jvp(functools.partial(along, fun), (x,), (one,))
        # And a point where nothing is a number: the product of its slope with zero is zero.
        nowhere, zero = jnp.full_like(x, NAN), jnp.zeros_like(x)
        moves = (jnp.stack([x, nowhere]),), (jnp.stack([one, zero]),)
        values, pushed = jax.jvp(jax.vmap(functools.partial(along, safe)), *moves)
        np.testing.assert_allclose(values[0], expected[0], rtol=1e-6)  # vectors round otherwise
        np.testing.assert_allclose(pushed[0], expected[1], rtol=1e-6)
        assert not np.any(pushed[1])
        _, pull = jax.vjp(functools.partial(along, safe), nowhere)
        assert not np.any(pull(jnp.zeros_like(expected[0]))[0])


def test_integers_and_constant_factors_need_no_guard():
    program = jax.make_jaxpr(zero_safe(lambda x, n: 3.0 * x / 2.0 + n * n))(1.0, 2)
    assert not [e for e in program.eqns if e.primitive.name.startswith("zero_safe")]
    unchanged = jax.make_jaxpr(lambda x: jnp.sum(2.0 * x))(POINT)
    assert rewritten(unchanged) is unchanged


def test_eager_calls_share_what_jax_has_compiled():
    fun = zero_safe(lambda x: jnp.sum(jnp.where(x > 0, jax.jit(jnp.sqrt)(x), 0.0)))
    first, second = (
        [e.params["jaxpr"] for e in jax.make_jaxpr(fun)(POINT).eqns if e.primitive.name == "jit"]
        for _ in range(2)
    )
    assert [a is b for a, b in zip(first, second, strict=True)] == [True] * len(first)


def test_nothing_is_kept_of_a_function_that_is_gone():
    table = jnp.arange(3.0)
    fun = lambda x: jnp.sum(jnp.sqrt(table * x))
    watched = weakref.ref(fun)
    jax.grad(zero_safe(fun))(1.0)
    del fun
    gc.collect()
    assert watched() is None


# ---- optimizers ----------------------------------------------------------------------------------

NAN_IN_JAX = ("adam", "adamw", "lamb", "nadam", "radam", "amsgrad", "nadamw")
OTHERS = ("adagrad", "adabelief", "yogi", "rmsprop", "adadelta", "novograd", "adamax", "sgd")


@pytest.mark.parametrize("name", [*NAN_IN_JAX, *OTHERS])
def test_three_steps_of_optax_from_a_zero_gradient_match_finite_differences(name):
    # An eps of 1 keeps the third derivative moderate, so that differences can judge at all.
    options = {} if name in ("sgd", "adagrad", "adadelta", "novograd") else {"eps": 1.0}
    optimizer = getattr(optax, name)(0.1, **options)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        target = jnp.array([1.0, -2.0, 0.4])
        start = jnp.array([0.3, 0.7, 0.4])  # the third gradient is zero

        def end(w, update):
            state = optimizer.init(w)
            for _ in range(3):
                updates, state = update(2 * (w - target), state, w)
                w = optax.apply_updates(w, updates)
            return jnp.sum(w**2)

        plain = jax.jit(functools.partial(end, update=optimizer.update))
        safe = jax.jit(jax.grad(functools.partial(end, update=zero_safe(optimizer.update))))
        h = 1e-6
        shifts = h * jnp.eye(3)
        differences = [(plain(start + d) - plain(start - d)) / (2 * h) for d in shifts]
        # Truncation h times the jump of f'' at |g| = 0 (below 10) and rounding eps / h.
        np.testing.assert_allclose(safe(start), differences, rtol=0, atol=3e-5)


def test_clipped_chains_are_differentiable_at_a_zero_gradient():
    for clip in (optax.clip_by_global_norm(1.0), optax.clip_by_block_rms(1.0)):
        chain = optax.chain(clip, optax.sgd(0.1))

        def moved(g, update, chain=chain):
            return jnp.sum(update(g, chain.init(g))[0])

        zero = jnp.zeros(2)
        found = jax.grad(functools.partial(moved, update=zero_safe(chain.update)))(zero)
        np.testing.assert_allclose(found, [-0.1, -0.1], rtol=1e-6)


# ---- where it acts -------------------------------------------------------------------------------


def test_sites_name_operation_line_and_number():
    def loss(x):
        with jax.named_scope("guard"):
            return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0))

    line = loss.__code__.co_firstlineno + 2
    (site,) = autodiff.zero_products(loss)(POINT)
    assert (site.op, site.shape, site.count, site.scope) == ("sqrt", (3,), 2, "guard")
    assert site.source.startswith(f"test_zero_safe.py:{line}")
    assert autodiff.zero_products(loss)(jnp.array([1.0])) == []


def test_sites_inside_loops_are_counted_over_the_steps():
    def scanned(x):
        return jax.lax.scan(lambda total, v: (total + root(v), None), 0.0, x)[0]

    def branched(x):
        return jnp.sum(jax.lax.cond(x[2] > 0, jax.checkpoint(root), lambda x: x, x))

    def reverse(x):
        return jnp.sum(jax.lax.scan(lambda t, v: (t, root(v)), 0.0, x, reverse=True)[1])

    for fun in (scanned, branched, reverse):
        assert sum(site.count for site in autodiff.zero_products(fun)(POINT)) == 2
        assert {site.op for site in autodiff.zero_products(fun)(POINT)} == {"sqrt"}


def test_sites_of_functions_with_other_arguments():
    def fun(tree, count, *, scale):
        return jnp.sum(root(tree["w"]) * scale) * count, {"none": None}

    sites = autodiff.zero_products(fun)({"w": POINT, "none": None}, 3, scale=2.0)
    assert [site.op for site in sites] == ["sqrt"]


def test_pictures_show_where_it_acted():
    graph = autodiff.trace(zero_safe(root))(jnp.float32(0.0))
    values = graph.evaluate(jnp.float32(0.0))
    picture = autodiff.draw(graph, values, graph.backpropagate(values, jnp.float32(1.0)))
    assert picture.count("0 × ∞ = 0") == 1
    assert "zero_safe_sqrt" in picture
    assert not any(node.fallback for node in graph.nodes)
    values = graph.evaluate(jnp.float32(4.0))
    picture = autodiff.draw(graph, values, graph.backpropagate(values, jnp.float32(1.0)))
    assert "0 × ∞" not in picture


def test_strict_products_are_their_own_transposes():
    a, b = jnp.array([0.0, 2.0, INF]), jnp.array([INF, 3.0, 0.0])
    assert strict.zero_product(a, b).tolist() == [0.0, 6.0, 0.0]
    for fun in (lambda t: strict.zero_product(t, b), lambda t: strict.zero_product(b, t)):
        assert jax.linear_transpose(fun, a)(a)[0].tolist() == [0.0, 6.0, 0.0]
    quotient = lambda t: strict.zero_quotient(t, jnp.zeros(3))
    assert jax.linear_transpose(quotient, a)(a)[0].tolist() == [0.0, INF, INF]
    scalar = jax.vmap(lambda t: strict.zero_product(t, jnp.float32(2.0)))(a)
    assert scalar.tolist() == [0.0, 4.0, INF]


def test_errors_name_function_and_value():
    with pytest.raises(TypeError, match=r"zero_safe needs a function, got 3\."):
        zero_safe(3)
    with pytest.raises(TypeError, match=r"zero_safe needs a function, got None\."):
        autodiff.zero_products(None)


def test_other_jaxprs_inside_an_equation_are_exchanged():
    def fun(x):
        return jax.lax.while_loop(lambda v: v < 9.0, lambda v: 2.0 * v, jax.jit(jnp.sin)(x))

    program = jax.make_jaxpr(fun)(1.0)
    seen = []
    for eqn in program.eqns:
        assert jaxprs.with_bodies(eqn, lambda body: seen.append(body) or body) is eqn
    assert len(seen) == 3
