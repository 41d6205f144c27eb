"""`vjp`, `grad`, `jvp` and `hvp` behave as JAX's, and compose."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut import autodiff, landscape

PARAMS = {"w": jnp.linspace(-1.0, 1.0, 6).reshape(2, 3), "b": jnp.array([0.3, -0.2])}
X = jnp.array([0.5, -1.0, 2.0])


def loss(params, x):
    return jnp.sum(jax.nn.softplus(params["w"] @ x + params["b"]) ** 2)


def assert_trees_close(actual, expected, **tolerance):
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, **(tolerance or {"rtol": 1e-5})),
        actual,
        expected,
    )


def compiled(fun, *args):
    """Run a function as one program; at level 0, as compiling is what takes the time here."""
    return jax.jit(fun, compiler_options={"xla_backend_optimization_level": 0})(*args)


def test_pytrees_argnums_and_keywords():
    argnums = {"ours": (0, (0, -1)), "jax": (0, (0, 1))}
    engines = {"ours": autodiff, "jax": jax}
    found = compiled(
        lambda *args: {
            name: [engine.grad(loss, n)(*args) for n in argnums[name]]
            for name, engine in engines.items()
        },
        PARAMS,
        X,
    )
    assert_trees_close(found["ours"], found["jax"])
    scaled = lambda x, *, power: jnp.sum(x**power)
    assert_trees_close(autodiff.grad(scaled)(X, power=3), 3 * X**2)
    choose = lambda x, name: jnp.sum(getattr(jnp, name)(x))  # not an array at all
    assert_trees_close(autodiff.grad(choose)(X, "sin"), jnp.cos(X))


def test_aux_comes_back():
    fun = lambda p, x: (loss(p, x), {"norm": jnp.sum(x**2), "count": 3})
    (value, aux), slope = autodiff.value_and_grad(fun, has_aux=True)(PARAMS, X)
    assert_trees_close((value, slope), jax.value_and_grad(loss)(PARAMS, X))
    assert aux["norm"] == jnp.sum(X**2)
    slope_again, aux = autodiff.grad(fun, has_aux=True)(PARAMS, X)
    assert_trees_close(slope_again, slope)
    assert aux["count"] == 3


def test_integers_get_float0():
    fun = lambda x, n: x[n] * 2.0
    _, pull = autodiff.vjp(fun, X, 1)
    _, pull_jax = jax.vjp(fun, X, 1)
    ours, theirs = pull(1.0), pull_jax(1.0)
    assert ours[1].dtype == theirs[1].dtype == jax.dtypes.float0
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert autodiff.grad(fun, 1, allow_int=True)(X, 1).dtype == jax.dtypes.float0
    value, tangent = autodiff.jvp(lambda x: (x, jnp.argmax(x)), (X,), (X,))
    assert tangent[1].dtype == jax.dtypes.float0
    assert value[1] == 2


@pytest.mark.usefixtures("x64")
def test_four_derivatives_of_a_scalar_function():
    fun = lambda x: jnp.sin(x) * jnp.exp(-(x**2)) / (1 + jnp.cosh(x))
    ours, theirs = [fun], [fun]
    for _ in range(4):
        ours.append(autodiff.grad(ours[-1]))
        theirs.append(jax.grad(theirs[-1]))
    values = compiled(lambda x: [[f(x) for f in engine] for engine in (ours, theirs)], 0.3)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


def test_hessian_by_every_composition():
    x = jnp.array([0.3, -1.2, 0.8])
    fun = lambda x: jnp.prod(jnp.sin(x)) + jnp.sum(x**2) ** 2
    expected = compiled(jax.hessian(fun), x)
    product = lambda v: autodiff.hvp(fun, (x,), (v,))
    compositions = [
        product,
        lambda v: autodiff.grad(lambda x: autodiff.jvp(fun, (x,), (v,))[1])(x),
        lambda v: autodiff.grad(lambda x: jnp.vdot(autodiff.grad(fun)(x), v))(x),
        lambda v: jax.jvp(autodiff.grad(fun), (x,), (v,))[1],
        lambda v: autodiff.jvp(jax.grad(fun), (x,), (v,))[1],
    ]
    found = compiled(lambda basis: [jax.vmap(f)(basis) for f in compositions], jnp.eye(3))
    for hessian in found:
        np.testing.assert_allclose(hessian, expected, rtol=1e-4, atol=1e-5)


def test_the_dot_product_test_and_the_symmetry_of_the_hessian():
    keys = jax.random.split(jax.random.key(0), 4)
    u, v = (jax.tree.map(lambda x, k=k: jax.random.normal(k, x.shape), X) for k in keys[:2])
    fun = lambda x: jnp.tanh(PARAMS["w"] @ x)
    weights = jax.random.normal(keys[2], (2,))
    pushed = autodiff.jvp(fun, (X,), (v,))[1]
    pulled = autodiff.vjp(fun, X)[1](weights)[0]
    np.testing.assert_allclose(jnp.vdot(weights, pushed), jnp.vdot(pulled, v), rtol=1e-5)
    scalar = lambda x: jnp.sum(fun(x) ** 3)
    left = jnp.vdot(u, autodiff.hvp(scalar, (X,), (v,)))
    right = jnp.vdot(v, autodiff.hvp(scalar, (X,), (u,)))
    np.testing.assert_allclose(left, right, rtol=1e-4)


def test_closed_over_tracers_and_vmap_of_jit():
    def inner_gradient(scale):
        return autodiff.grad(lambda x: jnp.sum(jnp.sin(scale * x)))(X)

    scales = jnp.array([0.5, 2.0])
    expected = scales[:, None] * jnp.cos(scales[:, None] * X)
    np.testing.assert_allclose(jax.vmap(jax.jit(inner_gradient))(scales), expected, rtol=1e-5)
    by_scale = jax.jacrev(inner_gradient)(2.0)
    np.testing.assert_allclose(by_scale, jnp.cos(2 * X) - 2 * X * jnp.sin(2 * X), rtol=1e-5)


def test_a_gradient_inside_a_scan():
    fun = lambda x: jnp.sum(jnp.cosh(x))
    step = lambda x, _: (x - 0.1 * autodiff.grad(fun)(x), None)
    last = jax.jit(lambda x: jax.lax.scan(step, x, None, length=200)[0])(X)
    # Near 0 each step multiplies by 0.9: 200 of them leave less than 1e-8.
    np.testing.assert_allclose(last, 0, atol=1e-7)


def test_complex_and_holomorphic_conventions_are_those_of_jax():
    z = jnp.array(1.0 + 2.0j)
    real_valued = lambda z: jnp.abs(z) ** 2 + jnp.real(z**2)
    np.testing.assert_allclose(autodiff.grad(real_valued)(z), jax.grad(real_valued)(z), rtol=1e-6)
    ours = autodiff.grad(jnp.sin, holomorphic=True)(z)
    np.testing.assert_allclose(ours, jnp.cos(z), rtol=1e-6)


def test_low_precision_keeps_its_dtype():
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), PARAMS)
    ours = jax.jit(autodiff.grad(loss))(params, X.astype(jnp.bfloat16))
    exact = jax.grad(loss)(PARAMS, X)
    assert {leaf.dtype for leaf in jax.tree.leaves(ours)} == {jnp.dtype(jnp.bfloat16)}
    # A handful of roundings of 2^-8 each.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a, np.float32), b, rtol=8 * 2**-8),
        ours,
        exact,
    )


def test_reverse_through_a_while_loop_names_the_node_and_forward_works():
    def fun(x):
        return jax.lax.while_loop(lambda v: v < 10.0, lambda v: v * v, x)

    with pytest.raises(ValueError, match=r"loops of known length, got while at node \d"):
        autodiff.grad(fun)(1.5)
    value, tangent = autodiff.jvp(fun, (1.5,), (1.0,))
    expected = jax.jvp(fun, (1.5,), (1.0,))
    np.testing.assert_allclose((value, tangent), expected, rtol=1e-6)


def test_scan_stores_only_what_its_backward_body_reads():
    """exp's rule reads its result alone: of the four values of a step one is stacked."""

    def fun(w, xs):
        def step(total, x):
            return total + jnp.sum(jnp.exp(w + x) * 2.0), None

        return jax.lax.scan(step, 0.0, xs)[0]

    xs = jnp.ones((7, 3))
    program = jax.make_jaxpr(autodiff.grad(fun))(jnp.ones(3), xs)
    scans = [eqn for eqn in program.eqns if eqn.primitive.name == "scan"]
    assert len(scans) == 2
    stacked = [var.aval.shape for var in scans[0].outvars if len(var.aval.shape) > 1]
    assert stacked == [(7, 3)]


