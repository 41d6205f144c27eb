"""Names and roles of sites, on each framework."""

from functools import cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from jaxopt_tut import taps
from jaxopt_tut.models import mlp

SIZES = (6, 8, 5, 3)
PARAMS = mlp.init(jax.random.key(0), SIZES)
X = jax.random.normal(jax.random.key(1), (7, 6))


class LinenMLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for width in SIZES[1:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(SIZES[-1])(x)


def plain_style():
    return mlp.apply, PARAMS


def linen_style():
    variables = {
        "params": {
            f"Dense_{k}": {name: layer[name] for name in ("kernel", "bias")}
            for k, layer in enumerate(PARAMS)
        }
    }
    return LinenMLP().apply, variables


def nnx_style():
    from jaxopt_tut.models.mlp_nnx import MLP

    model = MLP(SIZES, rngs=nnx.Rngs(0))
    for linear, layer in zip(model.layers, PARAMS, strict=True):
        linear.kernel[...], linear.bias[...] = layer["kernel"], layer["bias"]
    graph, state = nnx.split(model)
    return lambda state, x: nnx.merge(graph, state)(x), state


class EquinoxMLP(eqx.Module):
    layers: list
    activation: object = jax.nn.relu

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def equinox_style():
    def linear(layer):
        blank = eqx.nn.Linear(*layer["kernel"].shape, key=jax.random.key(0))
        return eqx.tree_at(lambda m: (m.weight, m.bias), blank, (layer["kernel"].T, layer["bias"]))

    return lambda model, x: jax.vmap(model)(x), EquinoxMLP([linear(layer) for layer in PARAMS])


STYLES = {"plain": plain_style, "linen": linen_style, "nnx": nnx_style, "equinox": equinox_style}
WEIGHTS = {
    "plain": "{}/kernel",
    "linen": "params/Dense_{}/kernel",
    "nnx": "layers/{}/kernel",
    "equinox": "layers/{}/weight",
}


def kinds(sites, *wanted):
    return [
        site for site in sites if site.kind in (wanted or ("pre_activation", "activation", "norm"))
    ]


@pytest.mark.parametrize("style", STYLES)
def test_pre_activations_go_by_the_path_of_their_weight(style):
    found = taps.sites(*STYLES[style](), X)
    names = [WEIGHTS[style].format(k) for k in range(3)]
    pre_activations = kinds(found, "pre_activation")
    assert [site.name for site in pre_activations] == names
    assert [site.param for site in pre_activations] == names
    assert [site.kind for site in kinds(found)] == ["pre_activation", "activation"] * 2 + [
        "pre_activation"
    ]
    assert [site.param for site in kinds(found, "activation")] == names[:2]
    assert {site.unit_axes for site in kinds(found)} == {(1,)}
    assert {site.batch_axes for site in kinds(found)} == {(0,)}
    assert len({site.name for site in found}) == len(found)


@pytest.mark.parametrize("style", STYLES)
def test_the_four_styles_record_the_same(style):
    fun, params = STYLES[style]()
    _, zs = mlp.apply(PARAMS, X, return_pre_activations=True)
    expected = [zs[0], jax.nn.relu(zs[0]), zs[1], jax.nn.relu(zs[1]), zs[2]]

    def loss_fn(params, x):
        return jnp.mean(fun(params, x) ** 2), None

    _, gradients, values, cotangents = eqx.filter_jit(taps.record_gradients(loss_fn))(params, X)
    # dot products of up to 8 terms, summed in another order where the weight comes first
    for value, known in zip(values.values(), expected, strict=False):
        np.testing.assert_allclose(value, known, rtol=1e-5, atol=1e-6)
    last = WEIGHTS[style].format(2)
    np.testing.assert_allclose(cotangents[last], 2 * zs[2] / zs[2].size, rtol=1e-5, atol=1e-6)
    assert len(jax.tree.leaves(gradients)) == 6


@pytest.mark.parametrize("style", STYLES)
def test_names_do_not_depend_on_the_batch(style):
    fun, params = STYLES[style]()
    one, many = (taps.sites(fun, params, x) for x in (X[:1], X))
    assert [site.name for site in kinds(one)] == [site.name for site in kinds(many)]
    assert [site.unit_axes for site in kinds(one)] == [site.unit_axes for site in kinds(many)]


def test_scopes_name_what_consumes_no_parameter():
    names = [site.name for site in kinds(taps.sites(*linen_style(), X), "activation")]
    assert names == ["LinenMLP/activation", "LinenMLP/activation#2"]
    names = [site.name for site in kinds(taps.sites(*nnx_style(), X), "activation")]
    assert names == ["layers/0/kernel/activation", "layers/1/kernel/activation"]


@pytest.mark.parametrize("style", ["plain", "nnx", "equinox"])
def test_a_model_bound_to_its_weights_is_read_through_its_closure(style):
    if style == "plain":
        found, names = taps.sites(lambda x: mlp.apply(PARAMS, x), X), None
    elif style == "nnx":
        found, names = taps.sites(nnx.merge(*nnx.split(_nnx_model())), X), WEIGHTS["nnx"]
    else:
        _, model = equinox_style()
        found, names = taps.sites(jax.vmap(model), X), WEIGHTS["equinox"]
    assert len(kinds(found, "pre_activation")) == 3
    if names is not None:
        expected = [names.format(k) for k in range(3)]
        assert [site.name for site in kinds(found, "pre_activation")] == expected


def _nnx_model():
    from jaxopt_tut.models.mlp_nnx import MLP

    return MLP(SIZES, rngs=nnx.Rngs(0))


def test_bare_weights_first_without_a_bias_keep_the_units_first():
    model = eqx.nn.Linear(4, 3, use_bias=False, key=jax.random.key(0))

    def fun(model, x):
        return jax.vmap(model, out_axes=1)(x)

    (site,) = kinds(taps.sites(fun, model, jnp.ones((5, 4))))
    assert (site.shape, site.unit_axes, site.batch_axes) == ((3, 5), (0,), (1,))


@cache
def block():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
            hidden = nn.gelu(nn.Dense(12)(nn.RMSNorm()(x)))
            return x + nn.Dense(8)(hidden)

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            embed = nn.Embed(11, 8)
            return embed.attend(Block()(embed(tokens)))

    model, tokens = Model(), jnp.zeros((3, 5), jnp.int32)
    variables = jax.eval_shape(model.init, jax.random.key(0), tokens)
    return taps.sites(model.apply, variables, tokens)


def test_layers_of_a_transformer():
    found = [(s.name.removeprefix("params/Block_0/"), s.kind, s.unit_axes) for s in kinds(block())]
    assert found == [
        ("LayerNorm_0/scale", "norm", (2,)),
        ("MultiHeadDotProductAttention_0/query/kernel", "pre_activation", (2, 3)),
        ("MultiHeadDotProductAttention_0/key/kernel", "pre_activation", (2, 3)),
        ("MultiHeadDotProductAttention_0/value/kernel", "pre_activation", (2, 3)),
        ("MultiHeadDotProductAttention_0/out/kernel", "pre_activation", (2,)),
        ("RMSNorm_0/scale", "norm", (2,)),
        ("Dense_0/kernel", "pre_activation", (2,)),
        ("Model/Block_0/activation", "activation", (2,)),
        ("Dense_1/kernel", "pre_activation", (2,)),
        ("params/Embed_0/embedding", "pre_activation", (2,)),
    ]
    assert {site.batch_axes for site in kinds(block())} == {(0,)}


def test_scopes_lose_the_formulas_of_einsum():
    assert not [site.scope for site in block() if "->" in site.scope or "," in site.scope]


def test_a_leaf_used_twice_is_numbered():
    def tied(params, x):
        return jnp.tanh(x @ params["w"]) @ params["w"].T.astype(x.dtype)

    names = [site.name for site in kinds(taps.sites(tied, {"w": jnp.ones((6, 2))}, X))]
    assert names == ["w", "w/activation", "w#2"]


def test_a_leaf_is_followed_through_casts_reshapes_and_slices():
    def fun(params, x):
        weight = params["stack"].reshape(2, 6, 4)[1, :, 1:].astype(jnp.bfloat16)
        return x.astype(jnp.bfloat16) @ weight

    (site,) = kinds(taps.sites(fun, {"stack": jnp.ones((12, 4))}, X))
    assert (site.name, site.dtype, site.shape) == ("stack", jnp.bfloat16, (7, 3))


class ConvNet(nnx.Module):
    def __init__(self, rngs, *, drops):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.bn = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Conv(4, 6, (3, 3), use_bias=False, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=not drops, rngs=rngs if drops else None)
        self.out = nnx.Linear(6 * 4 * 4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(jax.nn.relu(self.bn(self.conv(x))), (2, 2), (2, 2))
        x = self.dropout(jax.nn.gelu(self.second(x)))
        return self.out(x.reshape(x.shape[0], -1))


def conv_problem(*, drops):
    """The loss of a ConvNet, and its parameters and state as shapes."""
    model = nnx.eval_shape(lambda: ConvNet(nnx.Rngs(0), drops=drops))
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss_fn(params, rest, x):
        model = nnx.merge(graph, params, rest, copy=True)
        loss = jnp.mean(model(x) ** 2)
        return loss, nnx.state(model, nnx.BatchStat)

    return loss_fn, params, rest


CONV_LAYERS = [
    "conv/kernel",
    "bn/scale",
    "bn/scale/activation",
    "second/kernel",
    "second/kernel/activation",
    "out/kernel",
]


def test_layers_of_a_convolutional_network():
    loss_fn, params, rest = conv_problem(drops=True)
    found = kinds(taps.sites(loss_fn, params, rest, jnp.ones((5, 8, 8, 1))))
    assert [site.name for site in found] == CONV_LAYERS
    assert [site.unit_axes for site in found] == [(3,)] * 5 + [(1,)]
    assert {site.batch_axes for site in found} == {(0,)}
    # what dropout divides by 1 - rate is not the activation
    assert [site.op for site in kinds(found, "activation")] == ["custom_jvp_call", "mul"]


def test_batch_norm_and_its_state_are_recorded():
    loss_fn, *shapes = conv_problem(drops=False)
    rng = np.random.default_rng(0)
    params, rest, x = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32),
        (*shapes, jax.ShapeDtypeStruct((5, 8, 8, 1), np.float32)),
    )
    recorded = jax.jit(taps.record_gradients(loss_fn))
    (_, state), gradients, values, cotangents = recorded(params, rest, x)
    assert list(values) == CONV_LAYERS
    norm, cotangent = values["bn/scale"], cotangents["bn/scale"]
    scale, shift = params["bn"]["scale"][...], params["bn"]["bias"][...]
    axes = (0, 1, 2)
    # Normalised over the batch, up to the 1e-5 beside a variance of about 9.
    np.testing.assert_allclose(jnp.mean(norm, axes), shift, atol=1e-4)
    np.testing.assert_allclose(jnp.std(norm, axes), jnp.abs(scale), rtol=1e-4)
    # sums of 320 terms in f32
    expected = jnp.sum((norm - shift) / scale * cotangent, axes)
    size = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(gradients["bn"]["scale"][...], expected, rtol=1e-4, atol=1e-5 * size)
    np.testing.assert_allclose(
        state["bn"]["mean"][...],
        0.99 * rest["bn"]["mean"][...] + 0.01 * jnp.mean(values["conv/kernel"], axes),
        rtol=1e-4,
        atol=1e-5,
    )


