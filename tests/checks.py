"""What every transform of the library promises, as checks that raise when it is broken.

Each takes a `Case` of `tests/cases.py`. `tests/test_checks.py` shows each of them a transform that
breaks the promise.
"""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import cases

NUM_STEPS = 3


def make_step(case, optimizer):
    """Return `(params, state) -> (params, state)`: one step on the loss of the table."""

    def step(params, state):
        extra_args = case.extra_args(cases.loss, params)
        updates, state = optax.with_extra_args_support(optimizer).update(
            cases.gradient(params), state, params, **extra_args
        )
        return optax.apply_updates(params, updates), state

    return step


def run(case, optimizer, params, num_steps=NUM_STEPS):
    """Take some steps in one compiled loop; return the last `(params, state)`."""
    step = make_step(case, optimizer)

    @jax.jit
    def loop(params):
        start = params, optimizer.init(params)
        return jax.lax.scan(lambda carry, _: (step(*carry), None), start, length=num_steps)[0]

    return loop(params)


def first_update(case, optimizer, params):
    """Return the first updates and the state after them."""

    @jax.jit
    def update(params):
        extra_args = case.extra_args(cases.loss, params)
        return optax.with_extra_args_support(optimizer).update(
            cases.gradient(params), optimizer.init(params), params, **extra_args
        )

    return update(params)


def assert_close(case, actual, desired):
    """Compare trees leaf by leaf, within the rounding errors that the case admits."""
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for a, d in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert (a.shape, a.dtype) == (d.shape, d.dtype)
        # relative to the largest entry: sums of terms of that size cancel
        scale = np.max(np.abs(d), initial=0.0) if jnp.issubdtype(d.dtype, jnp.inexact) else 0.0
        eps = jnp.finfo(d.dtype).eps if scale else 0.0
        atol = case.rounding * float(eps) * scale
        np.testing.assert_allclose(a, d, rtol=0, atol=atol, equal_nan=False)


def signature(tree):
    """Return what a second compilation would depend on."""
    return jax.tree.structure(tree), [
        (leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)
    ]


def check_jit_equals_eager(case):
    """The compiled loop against steps op by op."""
    params, optimizer = cases.make_params(), case.build()
    step, state, after = make_step(case, optimizer), optimizer.init(params), params
    for _ in range(NUM_STEPS):
        after, state = step(after, state)
    assert_close(case, run(case, optimizer, params), (after, state))


def check_vmap_equals_loop(case):
    """Vmap over starts and over all hyper-parameters at once."""

    def go(factor):
        options = {name: value * factor for name, value in case.hyperparameters.items()}
        return run(case, case.build(**options), factor * cases.make_weight())

    factors = jnp.array([1.0, 0.5])
    batch, alone = jax.jit(jax.vmap(go))(factors), jax.jit(go)
    for i, factor in enumerate(factors):
        assert_close(case, jax.tree.map(lambda leaf, i=i: leaf[i], batch), alone(factor))


def check_keeps_dtype_and_structure(case, dtype):
    params, optimizer = cases.make_params(dtype), case.build()
    state = jax.eval_shape(optimizer.init, params)
    updates, after = jax.eval_shape(lambda p: first_update(case, optimizer, p), params)
    assert signature(updates) == signature(params)
    assert signature(after) == signature(state)


def check_takes_traced_hyperparameters(case, dtype):
    """A float32 hyper-parameter from outside must not widen parameters of lower precision."""
    params = cases.make_params(dtype)
    options = {name: jnp.float32(value) for name, value in case.hyperparameters.items()}
    updates, _ = jax.eval_shape(lambda o: first_update(case, case.build(**o), params), options)
    assert signature(updates) == signature(params)


def check_compiles_once(case):
    params, optimizer = cases.make_weight(), case.build()
    num_traces = 0

    @jax.jit
    def step(params, state):
        nonlocal num_traces
        num_traces += 1
        return make_step(case, optimizer)(params, state)

    state = optimizer.init(params)
    for _ in range(NUM_STEPS):
        params, state = step(params, state)
    assert num_traces == 1


def check_derivatives(case):
    """Differentiate the last parameters by every hyper-parameter and by a shift of the start.

    Some gradients are exactly zero on the way; a NaN from there would show. The oracle is the
    central difference in float64 with a step h of 1e-7 or more. Its rounding error is
    eps * |score| / h < 1e-8. Its truncation error is of order (h / x)^2, except by the start, as
    Adam's g / (|g| + eps) bends at 0: there it is h / eps, times the growth of h over the steps,
    which makes 5e-6 for the `eps` in the table.
    """
    with jax.enable_x64(True):

        @jax.jit
        def score(options, shift):
            start = cases.make_weight("float64") + shift
            weight, _ = run(case, case.build(**options), start)
            return weight.ravel() @ np.cos(np.arange(weight.size))

        options = {name: jnp.float64(value) for name, value in case.hyperparameters.items()}
        differentiate = jax.grad if case.has_reverse_mode else jax.jacfwd
        by_options, by_shift = jax.jit(differentiate(score, argnums=(0, 1)))(options, 0.0)
        h = 1e-7
        expected = (score(options, h) - score(options, -h)) / (2 * h)
        np.testing.assert_allclose(by_shift, expected, rtol=1e-5, atol=1e-7, equal_nan=False)
        for name, x in options.items():
            h = 1e-6 * (abs(x) + 0.1)
            up, down = score({**options, name: x + h}, 0.0), score({**options, name: x - h}, 0.0)
            expected = (up - down) / (2 * h)
            assert abs(expected) > 1e-4, f"the score does not depend on {name}"
            np.testing.assert_allclose(
                by_options[name], expected, rtol=1e-5, atol=1e-7, equal_nan=False
            )


