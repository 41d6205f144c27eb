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


def program(steps):
    """Build a function of two matrices; each step reads values of earlier ones."""

    def fun(x, y):
        values = [x, y]
        for operation, first, second in steps:
            a, b = values[first % len(values)], values[second % len(values)]
            if operation < len(UNARY):
                values.append(UNARY[operation](a))
            elif operation < len(UNARY) + len(BINARY):
                try:
                    jnp.broadcast_shapes(a.shape, b.shape)
                except ValueError:
                    b = jnp.sum(b)
                values.append(BINARY[operation - len(UNARY)](a, b))
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


@pytest.mark.usefixtures("x64")
@settings(deadline=None, max_examples=25, derandomize=True)
@given(steps=STEPS, shape=SHAPES, seed=st.integers(0, 99))
def test_random_programs_equal_jax(steps, shape, seed):
    rng = np.random.default_rng(seed)
    x, y = (jnp.asarray(rng.normal(size=shape)) for _ in range(2))
    fun = program(steps)
    out = jax.eval_shape(fun, x, y)
    weights = tuple(jnp.asarray(rng.normal(size=part.shape)) for part in out)
    tangents = tuple(jnp.asarray(rng.normal(size=shape)) for _ in range(2))

    def derivatives(engine):
        value, pull = engine.vjp(fun, x, y)
        return value, pull(weights), engine.jvp(fun, (x, y), tangents)[1]

    options = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here
    ours, theirs = jax.jit(
        lambda: (derivatives(autodiff), derivatives(jax)), compiler_options=options
    )()
    scale = max(
        [1.0, *(float(np.max(np.abs(leaf), initial=0)) for leaf in jax.tree.leaves(theirs))]
    )
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10 * scale)
