"""Products of rounded operands, summed in single precision: values, derivatives, every form."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from jax import lax

from jaxopt_tut import autodiff, optimizers
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Aux, fit, mixed_precision, shuffled, train

FLOAT32_EPS = float(np.finfo(np.float32).eps)
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def rounded(x):
    """Round to nearest, ties to even, in bfloat16; in double precision from there on."""
    return np.asarray(jnp.asarray(x, jnp.float32).astype(jnp.bfloat16)).astype(np.float64)


def assert_sums_agree(value, expected, terms):
    """Sums of so many exact products in single precision."""
    value, expected = np.asarray(value, np.float64), np.asarray(expected)
    np.testing.assert_allclose(
        value, expected, atol=terms * FLOAT32_EPS * np.abs(expected).max(initial=0.0)
    )


PRODUCTS = {
    "ij,jk->ik": ((4, 300), (300, 5)),
    "ij,kj->ik": ((4, 30), (5, 30)),
    "ji,jk->ik": ((30, 4), (30, 5)),
    "bij,bjk->bik": ((3, 4, 30), (3, 30, 5)),
    "bhid,bhjd->bhij": ((2, 3, 4, 8), (2, 3, 5, 8)),
    "bij,jk->bik": ((3, 4, 30), (30, 5)),
    "i,i->": ((30,), (30,)),
    "ij,j->i": ((4, 30), (30,)),
    "i,j->ij": ((4,), (5,)),
    "ij,jk->ik of nothing": ((0, 3), (3, 5)),
}


@pytest.mark.parametrize("formula", PRODUCTS)
def test_products_are_those_of_rounded_operands(formula):
    x, y = (normal(*shape) for shape in PRODUCTS[formula])
    formula = formula.split(" ")[0]
    product = mixed_precision(partial(jnp.einsum, formula))
    expected = np.einsum(formula, rounded(x), rounded(y))
    for value in (product(x, y), jax.jit(product)(x, y)):
        assert value.dtype == np.float32
        assert_sums_agree(value, expected, x.size)
    g = normal(*expected.shape)
    value, pull = jax.vjp(product, jnp.asarray(x), jnp.asarray(y))
    back = pull(jnp.asarray(g))
    inputs, output = formula.split("->")
    first, second = inputs.split(",")
    assert_sums_agree(
        back[0], np.einsum(f"{output},{second}->{first}", rounded(g), rounded(y)), g.size
    )
    assert_sums_agree(
        back[1], np.einsum(f"{output},{first}->{second}", rounded(g), rounded(x)), g.size
    )
    assert [b.dtype for b in back] == [np.float32] * 2
    dx, dy = normal(*x.shape), normal(*y.shape)
    _, tangent = jax.jvp(product, (x, y), (dx, dy))
    both = np.einsum(formula, rounded(dx), rounded(y)) + np.einsum(formula, rounded(x), rounded(dy))
    assert_sums_agree(tangent, both, 2 * x.size)


def convolution(x, kernel):
    return lax.conv_general_dilated(
        x, kernel, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), rhs_dilation=(1, 2)
    )


def test_convolutions_are_those_of_rounded_operands():
    x, kernel, g = normal(2, 6, 6, 3), normal(3, 2, 3, 4), normal(2, 3, 6, 4)
    with jax.enable_x64(True):  # JAX's own in double precision, of operands rounded before
        value, pull = jax.vjp(convolution, jnp.asarray(rounded(x)), jnp.asarray(rounded(kernel)))
        expected = value, *pull(jnp.asarray(rounded(g)))
    value, pull = jax.vjp(mixed_precision(convolution), jnp.asarray(x), jnp.asarray(kernel))
    for ours, theirs in zip((value, *pull(jnp.asarray(g))), expected, strict=True):
        assert_sums_agree(ours, theirs, 2 * 3 * 6 * 4)


@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0), (1, 2)])
@pytest.mark.parametrize("order", [0, 1])
def test_vmap_is_a_loop(axes, order):
    product = mixed_precision(lambda x, y: jnp.sum(jnp.tanh(x @ y)))
    fun = product if order == 0 else jax.grad(product, argnums=(0, 1))
    x, y = normal(3, 4, 7), normal(3, 7, 5)
    move = lambda z, axis: z[0] if axis is None else np.moveaxis(z, 0, axis)
    batched = jax.jit(jax.vmap(fun, axes))(move(x, axes[0]), move(y, axes[1]))
    pick = lambda z, axis, i: z[0] if axis is None else z[i]
    alone = [fun(pick(x, axes[0], i), pick(y, axes[1], i)) for i in range(3)]
    stacked = jax.tree.map(lambda *z: jnp.stack(z), *alone)
    for ours, theirs in zip(*map(jax.tree.leaves, (batched, stacked)), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=20 * FLOAT32_EPS)


@pytest.mark.parametrize("groups", [1, 3])
def test_vmap_of_convolutions_is_a_loop(groups):
    conv = mixed_precision(
        lambda x, k: lax.conv_general_dilated(x, k, (1,), "SAME", feature_group_count=groups)
    )
    x, kernel = normal(2, 4, 3, 8), normal(2, 6, 3 // groups, 3)
    np.testing.assert_allclose(
        jax.vmap(conv)(x, kernel), np.stack([conv(*pair) for pair in zip(x, kernel, strict=True)]),
        atol=20 * FLOAT32_EPS,
    )  # fmt: skip


def loops(w, x):
    """A product in a scan, a branch, a checkpoint, a loop and a call each."""
    step = jax.checkpoint(lambda h, _: (jnp.tanh(h @ w), None))
    h, _ = lax.scan(step, x, length=2)
    h = lax.cond(jnp.sum(h) > 1e6, lambda h: h, lambda h: h @ w, h)
    h = lax.fori_loop(0, 2, lambda _, h: jax.jit(jnp.matmul)(h, w), h)
    return jnp.sum(h)


def test_products_inside_of_loops_branches_and_calls_are_rounded():
    w, x = normal(4, 4), normal(3, 4)
    h = x
    for _ in range(2):
        h = np.tanh(rounded(h) @ rounded(w)).astype(np.float32)
    for _ in range(3):
        h = (rounded(h) @ rounded(w)).astype(np.float32)
    # a rounding to single precision may tip one to half precision over, 2^-9 of a term
    np.testing.assert_allclose(mixed_precision(loops)(w, x), h.sum(), rtol=2.0**-8)
    assert float(mixed_precision(loops)(w, x)) != float(loops(w, x))
    primitives = str(jax.make_jaxpr(mixed_precision(loops))(w, x))
    assert " dot_general" not in primitives
    assert primitives.count("rounded_dot_general") == 3


def loss_fn(params, batch):
    x, y = batch
    return jnp.mean((mlp.apply(params, x)[:, 0] - y) ** 2)


X = normal(64, 6)
Y = np.sin(X[:, 0]) + X[:, 1]


def network(key=0):
    return mlp.init(jax.random.key(key), (6, 16, 1))


@pytest.mark.slow
def test_second_derivatives_are_those_of_single_precision_to_the_rounding():
    params, batch = network(), (X, Y)
    direction = jax.tree.map(lambda leaf: jnp.asarray(normal(*leaf.shape)), params)
    gradient = lambda loss: jax.grad(loss)
    hvp = lambda loss: jax.jvp(lambda p: gradient(loss)(p, batch), (params,), (direction,))[1]
    reverse = lambda loss: jax.grad(lambda p: optax.tree.vdot(gradient(loss)(p, batch), direction))(
        params
    )
    exact = jax.tree.leaves(hvp(loss_fn))
    size = max(float(jnp.abs(leaf).max()) for leaf in exact)
    for found in (hvp(mixed_precision(loss_fn)), reverse(mixed_precision(loss_fn))):
        for ours, theirs in zip(jax.tree.leaves(found), exact, strict=True):
            # three products deep, each of operands known to 2^-9, and random signs
            np.testing.assert_allclose(ours, theirs, atol=2.0**-6 * size)
            assert ours.dtype == np.float32


def test_the_library_s_own_engine_differentiates_it():
    params = network()
    ours = autodiff.grad(lambda p: mixed_precision(loss_fn)(p, (X, Y)))(params)
    theirs = jax.grad(mixed_precision(loss_fn))(params, (X, Y))
    for one, other in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_training_in_it_ends_where_single_precision_does():
    options = {"batch_size": 16, "num_epochs": 30, "key": jax.random.key(2), "progress": False}
    losses = []
    for loss in (loss_fn, mixed_precision(loss_fn)):
        result = fit(loss, network(), optimizers.adam(1e-2), (X, Y), **options)
        assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {np.dtype(np.float32)}
        assert result.history.steps["loss"].dtype == np.float32
        losses.append(result.history.train["loss"])
    assert losses[1][-1] < 0.1 * losses[1][0]
    assert losses[1][-1] < 1.2 * losses[0][-1]
    assert losses[1][-1] != losses[0][-1]


def test_a_sweep_of_trainings_is_a_loop_over_them():
    batches = shuffled((X, Y), batch_size=16, num_epochs=2, key=jax.random.key(0))
    run = lambda rate: (
        train(
            mixed_precision(loss_fn), network(), optimizers.sgd(rate), batches, num_steps=8
        ).losses
    )
    rates = jnp.array([0.01, 0.1])
    together = jax.jit(jax.vmap(run))(rates)
    alone = np.stack([jax.jit(run)(rate) for rate in rates])
    # a rounding to half precision tips over where single precision differs in its last bit
    np.testing.assert_allclose(together, alone, rtol=2.0**-7)


def test_a_loss_with_key_and_state_keeps_its_form():
    def noisy(w, batch, key, state):
        loss = jnp.mean((batch @ w + jax.random.normal(key)) ** 2)
        return loss, Aux({"root": jnp.sqrt(loss)}, state + jnp.mean(batch @ w))

    options = {"batch_size": 8, "num_epochs": 2, "key": jax.random.key(0), "progress": False}
    results = [
        fit(loss, jnp.ones(6), optimizers.sgd(0.01), X, model_state=jnp.array(0.0), **options)
        for loss in (noisy, mixed_precision(noisy))
    ]
    for one, other in zip(*(jax.tree.leaves(r.history.steps) for r in results), strict=True):
        np.testing.assert_allclose(one, other, rtol=0.05)
    assert results[1].model_state != results[0].model_state
    np.testing.assert_allclose(results[1].model_state, results[0].model_state, atol=0.05)


def test_names_of_arguments_stay():
    def keyed(params, batch, *, key, scale=1.0):
        return scale * jnp.mean((params @ batch[0]) ** 2) + 0 * jax.random.normal(key)

    options = {"batch_size": 4, "num_epochs": 1, "key": jax.random.key(0), "progress": False}
    for loss in (mixed_precision(keyed), mixed_precision(partial(keyed, scale=2.0))):
        assert fit(loss, jnp.ones(4), optimizers.sgd(0.01), (X,), **options).finite


class Net(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.out = nnx.Linear(8, 1, rngs=rngs)

    def __call__(self, x):
        return self.out(self.drop(jax.nn.relu(self.norm(self.dense(x)))))


def test_a_module_of_nnx_is_changed_as_without():
    def loss(model, x):
        return jnp.mean(model(x) ** 2)

    models = [Net(nnx.Rngs(0)) for _ in range(3)]
    expected, _ = nnx.value_and_grad(loss)(models[0], X)
    for model, found in (
        (models[1], nnx.value_and_grad(mixed_precision(loss))(models[1], X)[0]),
        (models[2], nnx.jit(mixed_precision(loss))(models[2], X)),
    ):
        np.testing.assert_allclose(found, expected, rtol=0.05)
        assert int(model.drop.rngs.count[...]) == int(models[0].drop.rngs.count[...])
        mean = models[0].norm.mean[...]
        np.testing.assert_allclose(model.norm.mean[...], mean, atol=2.0**-8 * np.abs(mean).max())
        assert np.any(model.norm.mean[...] != 0)
        model(X)  # nothing traced is left in it


def test_modules_of_linen_and_equinox_are_taken_as_they_are():
    dense = linen.Dense(3)
    variables = dense.init(jax.random.key(0), X)
    linen_loss = lambda variables, x: jnp.mean(dense.apply(variables, x) ** 2)
    model = eqx.nn.MLP(6, "scalar", 8, 1, key=jax.random.key(0))
    eqx_loss = lambda model, x: jnp.mean(jax.vmap(model)(x) ** 2)
    for loss, params, grad in (
        (linen_loss, variables, jax.grad),
        (eqx_loss, model, eqx.filter_grad),
    ):
        exact, found = grad(loss)(params, X), grad(mixed_precision(loss))(params, X)
        for one, other in zip(*map(jax.tree.leaves, (exact, found)), strict=True):
            np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())


def test_a_diagnosis_finds_the_layers():
    params = network()
    plain, mixed = (diagnose(loss, params, (X, Y)) for loss in (loss_fn, mixed_precision(loss_fn)))
    assert list(mixed.layers) == list(plain.layers) != []


def test_equal_functions_are_equal():
    assert mixed_precision(loss_fn) == mixed_precision(loss_fn, jnp.bfloat16)
    assert hash(mixed_precision(loss_fn)) == hash(mixed_precision(loss_fn, "bfloat16"))
    assert mixed_precision(loss_fn) != mixed_precision(loops)


@pytest.mark.parametrize("dtype", [np.int32, np.complex64])
def test_products_of_other_numbers_are_left_alone(dtype):
    x = (300 * normal(4, 4)).astype(dtype) + dtype(1)
    np.testing.assert_array_equal(mixed_precision(jnp.matmul)(x, x), jnp.matmul(x, x))


def test_doubles_stay_doubles_outside_of_products():
    with jax.enable_x64(True):
        x = RNG.normal(size=(4, 4))
        value = mixed_precision(lambda x: jnp.sum(jnp.sin(x @ x)))(x)
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, np.sin(rounded(x) @ rounded(x)).sum(), rtol=1e-5)


def test_halves_are_summed_in_single_precision():
    x = jnp.ones(512, jnp.bfloat16)
    value = mixed_precision(jnp.dot)(x, x)
    assert value.dtype == jnp.bfloat16
    assert float(value) == 512


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((None,), TypeError, "mixed_precision needs a function as loss_fn, got None"),
        (
            (loss_fn, "float16"),
            ValueError,
            "needs the dtype 'bfloat16', got 'float16': gradients below 6e-8 vanish in float16",
        ),
        ((loss_fn, "float32"), ValueError, "needs the dtype 'bfloat16', got 'float32'"),
        ((loss_fn, "halves"), ValueError, "needs the dtype 'bfloat16', got 'halves'"),
    ],
)
def test_bad_arguments_are_refused(args, error, message):
    with pytest.raises(error, match=message):
        mixed_precision(*args)