def check_chains(case):
    """In `optax.chain`, behind and before other parts, with extra arguments for someone else."""
    params, optimizer = cases.make_params(), case.build()
    doubled = optax.chain(optax.identity(), optimizer, optax.scale(2.0))
    for_everyone = case._replace(
        extra_args=lambda *args: {**case.extra_args(*args), "for_someone_else": 0}
    )
    updates, _ = first_update(for_everyone, doubled, params)
    plain, _ = first_update(case, optimizer, params)
    assert_close(case, updates, jax.tree.map(lambda u: 2 * u, plain))


def check_injects_hyperparameters(case):
    """In `optax.inject_hyperparams`, whose hyper-parameters are arrays in the state."""
    params = cases.make_weight()
    static = set(inspect.signature(case.make).parameters) - set(case.hyperparameters)
    injected = optax.inject_hyperparams(case.make, static)(**case.options)
    after, state = run(case, injected, params)
    assert_close(case, (after, state.inner_state), run(case, case.build(), params))
    for name, value in case.hyperparameters.items():
        np.testing.assert_allclose(state.hyperparams[name], value, rtol=1e-6)


def check_masks(case):
    """In `optax.masked`: the leaves outside of the mask keep their gradient, the others move."""
    params = {"moved": cases.make_params(), "kept": cases.make_params()}
    mask = {"moved": True, "kept": False}
    masked = optax.masked(case.build(), mask, mask_compatible_extra_args=True)
    loss_of_moved = lambda p: cases.loss(p["moved"])
    of_moved = case._replace(extra_args=lambda _, p: case.extra_args(loss_of_moved, p))
    updates, _ = first_update(of_moved, masked, params)
    assert_close(case, updates["kept"], cases.gradient(params["kept"]))
    assert_close(case, updates["moved"], first_update(case, case.build(), params["moved"])[0])


def check_accumulates(case):
    """In `optax.MultiSteps`: no update, then the one of the mean gradient."""
    params, optimizer = cases.make_weight(), optax.with_extra_args_support(case.build())
    every_second = optax.MultiSteps(optimizer, every_k_schedule=2)
    extra_args = case.extra_args(cases.loss, params)

    @jax.jit
    def two_updates(gradients, state):
        first, state = every_second.update(0.5 * gradients, state, params, **extra_args)
        return first, every_second.update(1.5 * gradients, state, params, **extra_args)[0]

    with jax.numpy_dtype_promotion("standard"):  # optax divides floats by its integer counter
        first, second = two_updates(cases.gradient(params), every_second.init(params))
    assert_close(case, first, jnp.zeros_like(params))
    assert_close(case, second, first_update(case, optimizer, params)[0])


def check_donates(case):
    """With donated buffers: the same result, and the old buffers are gone."""
    params, optimizer = cases.make_weight(), case.build()
    state = optimizer.init(params)
    expected = jax.jit(make_step(case, optimizer))(params, state)
    old = jax.tree.leaves((params, state))
    step = jax.jit(make_step(case, optimizer), donate_argnums=(0, 1), keep_unused=True)
    actual = step(params, state)
    assert_close(case, actual, expected)
    assert all(leaf.is_deleted() for leaf in old)


def check_keeps_sharding(case):
    """On several devices: what is shaped like the parameters stays where they are."""
    devices = jax.device_count()
    assert devices > 1
    mesh = jax.make_mesh((devices,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    params = jax.device_put(jnp.arange(2.0 * devices * 3).reshape(2 * devices, 3), rows)
    optimizer = case.build()
    state = optimizer.init(params)
    for _ in range(2):
        for leaf in jax.tree.leaves((params, state)):
            assert leaf.shape != params.shape or leaf.sharding.is_equivalent_to(rows, leaf.ndim)
        params, state = jax.jit(make_step(case, optimizer))(params, state)


def run_on_four_devices(code):
    """Run code in a process of its own, for the number of devices is fixed when JAX starts."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment)


def check_refuses_leaves_without_derivative(case):
    caller = case.caller or case.make.__name__
    for leaf, words in (
        (jnp.array([1, 2]), "int32"),
        (jnp.array(True), "bool"),
        (jax.random.key(0), "key<fry>"),
    ):
        message = f"^{caller} needs floating or complex parameters, got {words} at 'a/1'\\.$"
        with pytest.raises(TypeError, match=message):
            case.build().init({"a": [jnp.zeros(2), leaf]})


def check_shows_nan(case):
    """A gradient that is not a number shows in its update or in a flag `failed` of the state.

    In the update of an elementwise transform it shows at its own place alone.
    """
    params = cases.make_params()
    params["layer"] = params["layer"]._replace(bias=jnp.array([0.0, jnp.nan]))
    updates, state = first_update(case, case.build(), params)
    flags = [flag for _, flag in optax.tree.get_all_with_path(state, "failed")]
    assert any(flags) or jnp.isnan(updates["layer"].bias[1])
    if case.is_elementwise:
        assert sum(int(jnp.isnan(leaf).sum()) for leaf in jax.tree.leaves(updates)) == 1
