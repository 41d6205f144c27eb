"""Rematerialization under every policy: the derivative is that without it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from jaxopt_tut import autodiff

OFFLOAD = {"offload_src": "device", "offload_dst": "pinned_host"}
FAST = {"xla_backend_optimization_level": 0}  # compiling is what takes the time here
MADE = jax.checkpoint_policies
POLICIES = {
    "none": None,
    "everything_saveable": MADE.everything_saveable,
    "nothing_saveable": MADE.nothing_saveable,
    "dots_saveable": MADE.dots_saveable,
    "save_only_these_names": MADE.save_only_these_names("hidden"),
    "save_only_a_name_that_is_not_there": MADE.save_only_these_names("other"),
    "save_anything_except_these_names": MADE.save_anything_except_these_names("hidden"),
    "save_any_names_but_these": MADE.save_any_names_but_these("hidden"),
    "save_from_both_policies": MADE.save_from_both_policies(
        MADE.dots_saveable, MADE.save_only_these_names("hidden")
    ),
    "save_and_offload_only_these_names": MADE.save_and_offload_only_these_names(
        names_which_can_be_saved=["hidden"], names_which_can_be_offloaded=["out"], **OFFLOAD
    ),
    "offload_dot_with_no_batch_dims": MADE.offload_dot_with_no_batch_dims(
        *("device", "pinned_host")
    ),
}


def layer(weight, x):
    hidden = checkpoint_name(jax.nn.relu(jnp.sin(x @ weight)), "hidden")
    return checkpoint_name(jnp.tanh(jax.nn.silu(hidden) @ weight), "out")


def in_a_scan(layer):
    def fun(weight, x):
        def step(x, _):
            y = layer(weight, x)
            return x + y, jnp.sum(y**2)

        last, sums = lax.scan(step, x, None, length=2)
        return last * jnp.sum(sums)

    return fun


PLACES = {
    "alone": lambda made: made(layer),
    "in_a_scan": lambda made: in_a_scan(made(layer)),
    "around_a_scan": lambda made: made(in_a_scan(layer)),
    "nested": lambda made: made(lambda w, x: made(layer)(w, jnp.sin(x)) + layer(w, x)),
}
ARGS = tuple(jnp.asarray(np.random.default_rng(k).normal(size=(3, 3)), "float32") for k in (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_changes_no_derivative(policy, place):
    made = lambda fun: jax.checkpoint(fun, policy=POLICIES[policy])
    kept = lambda w, x: jnp.sum(PLACES[place](made)(w, x))
    plain = lambda w, x: jnp.sum(PLACES[place](lambda fun: fun)(w, x))

    def derivatives(engine, fun):
        gradient = lambda *args: engine.grad(fun, (0, 1))(*args)
        return gradient(*ARGS), engine.jvp(gradient, ARGS, ARGS)[1]

    both = lambda: (derivatives(autodiff, kept), derivatives(jax, plain))
    ours, theirs = jax.jit(both, compiler_options=FAST)()
    # Tens of products of numbers near one, in single precision, in another order.
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5 * float(jnp.max(jnp.abs(b))))


@pytest.mark.parametrize("enter", [("jit",), ("jit", "remat")])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_graph_of_a_named_part_backpropagates_entered_or_not(policy, enter):
    fun = lambda w, x: jnp.sum(jax.checkpoint(layer, policy=POLICIES[policy])(w, x))
    graph = autodiff.trace(fun, enter=enter, strict=True)(*ARGS)
    assert ("remat" in {node.op.rstrip("2") for node in graph.nodes}) == ("remat" not in enter)
    adjoints = graph.backpropagate(graph.evaluate(*ARGS), jnp.float32(1))
    expected = jax.grad(lambda *args: jnp.sum(layer(*args)), (0, 1))(*ARGS)
    for index, b in zip(graph.inputs, expected, strict=True):
        np.testing.assert_allclose(adjoints[index], b, rtol=2e-5, atol=2e-5)