def test_remat_recomputes_behind_a_barrier():
    fun = jax.checkpoint(lambda x: jnp.sin(jnp.sin(x)))
    program = jax.make_jaxpr(autodiff.grad(fun))(1.0)
    names = [eqn.primitive.name for eqn in program.eqns]
    assert "optimization_barrier" in names
    assert names.index("optimization_barrier") < len(names) - names[::-1].index("sin")


SURFACES = {
    name: surface
    for name, surface in vars(landscape.surfaces).items()
    if isinstance(surface, landscape.Surface)
}


@pytest.mark.parametrize("name", SURFACES)
def test_surfaces_differentiate_as_in_jax(name):
    fun = SURFACES[name].fun
    point = SURFACES[name].start + 0.1
    ours, theirs = compiled(lambda x: (autodiff.grad(fun)(x), jax.grad(fun)(x)), point)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


ZOO = {
    **{
        name: getattr(optax, name)(0.1)
        for name in [
            *(
                "adabelief",
                "adadelta",
                "adafactor",
                "adagrad",
                "adam",
                "adamax",
                "adamaxw",
                "adamw",
            ),
            *("adan", "amsgrad", "fromage", "lamb", "lars", "lion", "nadam", "nadamw", "novograd"),
            *("optimistic_gradient_descent", "radam", "rmsprop", "rprop", "sgd", "sign_sgd", "sm3"),
            "yogi",
        ]
    },
    "nesterov": optax.sgd(0.1, momentum=0.9, nesterov=True),
    "centred": optax.rmsprop(0.1, centered=True),
    "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
}