def test_an_equinox_module_keeps_its_flags_and_functions():
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(6, 4, key=jax.random.key(0)),
            eqx.nn.Lambda(jax.nn.silu),
            eqx.nn.Dropout(0.5, inference=True),
            eqx.nn.LayerNorm(4),
        ]
    )

    def loss_fn(model, x):
        return jnp.mean(jax.vmap(model)(x) ** 3)

    _, gradients, values, _ = eqx.filter_jit(taps.record_gradients(loss_fn))(model, X)
    assert list(values) == [
        "layers/0/weight",
        "eqx.nn.Sequential/activation",
        "layers/3/weight",
    ]
    expected = eqx.filter_jit(eqx.filter_grad(loss_fn))(model, X).layers[0].weight
    # sums of 7 terms of order one, fused in two ways
    np.testing.assert_allclose(gradients.layers[0].weight, expected, rtol=1e-5, atol=1e-6)
    assert gradients.layers[1].fn is None


def gru(params, xs):
    class Recurrent(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.RNN(nn.GRUCell(4))(xs)

    return Recurrent().apply(params, xs) if params is not None else Recurrent()


def test_gates_of_a_scanned_cell_are_activations():
    xs = jnp.ones((3, 5, 2))
    variables = jax.eval_shape(gru(None, xs).init, jax.random.key(0), xs)
    activations = kinds(taps.sites(gru, variables, xs), "activation")
    assert [site.op for site in activations] == ["logistic", "logistic", "tanh"]
    assert {(s.shape, s.unit_axes, s.batch_axes) for s in activations} == {((5, 3, 4), (2,), (1,))}


ACTIVATIONS = {
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "softplus": jax.nn.softplus,
    "leaky relu": jax.nn.leaky_relu,
    "bare relu": lambda z: jnp.maximum(z, 0),
    "hand-written": lambda z: 0.5 * z * (1 + jnp.tanh(z + 0.04 * z**3)),
    "where": lambda z: jnp.where(z > 0, z, jnp.exp(jnp.minimum(z, 0)) - 1),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
def test_an_activation_is_one_whole_region(name, normalized):
    def fun(params, x):
        z = x @ params["w"] + params["b"]
        if normalized:
            z = (z - jnp.mean(z, -1, keepdims=True)) / jnp.sqrt(
                jnp.var(z, -1, keepdims=True) + 1e-6
            )
        h = ACTIVATIONS[name](z)
        return h @ params["v"], h

    params = {"w": jnp.ones((6, 4)), "b": jnp.arange(4.0), "v": jnp.ones((4, 2))}
    (_, h), tape = jax.jit(taps.record(fun, lambda site: site.kind == "activation"))(params, X)
    (value,) = tape.values()
    np.testing.assert_allclose(value, h, rtol=1e-6, atol=1e-6)


def test_an_optax_loss_is_no_layer():
    import optax

    def loss_fn(params, x):
        logits = mlp.apply(params, x)
        labels = jnp.zeros(len(x), jnp.int32)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    assert kinds(taps.sites(loss_fn, PARAMS, X)) == kinds(taps.sites(mlp.apply, PARAMS, X))


def test_shapes_stand_in_for_arrays():
    shapes = jax.eval_shape(lambda: (PARAMS, X))
    assert taps.sites(mlp.apply, *shapes) == taps.sites(mlp.apply, PARAMS, X)


def test_what_lies_inside_a_custom_rule_is_marked():
    inside = [site for site in taps.sites(mlp.apply, PARAMS, X) if site.blocked_by]
    assert [(site.op, site.blocked_by) for site in inside] == [("max", "relu")] * 2


def test_shard_map_keeps_its_inside_to_itself():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("data")

    def fun(w, x):
        local = jax.shard_map(
            lambda w, x: jnp.sin(x @ w), mesh=mesh, in_specs=(jax.P(), spec), out_specs=spec
        )
        return jnp.sum(local(w, x) ** 2)

    w = jnp.ones((6, 2))
    loss, gradient, values, cotangents = jax.jit(taps.record_gradients(fun, "op:shard_map"))(w, X)
    (value,), (cotangent,) = values.values(), cotangents.values()
    np.testing.assert_allclose(value, jnp.sin(X @ w), rtol=1e-6)
    np.testing.assert_allclose(cotangent, 2 * value, rtol=1e-6)
    # products and sums of 6 and 7 terms of order one
    np.testing.assert_allclose(gradient, X.T @ (cotangent * jnp.cos(X @ w)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(loss, jnp.sum(value**2), rtol=1e-6)
    with pytest.raises(ValueError, match="found no site for select='op:sin'"):
        taps.record(fun, "op:sin")(w, X)


def test_a_site_knows_the_line_of_the_code_that_makes_it():
    def network(p, x):
        h = x @ p["w"]
        h = jax.nn.relu(h)
        h = jax.jit(lambda h: 2 * h)(h)
        h, _ = jax.lax.scan(lambda h, w: (h @ w, None), h, p["s"])
        return jax.vmap(jnp.sum)(h)

    first = network.__code__.co_firstlineno
    params = {"w": jnp.ones((4, 3)), "s": jnp.ones((2, 3, 3))}
    sites = taps.sites(network, params, jnp.ones((5, 4)))
    found = {site.op: site.source for site in sites}
    lines = {"custom_jvp_call": 2, "mul": 3, "reduce_sum": 5}
    assert {op: found[op] for op in lines} == {
        op: f"test_site.py:{first + line}" for op, line in lines.items()
    }
    products = [site.source for site in sites if site.op == "dot_general"]
    assert products == [f"test_site.py:{first + 1}", f"test_site.py:{first + 4}"]


def test_a_line_that_nobody_wrote_is_not_known():
    assert [site.source for site in taps.sites(jnp.sin, X)] == [None]


def test_the_line_makes_no_difference_between_sites():
    one, other = (taps.sites(fun, X) for fun in (lambda x: jnp.sin(x),
                                                 lambda x: jnp.sin(x)))  # fmt: skip
    assert one == other
    assert one[0].source != other[0].source
    assert hash(one[0]) == hash(other[0])
