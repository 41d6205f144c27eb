"""Inputs and outputs of weights of any layout, and the factors that follow from them."""

import functools

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from jaxopt_tut.calibration import coordinate_check, mup_multipliers, width_axes
from jaxopt_tut.optimizers import adam
from jaxopt_tut.trees import named_leaves

HEADS = {  # from one width to another: number and size of heads
    "more_heads": lambda n: (n // 4, 4),
    "larger_heads": lambda n: (2, n // 2),
    "both": lambda n: {16: (4, 4), 64: (8, 8), 256: (16, 16)}[n],
}
X = jax.random.normal(jax.random.key(1), (6, 5, 4))


def attention(query, *args, **kwargs):
    """Divide scores by the size of a head (8 at the least width) instead of its root."""
    return nnx.dot_product_attention(query * (8 / query.shape[-1]) ** 0.5, *args, **kwargs)


class LinenTransformer(linen.Module):
    width: int
    num_heads: int
    use_bias: bool

    @linen.compact
    def __call__(self, x):
        h = linen.Dense(self.width, name="embed")(x)
        attend = linen.MultiHeadDotProductAttention(
            self.num_heads, use_bias=self.use_bias, name="attention"
        )
        h = h + attend(linen.LayerNorm(name="norm")(h))
        return linen.Dense(3, name="head")(h.mean(axis=1))


class NnxTransformer(nnx.Module):
    def __init__(self, width, num_heads, use_bias, rngs):
        self.embed = nnx.Linear(4, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads, width, use_bias=use_bias, decode=False, rngs=rngs, attention_fn=attention
        )
        self.head = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        h = self.embed(x)
        h = h + self.attention(self.norm(h))
        return self.head(h.mean(axis=1))


def linen_params(width, num_heads, use_bias, key):
    return LinenTransformer(width, num_heads, use_bias).init(key, X)["params"]


def nnx_params(width, num_heads, use_bias, key):
    return nnx.state(NnxTransformer(width, num_heads, use_bias, nnx.Rngs(key)), nnx.Param)


MAKERS = {"linen": linen_params, "nnx": nnx_params}


def by_name(tree):
    return {name.removesuffix("/value"): factor for name, factor in named_leaves(tree)}


# Yang, Hu et al. (2022), table 3, at four times the width: init, and rates of SGD and Adam
HIDDEN, INPUT, OUTPUT, FIXED = (1, 1, 0.25), (1, 4, 1), (0.5, 0.25, 0.25), (1, 1, 1)
TRANSFORMER = {
    "embed/kernel": INPUT,
    "embed/bias": INPUT,
    "norm/scale": INPUT,
    "norm/bias": INPUT,
    "head/kernel": OUTPUT,
    "head/bias": FIXED,
    "attention/query/kernel": HIDDEN,
    "attention/key/kernel": HIDDEN,
    "attention/value/kernel": HIDDEN,
    "attention/out/kernel": HIDDEN,
}
BIASES = {f"attention/{part}/bias": INPUT for part in ("query", "key", "value", "out")}


@pytest.mark.parametrize("use_bias", [True, False], ids=["biases", "no_biases"])
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("library", MAKERS)
def test_a_transformer_has_the_factors_of_table_3(library, heads, use_bias):
    def make(width):
        return MAKERS[library](width, HEADS[heads](width)[0], use_bias, jax.random.key(0))

    expected = TRANSFORMER | (BIASES if use_bias else {})
    found = {optimizer: mup_multipliers(make, 16, 64, optimizer=optimizer) for optimizer in
             ("sgd", "momentum", "adam")}  # fmt: skip
    for optimizer, column in (("sgd", 1), ("momentum", 1), ("adam", 2)):
        rates = by_name(found[optimizer].learning_rate)
        assert rates == {name: row[column] for name, row in expected.items()}
        assert by_name(found[optimizer].init) == {name: row[0] for name, row in expected.items()}


@pytest.mark.parametrize(
    ("heads", "query", "out"),
    [
        ("more_heads", (0, 1), (0, 2)),
        ("larger_heads", (0, 2), (1, 2)),
        ("both", (0, 1, 2), (0, 1, 2)),
    ],
)
def test_axes_of_attention_that_grow(heads, query, out):
    make = lambda n: linen_params(n, HEADS[heads](n)[0], True, jax.random.key(0))
    axes = width_axes(make, (16, 64))
    assert axes["attention/query/kernel"] == query
    assert axes["attention/out/kernel"] == out


def zeros(**shapes):
    return {name.replace("__", "/"): jnp.zeros(shape) for name, shape in shapes.items()}


def nested(**shapes):
    return {name: {k: jnp.zeros(s) for k, s in one.items()} for name, one in shapes.items()}


class EquinoxNet(equinox.Module):
    layers: list

    def __init__(self, n):
        key = jax.random.key(0)
        self.layers = [
            equinox.nn.Conv2d(1, n, 3, key=key),
            equinox.nn.Linear(n, n, key=key),
            equinox.nn.LayerNorm((n, 2)),
            equinox.nn.Linear(n, 3, key=key),
            equinox.nn.Conv1d(1, n, 1, key=key),
        ]


# each: parameters of width n; axes that are given; the class of some leaves
LAYOUTS = {
    "by_hand_heads": (
        lambda n: zeros(wq=(n, n // 4, 4), wo=(n // 4, 4, n)), {}, {"wq": HIDDEN, "wo": HIDDEN},
    ),
    "by_hand_fixed_model": (  # the model stays, its heads grow in number: outputs of wq alone
        lambda n: zeros(wq=(6, n // 4, 4), wo=(n // 4, 4, 6)), {}, {"wq": INPUT, "wo": OUTPUT},
    ),
    "by_hand_fixed_model_larger": (
        lambda n: zeros(wq=(6, 3, n), wo=(3, n, 6)), {}, {"wq": INPUT, "wo": OUTPUT},
    ),
    "stacked": (
        lambda n: zeros(q=(3, n, n // 4, 4), o=(3, n // 4, 4, n), w=(3, n, n), out=(3, n, 2)),
        {}, {"q": HIDDEN, "o": HIDDEN, "w": HIDDEN, "out": OUTPUT},
    ),
    "stacked_with_biases": (
        lambda n: nested(
            q={"kernel": (3, n, n // 4, 4), "bias": (3, n // 4, 4)},
            o={"kernel": (3, n // 4, 4, n), "bias": (3, n)},
            w={"kernel": (3, 5, n), "bias": (3, n)},
        ),
        {},
        {"q/kernel": HIDDEN, "q/bias": INPUT, "o/kernel": HIDDEN, "o/bias": INPUT,
         "w/kernel": INPUT, "w/bias": INPUT},
    ),
    "one_projection": (  # without a partner the bias tells
        lambda n: nested(q={"w": (6, n // 4, 4), "b": (n // 4, 4)}), {},
        {"q/w": INPUT, "q/b": INPUT},
    ),
    "either_reading": (lambda n: zeros(q=(n, 4, n)), {}, {"q": HIDDEN}),
    "convolutions": (
        lambda n: zeros(first=(3, 3, 3, n), next=(3, 3, n, n), last=(3, 3, n, 2), line=(3, n, 7)),
        {}, {"first": INPUT, "next": HIDDEN, "last": OUTPUT, "line": OUTPUT},
    ),
    "one_bias_beside_two_weights": (
        lambda n: zeros(first=(4, n), last=(n, 2), bias=(n,)), {},
        {"first": INPUT, "last": OUTPUT, "bias": INPUT},
    ),
    "matrices_named_like_biases": (
        lambda n: zeros(a=(n, n), b=(n, n)), {}, {"a": HIDDEN, "b": HIDDEN},
    ),
    "embedding_and_positions": (
        lambda n: zeros(embedding=(50, n), positions=(1, 9, n), relative=(32, n // 4)), {},
        dict.fromkeys(["embedding", "positions", "relative"], INPUT),
    ),
    "equinox": (
        EquinoxNet, {},
        {"layers/0/weight": INPUT, "layers/0/bias": INPUT, "layers/1/weight": HIDDEN,
         "layers/2/weight": INPUT, "layers/3/weight": OUTPUT, "layers/3/bias": FIXED,
         "layers/4/weight": INPUT, "layers/4/bias": INPUT},
    ),
    "equinox_with_functions": (
        lambda n: equinox.nn.MLP(4, 2, n, 2, key=jax.random.key(0)), {},
        {"layers/0/weight": INPUT, "layers/1/weight": HIDDEN, "layers/2/weight": OUTPUT},
    ),
    "equinox_given": (
        lambda n: [equinox.nn.Linear(*s, use_bias=False, key=jax.random.key(0))
                   for s in ((4, n), (n, n), (n, 2))],
        {"in_axis": -1, "out_axis": -2},
        {"0/weight": INPUT, "1/weight": HIDDEN, "2/weight": OUTPUT},
    ),
    "by_path": (
        lambda n: zeros(q=(n, n // 4, 4), o=(n // 4, 4, 6), w=(4, n)),
        {"in_axis": {"q": 0, "o": (0, 1)}}, {"q": HIDDEN, "o": OUTPUT, "w": INPUT},
    ),
    "by_path_out": (
        lambda n: zeros(q=(6, n // 4, 4)), {"out_axis": {"q": (1, 2)}}, {"q": INPUT},
    ),
    "swapped_sizes": (  # as many entries in another shape: nothing grows
        lambda n: nested(q={"w": (6, n, 1024 // n), "b": (n, 1024 // n)}), {},
        {"q/w": FIXED, "q/b": FIXED},
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_factors_of_a_layout(layout):
    make, given, expected = LAYOUTS[layout]
    for optimizer, column in (("sgd", 1), ("adam", 2)):
        factors = mup_multipliers(make, 16, 64, optimizer=optimizer, **given)
        init, rate = by_name(factors.init), by_name(factors.learning_rate)
        assert {name: (init[name], rate[name]) for name in expected} == {
            name: (row[0], row[column]) for name, row in expected.items()
        }


def test_unequal_growth_is_that_of_the_fans():
    """The inner layer of a block grows four times, the model twice."""
    make = lambda n: zeros(up=(n, n * n), down=(n * n, n))
    sgd, adam = (mup_multipliers(make, 2, 4, optimizer=o).learning_rate for o in ("sgd", "adam"))
    assert sgd == {"up": 4 / 2, "down": 2 / 4}
    assert adam == {"up": 1 / 2, "down": 1 / 4}


@pytest.mark.parametrize(
    ("make", "given", "sentence"),
    [
        (
            lambda n: zeros(q=(n, n // 4, 4)),
            {},
            r"cannot tell the inputs of 'q' from its outputs, as it grows from \(16, 4, 4\) to "
            r"\(64, 16, 4\): name its axes, for instance in_axis=\{'q': 0\}",
        ),
        (
            lambda n: zeros(q=(n, 4, n)),
            {"in_axis": 1, "out_axis": 2},
            r"got in_axis=\(1,\) and out_axis=\(2,\) for 'q', which grows along axis 0 from "
            r"\(16, 4, 16\) to \(64, 4, 64\)\.",
        ),
        (
            lambda n: zeros(q=(n, n)),
            {"in_axis": 0, "out_axis": (0, 1)},
            r"needs axes that grow to be inputs or outputs, got in_axis=\(0,\) and",
        ),
        (lambda n: zeros(q=(n, n)), {"in_axis": 2}, "needs axes of 'q', which has 2, got axis 2"),
        (lambda n: zeros(q=(n, n)), {"in_axis": {"k": 0}}, r"got 'k'; the paths are 'q'\."),
    ],
    ids=["ambiguous", "no_role", "two_roles", "no_axis", "no_leaf"],
)
def test_what_cannot_be_told_is_asked_for(make, given, sentence):
    with pytest.raises(ValueError, match=f"mup_multipliers .*{sentence}"):
        mup_multipliers(make, 16, 64, **given)


def transformer(library, heads, is_mup, width, key):
    """Build what `coordinate_check` asks for: Adam, with or without the factors."""
    num_heads = HEADS[heads](width)[0]
    params = MAKERS[library](width, num_heads, True, key)
    shapes = lambda n: MAKERS[library](n, HEADS[heads](n)[0], True, jax.random.key(0))
    factors = mup_multipliers(shapes, 8, width)
    optimizer = adam(1e-3)
    if is_mup:
        params = jax.tree.map(jnp.multiply, params, factors.init)
        rates = optax.stateless(lambda u, _: jax.tree.map(jnp.multiply, u, factors.learning_rate))
        optimizer = optax.chain(optimizer, rates)
    if library == "linen":
        model = LinenTransformer(width, num_heads, True)
        apply = lambda params, x: model.apply({"params": params}, x)
    else:
        graph, _, rest = nnx.split(
            NnxTransformer(width, num_heads, True, nnx.Rngs(0)), nnx.Param, ...
        )
        apply = lambda params, x: nnx.merge(graph, params, rest)(x)
    return lambda params, x: jnp.mean((apply(params, x) - 1) ** 2), params, optimizer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "heads"), [("linen", "more_heads"), ("nnx", "larger_heads")], ids=["linen", "nnx"]
)
def test_only_the_factors_keep_the_coordinates_of_a_transformer(library, heads):
    checks = {
        is_mup: coordinate_check(
            functools.partial(transformer, library, heads, is_mup),
            (16, 128),
            X,
            key=jax.random.key(0),
            num_seeds=num_seeds,
        )
        for is_mup, num_seeds in ((True, 2), (False, 1))
    }
    assert checks[True].ok, checks[True].slopes
    assert not checks[False].ok
    # hidden weights change too much in the standard parametrisation, by an exponent of 1/2 to 1
    hidden = [i for i, name in enumerate(checks[False].names) if "attention" in name]
    assert len(hidden) == 4
    assert (np.asarray(checks[False].slopes)[hidden] > 0.4).all()