@pytest.mark.parametrize("name", ZOO)
def test_optimizer_updates_differentiate_as_in_jax(name):
    rule = ZOO[name]

    def after_two_steps(gradient):
        state, params = rule.init(X), X
        for _ in range(2):
            updates, state = rule.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
        return jnp.sum(params**2)

    gradient = jnp.array([0.3, -0.7, 1.1])
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        ours, theirs = compiled(
            lambda g: (autodiff.grad(after_two_steps)(g), jax.grad(after_two_steps)(g)), gradient
        )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


ERRORS = {
    "scalar": (lambda: autodiff.grad(jnp.sin)(X), TypeError, r"scalar output, got shape \(3,\)"),
    "integer input": (
        lambda: autodiff.grad(lambda p: p["n"] * 1.0)({"n": 3}),
        TypeError,
        "got int32 at argument 0, 'n'",
    ),
    "integer output": (lambda: autodiff.grad(jnp.argmax)(X), TypeError, "real floating output"),
    "complex output": (
        lambda: autodiff.grad(lambda x: jnp.sum(jax.lax.complex(x, x)))(X),
        TypeError,
        "real floating output, got complex64",
    ),
    "holomorphic": (
        lambda: autodiff.grad(jnp.sum, holomorphic=True)(X),
        TypeError,
        "needs complex inputs, got float32",
    ),
    "function": (
        lambda: autodiff.grad(lambda f: f(1.0))(jnp.sin),
        TypeError,
        r"needs floating or complex inputs, got .* at argument 0, '\(root\)'",
    ),
    "argnums": (lambda: autodiff.grad(jnp.sum, 2)(X), ValueError, "below the 1 arguments, got 2"),
    "cotangent shape": (
        lambda: autodiff.vjp(jnp.sin, X)[1](jnp.ones(2)),
        ValueError,
        r"output's shape \(3,\), got \(2,\)",
    ),
    "cotangent tree": (
        lambda: autodiff.vjp(jnp.sin, X)[1]((X, X)),
        ValueError,
        "vjp needs a cotangent like",
    ),
    "tangents": (
        lambda: autodiff.jvp(jnp.sin, (X,), (jnp.ones(2),)),
        ValueError,
        "jvp needs leaves of the same shape",
    ),
    "aux": (
        lambda: autodiff.grad(jnp.sum, has_aux=True)(X),
        TypeError,
        r"returns \(value, aux\)",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_bad_input_is_named(name):
    call, kind, sentence = ERRORS[name]
    with pytest.raises(kind, match=sentence):
        call()


class Module(NamedTuple):
    """What an equinox module is to JAX: attributes, some of them functions and flags."""

    weight: jax.Array
    activation: Callable
    inference: bool
    name: str
    rate: float = 0.5


def test_functions_and_flags_of_a_module_are_held_fixed():
    module = Module(jnp.array([1.0, 2.0]), jnp.sin, True, "encoder")

    def loss(module, x):
        scale = 2.0 if module.inference and module.name == "encoder" and module.rate > 0 else 1.0
        return scale * jnp.sum(module.activation(module.weight) * x)

    x = jnp.array([3.0, 4.0])
    gradient, by_x = autodiff.grad(loss, (0, 1))(module, x)
    assert gradient[1:] == (None, None, None, None)
    np.testing.assert_allclose(gradient.weight, 2 * np.cos([1.0, 2.0]) * x, rtol=1e-6)
    np.testing.assert_allclose(by_x, 2 * np.sin([1.0, 2.0]), rtol=1e-6)
    compiled = jax.jit(lambda w: autodiff.grad(loss)(module._replace(weight=w), x).weight)
    np.testing.assert_allclose(compiled(module.weight), gradient.weight, rtol=1e-6)


NETWORKS = {
    "mlp": lambda key: equinox.nn.MLP(4, 1, 4, 2, key=key),
    "dropout": lambda key: equinox.nn.Sequential(
        [equinox.nn.Linear(4, 4, key=key), equinox.nn.Dropout(0.5, inference=True)]
    ),
    "attention": lambda key: equinox.nn.MultiheadAttention(2, 4, key=key),
    "norm": lambda key: equinox.nn.Sequential(
        [equinox.nn.LayerNorm(4), equinox.nn.Lambda(jax.nn.gelu), equinox.nn.Linear(4, 4, key=key)]
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_equinox_network_is_differentiated_as_equinox_does(name):
    network = NETWORKS[name](jax.random.key(0))

    def loss(network, x):
        out = network(x, x, x) if name == "attention" else jax.vmap(network)(x)
        return jnp.sum(out**2)

    x = jnp.array([[0.5, -1.0, 0.2, 0.4], [2.0, 0.3, -0.6, 1.0]])
    ours, theirs = autodiff.grad(loss)(network, x), equinox.filter_grad(loss)(network, x)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_python_floats_of_a_tuple_of_parameters_are_differentiated():
    class Line(NamedTuple):
        slope: float
        offset: float

    assert autodiff.grad(lambda line: line.slope * 3.0 + line.offset)(Line(2.0, 1.0)) == (3.0, 1.0)


def test_a_constant_has_zero_gradient():
    x, constant = jnp.ones(2), lambda _: 3.0
    assert autodiff.grad(constant)(x).tolist() == [0.0, 0.0]
    value, gradient = autodiff.value_and_grad(constant)(x)
    assert (value.dtype, float(value), gradient.tolist()) == (jnp.float32, 3.0, [0.0, 0.0])
    assert float(autodiff.jvp(constant, (1.0,), (1.0,))[1]) == 0.0


@pytest.mark.parametrize(
    "fun",
    [lambda x: x if x > 0 else -x, lambda x: x * float(x), lambda x: x * range(3)[x.astype(int)]],
    ids=["branch", "float", "index"],
)
def test_code_that_reads_a_value_is_told_the_way_out(fun):
    with pytest.raises(Exception, match="raced") as caught:
        autodiff.grad(fun)(2.0)
    assert "write jnp.where or jax.lax.cond for a branch" in "".join(caught.value.__notes__)


@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_an_error_on_the_way_back_leaves_no_scope_behind(run):
    @jax.custom_vjp
    def refuse(x):
        return 2 * x

    def backward(*_):
        raise RuntimeError("no derivative")

    refuse.defvjp(lambda x: (refuse(x), None), backward)

    def loss(x):
        with jax.named_scope("inside"), jax.default_matmul_precision("float32"):
            return refuse(jnp.sin(x))

    with pytest.raises(RuntimeError, match="no derivative"):
        run(autodiff.grad(loss))(1.0)
    (eqn,) = jax.make_jaxpr(jnp.sin)(1.0).eqns
    assert str(eqn.source_info.name_stack) == ""
    assert jax.config.jax_default_matmul_precision is None


@pytest.mark.parametrize("argnums", ["x", 1.5, None, (0, "x"), True, (0.0,), {0: 1}], ids=repr)
def test_what_is_no_position_of_an_argument_is_refused(argnums):
    for transform in (autodiff.grad, autodiff.value_and_grad):
        message = f"^{transform.__name__} needs argnums to be the position of an"
        with pytest.raises(TypeError, match=message):
            transform(lambda x: x**2, argnums)


def test_positions_may_be_integers_of_numpy():
    product = lambda x, y: x**2 * y
    assert float(autodiff.grad(product, np.int64(1))(3.0, 2.0)) == 9.0
    both = autodiff.grad(product, [np.int32(0), -1])(3.0, 2.0)
    assert [float(slope) for slope in both] == [12.0, 9.0]
