"""Random programs: whatever JAX differentiates, our engine differentiates the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_tut import autodiff

UNARY = [
    jnp.sin,
    jnp.tanh,
    lambda x: jnp.exp(-(x**2)),
    lambda x: jnp.log1p(x * x),
    lambda x: jnp.sqrt(1 + x * x),
    lambda x: jax.nn.softplus(x),
    lambda x: jnp.cumsum(x, 0),
    lambda x: jnp.flip(x, -1),
    lambda x: x.T,
    lambda x: jnp.sort(x, -1),
    lambda x: jnp.concatenate([x[:1], 2 * x[1:]], 0),
    lambda x: jnp.roll(x, 1, 0),
    lambda x: jnp.pad(x, ((0, 1), (1, 0))),
    lambda x: jnp.where(x > 0.1, x * x, -x),
    lambda x: x - jnp.mean(x, -1, keepdims=True) if x.size else x,
    lambda x: jax.nn.softmax(x, -1),
    lambda x: x.reshape(-1, 1),
    lambda x: jnp.linalg.cholesky(x @ x.T + 3 * jnp.eye(len(x), dtype=x.dtype)),
]
BINARY = [
    jnp.add,
    jnp.multiply,
    lambda x, y: x / (2 + y * y),
    lambda x, y: jnp.where(x > y, x, y * x),
    jnp.arctan2,
]


HOLOMORPHIC = [0, 1, 2, 6, 7, 8, 10, 11, 12, 16]  # of UNARY: defined for complex numbers
COMPLEX = [
    *(UNARY[k] for k in HOLOMORPHIC),
    jnp.conj,
    lambda x: x * x.real.astype(x.dtype),
    lambda x: jax.lax.complex(x.imag, x.real),
]
OPERATIONS = {
    "f64": (jnp.float64, UNARY, BINARY),
    "f32": (jnp.float32, UNARY, BINARY),
    "bf16": (jnp.bfloat16, UNARY[:-1], BINARY),  # without cholesky, which has no bf16
    "complex": (jnp.complex128, COMPLEX, BINARY[:2]),
}


def program(steps, unary, binary):
    """Build a function of two matrices; each step reads values of earlier ones."""

    def fun(x, y):
        values = [x, y]
        for operation, first, second in steps:
            a, b = values[first % len(values)], values[second % len(values)]
            operation %= len(unary) + len(binary) + 1
            if operation < len(unary):
                values.append(unary[operation](a))
            elif operation < len(unary) + len(binary):
                try:
                    jnp.broadcast_shapes(a.shape, b.shape)
                except ValueError:
                    b = jnp.sum(b)
                values.append(binary[operation - len(unary)](a, b))
            else:
                values.append(a @ b if a.shape[1] == b.shape[0] else a @ a.T)
        return values[-1], sum(jnp.sum(value) for value in values)

    return fun


STEPS = st.lists(
    st.tuples(st.integers(0, len(UNARY) + len(BINARY)), st.integers(0, 9), st.integers(0, 9)),
    min_size=1,
    max_size=6,
)
SHAPES = st.tuples(st.sampled_from([0, 1, 2, 3]), st.sampled_from([1, 2, 3]))


def both_engines(kind, steps, shapes, seed):
    """Value, cotangents and tangents by both engines; the graph, and a function of its sizes."""
    dtype, unary, binary = OPERATIONS[kind]
    rng = np.random.default_rng(seed)

    def draw(shape):
        value = rng.normal(size=shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            value = value + 1j * rng.normal(size=shape)
        return jnp.asarray(value, dtype)

    x, y = map(draw, shapes)
    fun = program(steps, unary, binary)
    weights = tuple(draw(part.shape) for part in jax.eval_shape(fun, x, y))
    tangents = tuple(map(draw, shapes))
    graph = autodiff.trace(fun)(x, y)

    def derivatives(engine):
        value, pull = engine.vjp(fun, x, y)
        return value, pull(weights), engine.jvp(fun, (x, y), tangents)[1]

    def largest():
        """Find the largest value, adjoint and tangent of all nodes, or one."""
        values = graph.evaluate(x, y)
        adjoints = graph.backpropagate(values, weights)
        pushed = graph.jvp(values, tangents)
        sizes = lambda found: [jnp.max(jnp.abs(v), initial=0) for v in found if v is not None]
        return [sizes(part) for part in (values, adjoints, pushed)]

    # Both engines are to see the same numbers: no bf16 value may keep more digits in one of them.
    options = {"xla_backend_optimization_level": 0, "xla_allow_excess_precision": False}
    compiled = lambda f: jax.device_get(jax.jit(f, compiler_options=options)())
    both = compiled(lambda: (derivatives(autodiff), derivatives(jax)))
    ours, theirs = ([np.asarray(leaf) for leaf in jax.tree.leaves(part)] for part in both)
    return ours, theirs, graph, lambda: [max([1.0, *map(float, p)]) for p in compiled(largest)]


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@settings(deadline=None, max_examples=15, derandomize=True)
@given(steps=STEPS, shape=SHAPES, seed=st.integers(0, 99))
def test_random_programs_equal_jax(steps, shape, seed):
    ours, theirs, *_ = both_engines("f64", steps, (shape, shape), seed)
    scale = max([1.0, *(float(np.max(np.abs(leaf), initial=0)) for leaf in theirs)])
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["f32", "bf16", "complex"])
@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    steps=STEPS,
    shape=SHAPES,
    thin=st.sampled_from([(False, False), (True, False), (False, True)]),
    seed=st.integers(0, 99),
)
def test_random_programs_in_other_dtypes_equal_jax(kind, steps, shape, thin, seed):
    """The second matrix has an axis of length one where it is thin, so that it broadcasts."""
    other = tuple(1 if one else length for one, length in zip(thin, shape, strict=True))
    ours, theirs, graph, largest = both_engines(kind, steps, (shape, other), seed)
    values, *derivatives = largest()
    # To first order every node rounds once, by eps, what it computes: a value or an adjoint (or
    # tangent) times a local derivative, which is at most the values' size. A sum over the at
    # most `terms` elements of an array, made in another order, rounds `terms` times.
    terms = max(int(np.prod(node.shape)) for node in graph.nodes)
    eps = float(jnp.finfo(OPERATIONS[kind][0]).eps)
    atol = eps * len(graph.nodes) * max(terms, 1) * values * max(derivatives)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        wide = np.complex128 if kind == "complex" else np.float64
        np.testing.assert_allclose(a.astype(wide), b.astype(wide), rtol=0, atol=atol)
