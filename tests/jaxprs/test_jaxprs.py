"""Reading jaxprs, on whichever version of JAX is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut import jaxprs


def last(fun, *args):
    return jaxprs.open_jaxpr(jax.make_jaxpr(fun)(*args)).eqns[-1]


def rnn(weight, start, xs):
    def step(state, x):
        count, h = state
        return (count + 1, jnp.tanh(weight * h + x)), (h, count)

    return jax.lax.scan(step, (0, start), xs)


@jax.custom_vjp
def product(x, y):
    return x * y


product.defvjp(lambda x, y: (x * y, (x, y)), lambda r, g: (g * r[1], g * r[0]))

X = jnp.ones(3)
CALLS = {
    "jit": (jax.jit(jnp.sin), (X,)),
    "remat": (jax.checkpoint(jnp.sin), (X,)),
    "custom_jvp": (jax.nn.relu, (X,)),
    "custom_vjp": (product, (X, X)),
    "scan": (rnn, (2.0, 1.0, X)),
    "while": (lambda x: jax.lax.while_loop(lambda v: v < 9, lambda v: v * x, x), (1.5,)),
    "cond": (lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), (1.5,)),
    "primitive": (jnp.sin, (X,)),
    "call": (
        lambda x: jax.lax.custom_linear_solve(
            lambda v: 2 * v, x, lambda _, b: b / 2, lambda _, b: b
        ),
        (X,),
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_each_kind_of_call_is_recognised(kind):
    fun, args = CALLS[kind]
    assert jaxprs.kind_of_call(last(fun, *args)) == kind


@pytest.mark.parametrize("kind", CALLS)
def test_sub_jaxprs_are_wired_to_operands_of_the_same_type(kind):
    fun, args = CALLS[kind]
    eqn = last(fun, *args)
    subs = jaxprs.sub_jaxprs(eqn)
    assert bool(subs) == (kind != "primitive")
    for sub in subs:
        if sub.inputs is None:
            continue
        inside = jaxprs.open_jaxpr(sub.jaxpr).invars
        for var, position in zip(inside, sub.inputs, strict=True):
            outer = eqn.invars[position].aval
            assert outer.dtype == var.aval.dtype
            assert outer.shape[len(outer.shape) - len(var.aval.shape) :] == var.aval.shape


def test_scan_is_split_into_constants_carry_and_xs():
    eqn = last(rnn, 2.0, 1.0, X)
    parts = jaxprs.scan_parts(eqn)
    assert (parts.num_consts, parts.num_carry, parts.length, parts.reverse) == (1, 2, 3, False)
    consts, carry, xs = parts.split_inputs([v.aval.shape for v in eqn.invars])
    assert (consts, carry, xs) == ([()], [(), ()], [(3,)])
    carry, ys = parts.split_outputs([v.aval.shape for v in eqn.outvars])
    assert (carry, ys) == ([(), ()], [(3,), (3,)])


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_without_carry_or_without_xs_is_split(reverse):
    def mapped(w, xs):
        return jax.lax.scan(lambda c, x: (c, w * x), None, xs, reverse=reverse)[1]

    def repeated(w):
        return jax.lax.scan(lambda c, _: (c * w, None), w, None, length=4)[0]

    parts = jaxprs.scan_parts(last(mapped, 2.0, X))
    assert (parts.num_consts, parts.num_carry, parts.reverse) == (1, 0, reverse)
    parts = jaxprs.scan_parts(last(repeated, 2.0))
    assert (parts.num_consts, parts.num_carry, parts.length) == (1, 1, 4)


def test_while_is_split_into_its_two_constants_and_the_carry():
    def fun(x, limit, factor):
        return jax.lax.while_loop(lambda v: v < limit, lambda v: v * factor + factor, x)

    eqn = last(fun, 1.0, jnp.float32(9), jnp.float32(2))
    parts = jaxprs.while_parts(eqn)
    split = parts.split(tuple(range(len(eqn.invars))))
    assert [len(part) for part in split] == [1, 1, 1]
    condition, body = jaxprs.sub_jaxprs(eqn)
    assert condition.inputs == (0, 2)
    assert body.inputs == (1, 2)


def test_scopes_lose_transforms_and_formulas():
    def fun(x, w):
        with jax.named_scope("block"):
            y = jnp.einsum("ij,jk->ik", x, w)
            with jax.named_scope("head"):
                return jax.vmap(jax.named_scope("row")(jnp.sin))(y)

    program = jax.make_jaxpr(jax.vmap(fun, (0, None)))(jnp.ones((2, 3, 3)), jnp.ones((3, 3)))
    assert {jaxprs.scope(eqn) for eqn in program.eqns} >= {"block", "block/head/row"}
    assert all(set(jaxprs.scope(eqn)).isdisjoint("()>,") for eqn in program.eqns)
    assert jaxprs.scope(program.eqns[-1], "outer") == "outer/block/head/row"


def test_bind_repeats_an_equation_in_its_context():
    def fun(x, y):
        with jax.default_matmul_precision("highest"):
            return x @ y

    eqn = last(fun, jnp.ones((2, 2)), jnp.ones((2, 2)))
    bound = last(lambda x, y: jaxprs.bind(eqn, [x, y])[0], jnp.ones((2, 2)), jnp.ones((2, 2)))
    assert bound.params == eqn.params
    values = [jnp.arange(4.0).reshape(2, 2), jnp.eye(2)]
    np.testing.assert_array_equal(jaxprs.bind(eqn, values)[0], values[0])


@pytest.mark.parametrize("kind", CALLS)
def test_binding_an_equation_gives_the_function_back(kind):
    fun, args = CALLS[kind]
    program = jax.make_jaxpr(fun)(*args)
    again = jaxprs.function_of(program)(*args)
    np.testing.assert_allclose(jax.tree.leaves(fun(*args))[-1], again[-1])
    eqns = jaxprs.open_jaxpr(program).eqns
    if len(eqns) == 1 and not jaxprs.constants(program):
        invars = jaxprs.open_jaxpr(program).invars
        env = dict(zip(invars, args, strict=True))
        values = [a.val if jaxprs.is_literal(a) else env[a] for a in eqns[0].invars]
        np.testing.assert_allclose(jaxprs.bind(eqns[0], values)[-1], again[-1])


def test_an_open_jaxpr_becomes_a_function():
    eqn = last(jax.checkpoint(lambda x, y: x - 2 * y), 5.0, 1.0)
    np.testing.assert_allclose(jaxprs.function_of(jaxprs.called_jaxpr(eqn))(5.0, 1.0), [3.0])


def test_literals_are_told_from_variables():
    eqn = last(lambda x: 2 * x, X)
    assert sorted(jaxprs.is_literal(atom) for atom in eqn.invars) == [False, True]


def test_called_jaxpr_refuses_a_plain_primitive():
    with pytest.raises(ValueError, match="called_jaxpr needs a call equation, got sin"):
        jaxprs.called_jaxpr(last(jnp.sin, X))


def test_calls_go_by_the_name_of_their_function():
    assert jaxprs.call_name(last(product, X, X)) == "product"
    assert jaxprs.call_name(last(jax.vmap(jax.nn.relu), X)) == "relu"


def test_remat_options_are_those_of_checkpoint():
    policy = jax.checkpoint_policies.dots_saveable
    eqn = last(jax.checkpoint(jnp.sin, policy=policy, prevent_cse=False), X)
    assert jaxprs.remat_options(eqn) == {"policy": policy, "prevent_cse": False}
