"""Every parameter of every rule, away from its default, up to order three."""

import itertools
from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.lax import GatherScatterMode as Mode

from jaxopt_tut import autodiff
from jaxopt_tut.autodiff import registry

RNG = np.random.default_rng(7)


def normal(*shape):
    return RNG.normal(size=shape)


def conv(x, kernel, *, groups=1, batch_groups=1, names=("NHWC", "HWIO", "NHWC"), **options):
    settings = {"strides": (2, 1), "padding": [(1, 2), (0, -1)], "lhs": (1, 2), "rhs": (2, 1)}
    settings |= {"precision": "highest", "wide": jnp.float64} | options
    return lax.conv_general_dilated(
        x, kernel, settings["strides"], settings["padding"], settings["lhs"], settings["rhs"],
        names, groups, batch_groups, settings["precision"], settings["wide"],
    )  # fmt: skip


PLAIN = {"strides": (1, 1), "padding": "SAME", "lhs": None, "rhs": None, "precision": None}
PLAIN |= {"wide": None}


def window(operation, start, **options):
    settings = {"size": (2, 3), "strides": (1, 2), "padding": [(1, 0), (0, 1)], "base": (2, 1)}
    settings |= {"gaps": None} | options
    return lambda x: lax.reduce_window(
        x, np.asarray(start, x.dtype), operation, settings["size"], settings["strides"],
        settings["padding"], settings["base"], settings["gaps"],
    )  # fmt: skip


def bind(name, **params):
    return lambda *args: registry.primitive_named(name).bind(*args, **params)


def selected(**params):
    return [
        bind("select_and_scatter_add", select_prim=registry.primitive_named(which), **params)
        for which in ("ge", "le")
    ]


def gather(mode, **options):
    """Windows of rows, some out of bounds where the mode allows it, of a batched operand."""
    numbers = lax.GatherDimensionNumbers((1,), (1,), (1,), (0,), (0,))
    where = np.array([[[1], [0]], [[2], [3 if mode == Mode.PROMISE_IN_BOUNDS else 9]]])
    return lambda x: lax.gather(x, where, numbers, (1, 1, 2), mode=mode, **options)


def scatter(name, mode, *, unique=False, there=((1,), (0,), (9,))):
    """Write rows; for a mode that drops or clips, some out of bounds."""
    numbers = lax.ScatterDimensionNumbers((1,), (0,), (0,))
    where = np.array(there)
    operation = getattr(lax, name)
    return lambda x, y: operation(
        x, where, y, numbers, indices_are_sorted=False, unique_indices=unique, mode=mode
    )


def triangular(left, lower, transpose, conjugate, unit):
    return lambda a, b: lax.linalg.triangular_solve(
        a + 3 * jnp.eye(3, dtype=a.dtype), b if left else b.T, left_side=left, lower=lower,
        transpose_a=transpose, conjugate_a=conjugate, unit_diagonal=unit,
    )  # fmt: skip


def eigh(**options):
    return lambda x: lax.linalg.eigh(x + x.T + jnp.diag(jnp.arange(3.0) * 4), **options)[1]


def turned(x):
    return lax.complex(x, 2 * x)


def both_ways(run, x):
    return run(x, 1, reverse=True) * run(x, 0, reverse=False)


