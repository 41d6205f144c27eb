"""The checks pass what is right, and point at what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import autodiff

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.array([0.3, -0.2])}
X = jnp.array([0.5, -1.0, 2.0])


def model(params, x):
    return jnp.tanh(params["w"] @ x + params["b"]), jnp.argmax(x)


SLOW, MODE = pytest.mark.slow, ("reverse",)


def planted(fault):
    """An identity whose derivative is too large by a part of itself."""
    return autodiff.custom_node(lambda x: (x, ()), lambda _, g: (1 + fault) * g, name="planted")


def scaled_rule(factor):
    """An identity in one of its inputs whose derivative is off by a factor."""
    return autodiff.custom_node(
        lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], factor * g * r[0]), name="scaled"
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64], ids=["f32", "f64"])
def test_right_derivatives_pass(order, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        args = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), (PARAMS, X))
        check = autodiff.check_gradients(model, args, order=order)
    assert check.ok
    assert check.error < (1e-3 if dtype == jnp.float32 else 1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("factor", [1.001, -1.0], ids=["a thousandth", "the sign"])
def test_a_wrong_derivative_is_named(mode, factor):
    node = scaled_rule(factor)
    args = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), (PARAMS, X))
    fun = lambda params, x: node(params["w"], x[None] * jnp.ones((2, 3)))
    check = autodiff.check_gradients(fun, args, modes=(mode,))
    assert (check.ok, check.worst_leaf, check.mode) == (False, "1", mode)
    assert check.direction.shape == X.shape
    assert check.error > 1e-5


@pytest.mark.usefixtures("x64")
def test_the_taylor_slope_tells_right_from_wrong():
    right = autodiff.check_gradients(lambda x: jnp.exp(x), (jnp.asarray(1.0),))
    twice = autodiff.custom_node(lambda x: (jnp.exp(x), x), lambda x, g: 2 * jnp.exp(x) * g)
    wrong = autodiff.check_gradients(twice, (jnp.asarray(1.0),))
    assert abs(right.slope - 2) < 0.05
    assert abs(wrong.slope - 1) < 0.05


def test_second_order_errors_show_at_order_two():
    """A node whose derivative is right but whose backward does not know its own derivative."""
    frozen = autodiff.custom_node(
        lambda x: (x**3, x), lambda x, g: 3 * jax.lax.stop_gradient(x) ** 2 * g
    )
    assert autodiff.check_gradients(frozen, (1.5,)).ok
    assert not autodiff.check_gradients(frozen, (1.5,), order=2).ok


def test_complex_leaves_are_checked():
    z = jnp.array([1.0 + 2.0j, -0.5 + 0.3j])
    assert autodiff.check_gradients(lambda z: jnp.sin(z) * jnp.abs(z).astype(z.dtype), (z,)).ok


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="check_gradients needs order 1 or 2, got order=3"):
        autodiff.check_gradients(jnp.sin, (1.0,), order=3)
    with pytest.raises(ValueError, match="needs modes 'forward', 'reverse', got modes="):
        autodiff.check_gradients(jnp.sin, (1.0,), modes=("sideways",))
    with pytest.raises(ValueError, match="needs a floating argument, got none"):
        autodiff.check_gradients(lambda n: n * 1.0, (1,))


# Functions of one argument at a point without a derivative.
NO_DERIVATIVE = {
    "abs": (jnp.abs, 0.0),
    "relu": (jax.nn.relu, jnp.array([0.0, 1.0])),
    "max of a tie": (jnp.max, jnp.array([1.0, 1.0, 0.0])),
    "sort of a tie": (jnp.sort, jnp.array([1.0, 1.0, 0.0])),
    "norm": (jnp.linalg.norm, jnp.zeros(3)),
    "root": (jnp.sqrt, 0.0),
    "cube root": (jnp.cbrt, 0.0),
    "jump": (jnp.floor, jnp.array([2.0, 1.5])),
    "end of the domain": (lambda x: x * jnp.log(x), 0.0),
}


@pytest.mark.parametrize("name", NO_DERIVATIVE)
def test_kinks_ties_and_jumps_are_neither_right_nor_wrong(name):
    fun, x = NO_DERIVATIVE[name]
    check = autodiff.check_gradients(fun, (x,))
    assert (check.ok, check.verdict) == (False, "not differentiable here")


# Functions whose leaves influence the result very differently, and the fault in one.
UNEVEN = {
    "a millionth of the value": lambda node, p: jnp.sum(p["a"]) * 1e6 + jnp.sum(node(p["b"])),
    "in a small output": lambda node, p: (jnp.exp(p["a"]) * 1e8, jnp.sin(node(p["b"])) * 1e-8),
    "behind a large constant": lambda node, p: 1e9 + jnp.tanh(node(p["b"])) * p["a"],
    "scaled inside": lambda node, p: jnp.tanh(1e-3 * node(1e6 * p["b"])) + p["a"],
}


@pytest.mark.parametrize("name", UNEVEN)
def test_a_fault_in_a_leaf_of_small_share_is_named(name):
    args = ({"a": jnp.array([0.7, -1.2]), "b": jnp.array([3e-3, 5e-3])},)
    check = lambda node: autodiff.check_gradients(lambda p: UNEVEN[name](node, p), args)
    assert check(lambda x: x).ok
    wrong = check(planted(0.05))
    assert (wrong.verdict, wrong.worst_leaf) == ("wrong", "0/b")
    assert abs(wrong.error - 0.05 / 1.05) < 1e-3  # relative to the larger of the two


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(3000, jnp.float32), (4096, jnp.float32), (4096, jnp.bfloat16), (1_000_000, jnp.float32)],
)
def test_faults_are_seen_in_arrays_of_any_size(size, dtype):
    x = jax.random.normal(jax.random.key(0), (size,)).astype(dtype)
    wrong = autodiff.custom_node(
        lambda x: (jnp.tanh(x), x), lambda x, g: -g * (1 - jnp.tanh(x) ** 2)
    )
    check = lambda f: autodiff.check_gradients(lambda x: jnp.sum(f(x) * x), (x,), modes=MODE)
    assert check(jnp.tanh).ok
    assert check(wrong).verdict == "wrong"
    if size < 10_000:
        assert autodiff.check_gradients(wrong, (x,), modes=MODE).verdict == "wrong"


def test_what_rounding_hides_is_inconclusive():
    """A host function of float32 moves in steps of 0.06, the leaf's share is 1e-4 of a unit."""
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    host = jax.custom_jvp(lambda x: jax.pure_callback(lambda v: np.sin(v) + 1e6, shape, x))
    host.defjvp(lambda x, t: (host(*x), jnp.cos(x[0]) * t[0]))
    check = autodiff.check_gradients(lambda x: host(x) * 1.0, (jnp.float32(1e-4),))
    assert (check.ok, check.verdict) == (False, "inconclusive")
    assert check.uncertainty > 0.05