IMAGE, KERNEL, TABLE = normal(4, 5, 4, 2), normal(2, 2, 2, 4), normal(3, 4)
IN_BOUNDS, DROP, CLIP = Mode.PROMISE_IN_BOUNDS, Mode.FILL_OR_DROP, Mode.CLIP
APART = ((1,), (0,))
SMALL = {"size": (3, 1), "strides": (2, 1), "padding": "VALID", "base": None}
CASES = {
    "conv": (lambda x, k: conv(x, k, **PLAIN), (IMAGE[:2], KERNEL)),
    "conv_everything": (conv, (IMAGE[:2], KERNEL)),
    "conv_batch_groups": (lambda x, k: conv(x, k, batch_groups=2), (IMAGE, KERNEL)),
    "conv_groups": (lambda x, k: conv(x, k, groups=2), (IMAGE, KERNEL[:, :, :1])),
    "conv_channels_first": (
        lambda x, k: conv(x, k, batch_groups=2, names=("NCHW", "OIHW", "CNHW")),
        (normal(4, 2, 5, 4), normal(4, 2, 2, 2)),
    ),
    "dot": (lax.dot, (TABLE, TABLE.T)),
    "dot_everything": (
        lambda x, y: lax.dot_general(
            x,
            y,
            (((3, 1), (0, 2)), ((0,), (3,))),
            precision="highest",
            preferred_element_type=jnp.float64,
        ),
        (normal(2, 3, 2, 4), normal(4, 2, 3, 2)),
    ),
    "max_window": (window(lax.max, -np.inf, **SMALL), (normal(5, 4),)),
    "max_window_base": (window(lax.max, -np.inf), (normal(5, 4),)),
    "min_window_base": (window(lax.min, np.inf, strides=(2, 1), padding="SAME"), (normal(5, 4),)),
    "min_window": (window(lax.min, np.inf, **SMALL | {"strides": (1, 1)}), (normal(5, 4),)),
    "sum_window": (window(lax.add, 0.0, **SMALL), (normal(5, 4),)),
    "sum_window_both": (window(lax.add, 0.0, gaps=(1, 2), padding="SAME"), (normal(5, 4),)),
    "reshape": (lambda x: x.reshape(2, 6), (TABLE,)),
    "reshape_by_columns": (lambda x: lax.reshape(x, (6, 2), (1, 0)), (TABLE,)),
    "ravel_by_columns": (lambda x: jnp.ravel(x, order="F"), (normal(2, 3, 2),)),
    "broadcast": (
        lambda x, y: lax.broadcast_in_dim(x, (2, 3, 4), (1, 2)) * lax.broadcast(y, (2, 3)),
        (normal(3, 1), normal(4)),
    ),
    "moves": (
        lambda x: (
            lax.squeeze(lax.transpose(lax.rev(x, (0, 2)), (2, 0, 1)), (1,))
            * lax.squeeze(lax.transpose(x, (2, 1, 0)), (2,))[:, ::-1]
        ),
        (normal(1, 3, 2),),
    ),
    "rev": (lambda x: lax.rev(x, (1,)), (TABLE,)),
    "concatenate": (
        lambda x, y: lax.concatenate([x, y], 1)[:2] * lax.concatenate([x, y], 0)[:2, :1],
        (TABLE, normal(3, 4)),
    ),
    "split": (lambda x: lax.split(x, (1, 2), 0)[1] * lax.split(x, (2, 2), 1)[0][:2, :1], (TABLE,)),
    "pad": (
        lambda x, y: lax.pad(x, y, [(1, 0, 2), (-1, 2, 1)]) + lax.pad(x, y, [(0, 0, 0)] * 2)[0, 0],
        (TABLE, 0.3),
    ),
    "slice": (
        lambda x: lax.slice(x, (1, 0), (3, 4), (1, 3)) * lax.slice(x, (0, 1), (2, 3)),
        (TABLE,),
    ),
    "dynamic_slice": (
        lambda x: lax.dynamic_slice(x, (2, -1), (2, 3)) * lax.dynamic_slice(x, (0, 0), (2, 1)),
        (TABLE,),
    ),
    "dynamic_update": (lambda x, y: lax.dynamic_update_slice(x, y, (2, -1)), (TABLE, normal(2, 3))),
    "sums": (
        lambda x: lax.reduce_sum(x, (0, 2)) * lax.reduce_sum(x, (1,))[:, :1],
        (normal(2, 3, 2),),
    ),
    "extrema": (
        lambda x: (
            lax.reduce_max(x, (0, 2)) * lax.reduce_min(x, (1,))[:1, 0]
            + lax.reduce_max(x, (1,))[:1, 0] * lax.reduce_min(x, (2, 0))
        ),
        (normal(2, 3, 2),),
    ),
    "products": (
        lambda x: lax.reduce_prod(x, (0, 2)) * lax.reduce_prod(x, (1,))[:1, 0],
        (normal(2, 3, 2),),
    ),
    "cumsum": (lambda x: both_ways(lax.cumsum, x), (TABLE,)),
    "cumprod": (lambda x: both_ways(lax.cumprod, x), (TABLE,)),
    "cummax": (lambda x: both_ways(lax.cummax, x), (TABLE,)),
    "cummin": (lambda x: both_ways(lax.cummin, x), (TABLE,)),
    "cumlogsumexp": (lambda x: both_ways(lax.cumlogsumexp, x), (TABLE,)),
    "sort": (
        lambda x, y: (
            lax.sort((x, y), dimension=0, is_stable=False, num_keys=2)[1]
            * lax.sort((x, y), dimension=1, num_keys=1)[1]
        ),
        (TABLE, normal(3, 4)),
    ),
    "top_k": (lambda x: lax.top_k(x, 2, axis=0)[0][:, :3] * lax.top_k(x, 3)[0][:2], (TABLE,)),
    "gather": (gather(IN_BOUNDS), (normal(2, 4, 2),)),
    "gather_fill": (gather(DROP, fill_value=2.0), (normal(2, 4, 2),)),
    "gather_clip": (gather(CLIP), (normal(2, 4, 2),)),
    "gather_sorted": (
        lambda x: x.at[np.array([0, 2])].get(
            indices_are_sorted=True, unique_indices=True, mode="fill", fill_value=1.0
        ),
        (TABLE,),
    ),
    "gather_columns": (lambda x: x[:, np.array([3, 0])], (TABLE,)),
    **{
        f"{name}_{mode.name.lower()}": (scatter(name, mode), (normal(4, 3), normal(3, 3)))
        for name in ("scatter_add", "scatter_sub")
        for mode in (CLIP, DROP)
    },
    **{
        f"{name}_drop": (scatter(name, DROP), (normal(4, 3), normal(3, 3)))
        for name in ("scatter_max", "scatter_min")
    },
    "scatter": (
        scatter("scatter", DROP, unique=True, there=(*APART, (9,))),
        (normal(4, 3), normal(3, 3)),
    ),
    "scatter_mul": (
        scatter("scatter_mul", CLIP, unique=True, there=APART),
        (normal(4, 3), normal(2, 3)),
    ),
    "scatter_in_bounds": (
        lambda x, y: (
            scatter("scatter", IN_BOUNDS, there=APART)(x, y)
            * scatter("scatter_mul", DROP, unique=True, there=APART)(x, y)
            * scatter("scatter_sub", IN_BOUNDS, unique=True, there=APART)(x, y)
            * scatter("scatter_max", CLIP, there=APART)(x, y)
            * scatter("scatter_min", IN_BOUNDS, there=APART)(x, y)
        ),
        (normal(4, 3), normal(2, 3)),
    ),
    "scatter_windows": (
        lambda x, y: (
            x.at[:, np.array([2, 0])].add(y, indices_are_sorted=False)
            * x.at[:, 1].subtract(y[:, 0])
            * x.at[1:, 2].set(y[1:, 1], unique_indices=False)
            * x.at[:, np.array([0, 2])].multiply(y, unique_indices=True, indices_are_sorted=True)
            * x.at[:, np.array([0, 2])].add(y, unique_indices=True, indices_are_sorted=True)
            * x.at[:, np.array([0, 2])].max(y, unique_indices=True, indices_are_sorted=True)
            * x.at[:, np.array([0, 2])].min(y, unique_indices=True, indices_are_sorted=True)
            * x.at[:, np.array([0, 2])].subtract(y, unique_indices=True, indices_are_sorted=True)
            * x.at[:, np.array([0, 2])].set(y, unique_indices=True, indices_are_sorted=True)
        ),
        (normal(3, 3), normal(3, 2)),
    ),
    **{
        "triangular_" + "".join("01"[flag] for flag in flags): (
            triangular(*flags),
            (normal(3, 3), normal(3, 2)),
        )
        for flags in ((1, 1, 0, 0, 0), (0, 0, 1, 1, 1), (1, 0, 1, 0, 0), (0, 1, 0, 1, 1))
    },
    "triangular_complex": (
        lambda a, b: jnp.abs(triangular(True, False, True, True, False)(turned(a), turned(b))),
        (normal(3, 3), normal(3, 2)),
    ),
    "eigh": (eigh(), (normal(3, 3),)),
    "eigh_upper": (
        eigh(lower=False, sort_eigenvalues=False, symmetrize_input=False),
        (normal(3, 3),),
    ),
    "ffts": (
        lambda x: jnp.real(jnp.fft.fftn(x, axes=(0, 1))) * jnp.imag(jnp.fft.ifft(turned(x))),
        (TABLE,),
    ),
    "real_ffts": (
        lambda x: (
            jnp.fft.irfftn(jnp.fft.rfft2(x) ** 2, s=(3, 4)) * jnp.fft.irfft(turned(x), 5)[:, :4]
        ),
        (TABLE,),
    ),
    "casts": (
        lambda x: (
            lax.reduce_precision(x, 11, 52)
            * lax.reduce_precision(x, 10, 50)
            * x.astype(jnp.complex128).real
            * jnp.conj(turned(x)).real
            * lax.conj(x).real
        ),
        (TABLE,),
    ),
    "powers": (lambda x: lax.integer_pow(x, 3) * lax.integer_pow(x, -2) * x**1, (TABLE,)),
    "accuracy": (
        lambda x: sum(
            fun(x, accuracy=lax.AccuracyMode.HIGHEST)
            for fun in (lax.exp, lax.expm1, lax.tanh, lax.logistic, lax.sin, lax.cos, lax.tan)
        ),
        (TABLE,),
    ),
    "accuracy_positive": (
        lambda x: sum(
            fun(1 + x * x, accuracy=lax.AccuracyMode.HIGHEST)
            for fun in (lax.log, lax.log1p, lax.sqrt, lax.rsqrt, lax.cbrt, lax.exp2)
        ),
        (TABLE,),
    ),
    "no_accuracy": (
        lambda x: sum(
            fun(1 + x * x)
            for fun in (
                *(lax.log, lax.log1p, lax.sqrt, lax.rsqrt, lax.cbrt, lax.exp2, lax.exp, lax.expm1),
                *(lax.tanh, lax.logistic, lax.sin, lax.cos, lax.tan),
            )
        ),
        (TABLE,),
    ),
    "choices": (
        lambda x, y: (
            lax.select_n(np.array([[0, 2, 1, 1]] * 3), x, y, x * y) * lax.clamp(-0.5, x, y * y)
        ),
        (TABLE, normal(3, 4)),
    ),
    "selected_sums": (
        lambda x, y: sum(
            one(y, x) * two(y, x)
            for one, two in itertools.product(
                selected(window_dimensions=(2, 2), window_strides=(2, 2), padding=((0, 0),) * 2),
                selected(window_dimensions=(3, 2), window_strides=(2, 3), padding=((1, 0), (0, 1))),
            )
        ),
        (normal(4, 4), normal(2, 2)),
    ),
}
FAST = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here


def orders(engine, fun, args, directions):
    """Reverse mode three times; and forward over forward over reverse."""
    weights = np.random.default_rng(0).normal(size=jax.eval_shape(fun, *args).shape)
    total = lambda *x: jnp.sum(weights * jnp.sin(fun(*x)))
    places = tuple(range(len(args)))

    def along(gradient):
        return lambda *x: sum(jnp.sum(g * d) for g, d in zip(gradient(*x), directions, strict=True))

    first = engine.grad(total, places)
    second = engine.grad(along(first), places)
    third = engine.grad(along(second), places)
    pushed = lambda *x: engine.jvp(first, x, directions)[1]
    return first(*args), second(*args), third(*args), engine.jvp(pushed, args, directions)


SLOW = (
    *(
        "conv_",
        "scatter_windows",
        "scatter_in",
        "scatter_m",
        "cum",
        "triangular",
        "eigh",
        "products",
    ),
    *("accuracy", "no_accuracy", "selected", "extrema", "sort", "choices"),
)
NAMED = [
    pytest.param(name, marks=[pytest.mark.slow] * any(name.startswith(s) for s in SLOW))
    for name in CASES
]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:Using reduced precision")
def test_three_orders_equal_jax_with_every_parameter(name):
    fun, args = CASES[name]
    args = tuple(jnp.asarray(x) for x in args)
    directions = tuple(
        jnp.asarray(np.random.default_rng(k).normal(size=x.shape)) for k, x in enumerate(args)
    )
    both = lambda *x: [orders(engine, fun, x, directions) for engine in (autodiff, jax)]
    ours, theirs = jax.jit(both, compiler_options=FAST)(*args)
    scale = max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(theirs))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # Sums of at most ~1e3 products of numbers of that size, in double precision.
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.usefixtures("x64")
@pytest.mark.filterwarnings("ignore:Using reduced precision")
def test_three_orders_of_random_programs_equal_jax(seed):
    """Three of the cases, each fed with what the one before it gave."""
    rng = np.random.default_rng(seed)
    names = rng.choice(sorted(CASES), size=3, replace=False)
    mixing = rng.permutation(24)

    def program(x):
        for name in names:
            fun, args = CASES[name]
            shapes = [np.shape(arg) for arg in args]
            cuts = np.cumsum([0] + [int(np.prod(shape)) for shape in shapes])
            # A little of the table's own numbers keeps the places of extrema apart.
            fresh = [
                jnp.asarray(arg) + 0.3 * jnp.resize(jnp.roll(x[mixing], cut), shape)
                for arg, shape, cut in zip(args, shapes, cuts, strict=False)
            ]
            x = jnp.resize(jnp.sin(jnp.ravel(fun(*fresh))), (24,))
        return x

    x, direction = jnp.asarray(rng.normal(size=24)), jnp.asarray(rng.normal(size=24))
    both = lambda x: [orders(engine, program, (x,), (direction,)) for engine in (autodiff, jax)]
    ours, theirs = jax.jit(both, compiler_options=FAST)(x)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        # As above; the conditions of three programs multiply.
        np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-8 * float(np.max(np.abs(b))), err_msg=names
        )