def test_a_derivative_that_overflows_at_its_own_precision_is_wrong():
    """exp(100) fits into float64 and not into float32: infinity times zero, backwards only."""
    elu = lambda z: jnp.where(z > 0, z, jnp.exp(z) - 1)
    check = autodiff.check_gradients(elu, (100.0,))
    assert (check.verdict, check.mode, check.error) == ("wrong", "reverse", np.inf)
    assert autodiff.check_gradients(elu, (80.0,)).ok
    assert autodiff.check_gradients(autodiff.elu, (100.0,)).ok


def test_derivatives_that_are_zero_pass():
    x = jnp.array([0.5, -1.0, 2.0, 0.3])
    centred = lambda b, x: (x + b - jnp.mean(x + b)) ** 2
    assert autodiff.check_gradients(centred, (0.0, x)).ok
    assert autodiff.check_gradients(lambda x: jnp.sum(jax.nn.softmax(x)), (x,)).ok
    assert autodiff.check_gradients(lambda p: p["used"] ** 2, ({"used": 0.0, "unused": 3.0},)).ok


def test_odd_arguments_pass():
    key, empty = jax.random.key(0), jnp.zeros((0, 3))
    fun = lambda key, n, x, e: n * x * jax.random.normal(key, (3,)) + jnp.sum(e)
    assert autodiff.check_gradients(fun, (key, 3.0, jnp.zeros(3), empty)).ok
    assert autodiff.check_gradients(lambda n, x: (x**n, n), (3, {"x": 2.0, "none": None}["x"])).ok
    masked = lambda x, mask: jax.nn.softmax(x + mask)
    assert autodiff.check_gradients(masked, (X, jnp.array([0.0, 0.0, -jnp.inf]))).ok