# Layout, not mathematics; or one value in every program that JAX differentiates.
ELSEWHERE = {
    *("reduce_window_max: window_dilation", "reduce_window_min: window_dilation"),
    "scatter-mul: unique_indices",
    *("sharding", "out_sharding", "update_jaxpr", "update_consts", "weak_type", "new_dtype"),
    *("input_dtype", "subset_by_index", "algorithm", "out_dtype"),
    "top_k: is_stable",  # of JAX 0.12; the rule follows the places that come out
}


@pytest.mark.usefixtures("x64")
def test_the_cases_move_every_parameter_of_every_rule():
    seen = defaultdict(set)

    for fun, args in CASES.values():
        for step in autodiff.trace(fun)(*map(jnp.asarray, args)).program.steps:
            for name, value in step.eqn.params.items():
                seen[step.primitive, name].add(str(value))
    fixed = {
        f"{primitive}: {name}"
        for (primitive, name), values in seen.items()
        if primitive in registry.RULES
        and ELSEWHERE.isdisjoint({name, f"{primitive}: {name}"})
        and len(values) < 2
    }
    assert not fixed, "; ".join(sorted(fixed))


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("gaps", [((1, 1), (2, 3)), ((2, 1), (1, 2)), ((2, 3), (3, 2))])
@pytest.mark.usefixtures("x64")
def test_pooling_with_gaps_in_the_window_goes_to_the_first_extremum(kind, gaps):
    """JAX has no reverse mode for it; a loop over the windows has."""
    (base, window_gaps), sign = gaps, 1 if kind == "max" else -1
    strides, padding, size = (2, 1), ((1, 2), (0, 3)), (2, 2)
    x = np.random.default_rng(3).integers(0, 4, size=(5, 4)).astype(float)  # with ties
    pool = lambda x: lax.reduce_window(
        x, np.asarray(-sign * np.inf), getattr(lax, kind), size, strides, padding, base, window_gaps
    )
    cotangent = np.random.default_rng(4).normal(size=jax.eval_shape(pool, x).shape)
    expected = np.zeros_like(x)
    for (i, j), g in np.ndenumerate(cotangent):
        seen = {}
        for a, b in np.ndindex(size):
            row = i * strides[0] + a * window_gaps[0] - padding[0][0]
            column = j * strides[1] + b * window_gaps[1] - padding[1][0]
            place = row // base[0], column // base[1]
            on_grid = row % base[0] == 0 and column % base[1] == 0
            if on_grid and min(row, column) >= 0 and place[0] < 5 and place[1] < 4:
                seen.setdefault(sign * x[place], place)
        if seen:
            expected[seen[max(seen)]] += g
    pull = lambda x: autodiff.vjp(pool, x)[1](cotangent)[0]
    np.testing.assert_allclose(jax.jit(pull)(x), expected, rtol=1e-14, atol=1e-14)
    # Of a sum of squares the second derivative is twice the number of windows of each place.
    squares = lambda x: jnp.sum(jnp.where(jnp.isfinite(pool(x)), pool(x), 0.0) ** 2)
    twice = jax.jit(lambda x: autodiff.grad(lambda x: jnp.sum(autodiff.grad(squares)(x)))(x))(x)
    counts = jax.jit(lambda x: autodiff.vjp(pool, x)[1](jnp.isfinite(pool(x)).astype(float))[0])(x)
    np.testing.assert_allclose(twice, 2 * counts, rtol=1e-14)


@pytest.mark.parametrize("groups", [{}, {"groups": 2}, {"batch_groups": 2}], ids=str)
def test_a_convolution_wider_than_its_factors_keeps_their_dtypes(groups):
    depth = 1 if "groups" in groups else 2
    x = jnp.asarray(IMAGE, jnp.bfloat16)
    kernel = jnp.asarray(KERNEL[:, :, :depth], jnp.bfloat16)
    fun = lambda x, k: conv(x, k, wide=jnp.float32, precision=None, **groups)
    assert jax.eval_shape(fun, x, kernel).dtype == jnp.float32
    total = lambda engine: engine.grad(lambda *a: jnp.sum(jnp.sin(fun(*a))), (0, 1))
    ours, theirs = jax.jit(lambda: (total(autodiff)(x, kernel), total(jax)(x, kernel)))()
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype == jnp.bfloat16
        # One rounding to bfloat16 at the end, on sums whose order may differ.
        np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=2**-7, atol=2**-7)


def test_only_a_whole_eigen_decomposition_has_a_derivative():
    some = lambda x: jnp.sum(lax.linalg.eigh(x, subset_by_index=(0, 1))[1])
    with pytest.raises(NotImplementedError, match=r"eigh .* subset_by_index=\(0, 1\) of 3"):
        jax.eval_shape(autodiff.grad(some), jnp.eye(3))


def test_places_filled_in_do_not_move():
    read = lambda x: x.at[jnp.array([0, 9])].get(mode="fill", fill_value=5.0)
    _, tangent = autodiff.jvp(read, (jnp.ones(3),), (jnp.full(3, 2.0),))
    assert tangent.tolist() == [2.0, 0.0]