SOFT = jnp.tanh, jax.nn.gelu, jax.nn.softplus, jnp.sin, jax.nn.sigmoid
ACTIVATIONS = (*SOFT, jax.nn.leaky_relu)  # none that may be 0 for all, with no derivative to find


def random_program(seed, dtype, fault=None):
    """A network or a closed form with leaves of 1e-6 to 1e6 and inner factors of 1e-3 to 1e3.

    Returns the function, its arguments, and the name of the leaf whose derivative has the fault.
    """
    rng = np.random.default_rng(seed)
    activation = ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
    scale = lambda: 10.0 ** rng.uniform(-6, 6)
    sizes, factors = [scale(), scale()], 10.0 ** rng.uniform(-3, 3, 2)
    args = {
        "w": rng.normal(size=(3, 4)) * sizes[0],
        "b": rng.normal(size=4),
        "v": rng.normal(size=(4, 2)) * sizes[1],
    }
    chosen = sorted(args)[rng.integers(3)]
    x = jnp.asarray(rng.normal(size=(5, 3)), dtype)
    constant = lambda value: jnp.asarray(value, dtype)
    node = planted(fault) if fault else lambda v: v

    def network(p):
        p = {name: node(v) if name == chosen else v for name, v in p.items()}
        hidden = activation(x @ (p["w"] * constant(min(factors[0], 30) / sizes[0])) + p["b"])
        return jnp.mean((hidden @ (p["v"] * constant(factors[1] / sizes[1]))) ** 2)

    def closed_form(p):
        p = {name: node(v) if name == chosen else v for name, v in p.items()}
        hidden = jnp.sin(p["w"] * constant(factors[0] / sizes[0]))
        inner = jnp.cos(p["v"] * constant(factors[1] / sizes[1]))
        return {"y": hidden @ inner, "z": jnp.sum(jnp.arctan(p["b"])) * jnp.sum(hidden)}

    fun = network if seed % 2 else closed_form
    return fun, ({name: jnp.asarray(v, dtype) for name, v in args.items()},), f"0/{chosen}"


def examine(seed, dtype, fault=None, **options):
    with jax.enable_x64(dtype == jnp.float64):
        fun, args, leaf = random_program(seed, dtype, fault)
        return autodiff.check_gradients(fun, args, **options), leaf


@pytest.mark.parametrize("seed", [*range(2), *(pytest.param(s, marks=SLOW) for s in range(2, 20))])
def test_verdicts_on_programs_of_any_scale(seed):
    for dtype, fault in ((jnp.float32, 0.05), (jnp.float64, 0.01)):
        assert examine(seed, dtype, modes=MODE)[0].verdict == "right"
        check, leaf = examine(seed, dtype, fault, modes=MODE)
        assert (check.verdict, check.worst_leaf) == ("wrong", leaf)


# Sums of leaves whose shares are far below the rounding of the whole, in float64 too.
LOST = {
    "sum of squares": lambda p, q: jnp.sum(p**2) + jnp.sum(q**2),
    "sine of a sum": lambda p, q: jnp.sin(p[0] + jnp.sum(q)),
    "product of a sum": lambda p, q: jnp.tanh(1e-6 * (p + q)) @ p,
}


@pytest.mark.parametrize("name", LOST)
def test_a_leaf_below_the_rounding_of_the_value_is_judged_too(name):
    node, args = planted(0.05), (jnp.array([1e6, 2e6]), jnp.array([1e-6, 3e-6]))
    assert autodiff.check_gradients(LOST[name], args, modes=MODE).ok
    check = autodiff.check_gradients(lambda p, q: LOST[name](p, node(q)), args, modes=MODE)
    assert (check.verdict, check.worst_leaf) == ("wrong", "1")
