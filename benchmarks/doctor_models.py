"""Networks as their libraries draw them: what the doctor must leave in peace.

Eight kinds (CNN, ResNet, Transformer, ViT, LSTM, GRU, mixture of experts, graph network), each in
flax nnx, flax linen and equinox with default initializers; and as published the NTK
parametrisation, equalized learning rates, weight normalisation, a SIREN and a PINN.
"""

# The classes say nothing that their names do not, and all are built alike, by width and side.
# ruff: noqa: D101, D107, ARG001, ARG002

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx

CLASSES, TOKENS, FEATURES = 10, 32, 8


class Model(NamedTuple):
    """A network by name.

    Attributes:
      name: Its kind and its library.
      init: Draws the parameters from a key; compiled.
      loss_fn: Of the parameters and a batch.
      data: Which of the batches of `batches` it reads.
      rate: Adam's learning rate that goes with it.
    """

    name: str
    init: Callable
    loss_fn: Callable
    data: str
    rate: float = 1e-3


def batches(images, labels, key, *, num_nodes=6) -> dict[str, Any]:
    """Make the data that the networks read out of normalised images.

    Args:
      images: Normalised, of shape (examples, 28, 28).
      labels: Their classes.
      key: For what is drawn: tokens, graphs.
      num_nodes: Of a graph.

    Returns:
      Batches by name, as many examples in each.
    """
    size = len(images)
    of_edges, of_features, of_tokens, of_points = jax.random.split(key, 4)
    edges = jax.random.bernoulli(of_edges, 0.4, (size, num_nodes, num_nodes))
    edges = jnp.maximum(edges | edges.mT, jnp.eye(num_nodes, dtype=bool)).astype(jnp.float32)
    degrees = edges.sum(-1)
    adjacency = edges / jnp.sqrt(degrees[:, :, None] * degrees[:, None, :])
    features = jax.random.normal(of_features, (size, num_nodes, FEATURES))
    # A Markov chain: the next token is one of two.
    steps = jax.random.randint(of_tokens, (size, 17), 0, 2)
    tokens = jnp.cumsum(1 + 4 * steps, axis=1) % TOKENS
    points = jax.random.uniform(of_points, (size, 2), minval=-1.0)
    return {
        "images": (images[:, 2:26:2, 2:26:2], labels),
        "rows": (images, labels),
        "tokens": (tokens[:, :-1], tokens[:, 1:]),
        "graphs": ((adjacency, features), labels),
        "points": (points, jnp.sin(3 * points[:, :1]) * jnp.cos(2 * points[:, 1:])),
    }


def cross_entropy(logits, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


# flax nnx


class NnxCnn(nnx.Module):
    def __init__(self, width, side, rngs):
        self.first = nnx.Conv(1, width, (3, 3), rngs=rngs)
        self.second = nnx.Conv(width, 2 * width, (3, 3), rngs=rngs)
        self.hidden = nnx.Linear(2 * width * (side // 4) ** 2, 4 * width, rngs=rngs)
        self.head = nnx.Linear(4 * width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.avg_pool(nnx.relu(self.first(x[..., None])), (2, 2), (2, 2))
        x = nnx.avg_pool(nnx.relu(self.second(x)), (2, 2), (2, 2))
        return self.head(nnx.relu(self.hidden(x.reshape(len(x), -1))))


class NnxResidual(nnx.Module):
    def __init__(self, inputs, width, stride, rngs):
        options = {"use_bias": False, "rngs": rngs}
        self.first = nnx.Conv(inputs, width, (3, 3), stride, **options)
        self.first_norm = nnx.BatchNorm(width, rngs=rngs)
        self.second = nnx.Conv(width, width, (3, 3), **options)
        self.second_norm = nnx.BatchNorm(width, rngs=rngs)
        self.short = nnx.data(None)
        if inputs != width:
            self.short = nnx.Conv(inputs, width, (1, 1), stride, **options)

    def __call__(self, x):
        h = nnx.relu(self.first_norm(self.first(x)))
        h = self.second_norm(self.second(h))
        return nnx.relu(h + (x if self.short is None else self.short(x)))


class NnxResNet(nnx.Module):
    def __init__(self, width, side, rngs):
        self.stem = nnx.Conv(1, width, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        widths = (width, width, 2 * width, 4 * width)
        self.blocks = nnx.List(
            NnxResidual(m, n, 1 + (m != n), rngs) for m, n in itertools.pairwise(widths)
        )
        self.head = nnx.Linear(widths[-1], CLASSES, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.stem(x[..., None])))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class NnxBlock(nnx.Module):
    def __init__(self, width, rngs):
        self.before = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x, mask=None):
        x = x + self.attention(self.before(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.norm(x))))


class NnxTransformer(nnx.Module):
    def __init__(self, width, side, rngs):
        self.tokens = nnx.Embed(TOKENS, width, rngs=rngs)
        self.positions = nnx.Embed(64, width, rngs=rngs)
        self.blocks = nnx.List(NnxBlock(width, rngs) for _ in range(2))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, TOKENS, rngs=rngs)

    def __call__(self, tokens):
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


class NnxViT(nnx.Module):
    def __init__(self, width, side, rngs):
        patch = side // 4
        self.patches = nnx.Conv(1, width, (patch, patch), (patch, patch), rngs=rngs)
        draw = nnx.initializers.normal(0.02)
        self.positions = nnx.Param(draw(rngs.params(), (1, 17, width)))
        self.token = nnx.Param(jnp.zeros((1, 1, width)))
        self.blocks = nnx.List(NnxBlock(width, rngs) for _ in range(2))
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.patches(x[..., None])
        x = x.reshape(len(x), -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...], (len(x), 1, x.shape[-1]))
        x = jnp.concatenate([token, x], axis=1) + self.positions[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class NnxRecurrent(nnx.Module):
    def __init__(self, cell, width, side, rngs):
        self.rnn = nnx.RNN(cell(side, 2 * width, rngs=rngs))
        self.head = nnx.Linear(2 * width, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.asarray(self.rnn(x))[:, -1])


def mixture(x, router, up, down):
    """Mix two experts of each token, as a Switch or Mixtral layer does."""
    weights, chosen = jax.lax.top_k(jax.nn.softmax(x @ router), 2)
    gates = jnp.sum(jax.nn.one_hot(chosen, router.shape[-1]) * weights[..., None], axis=-2)
    hidden = jax.nn.gelu(jnp.einsum("...d,edh->...eh", x, up))
    return jnp.einsum("...eh,ehd,...e->...d", hidden, down, gates)


class NnxMoE(nnx.Module):
    def __init__(self, width, side, rngs):
        draw = nnx.initializers.lecun_normal(batch_axis=0)
        self.rows = nnx.Linear(side, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.router = nnx.Linear(width, 4, use_bias=False, rngs=rngs)
        self.up = nnx.Param(draw(rngs.params(), (4, width, 2 * width)))
        self.down = nnx.Param(draw(rngs.params(), (4, 2 * width, width)))
        self.last = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, x):
        x = self.rows(x)
        router = self.router.kernel[...]
        x = x + mixture(self.norm(x), router, self.up[...], self.down[...])
        return self.head(self.last(x).mean(1))


class NnxGnn(nnx.Module):
    def __init__(self, width, side, rngs):
        widths = (FEATURES, width, width, width)
        self.layers = nnx.List(nnx.Linear(m, n, rngs=rngs) for m, n in itertools.pairwise(widths))
        self.head = nnx.Linear(width, CLASSES, rngs=rngs)

    def __call__(self, graph):
        adjacency, x = graph
        for layer in self.layers:
            x = nnx.relu(adjacency @ layer(x))
        return self.head(x.mean(1))


def nnx_model(name, build, data) -> Model:
    graph, _, rest = nnx.split(build(nnx.Rngs(0)), nnx.Param, ...)

    @jax.jit
    def init(key):
        return nnx.to_pure_dict(nnx.state(build(nnx.Rngs(params=key)), nnx.Param))

    def loss_fn(params, batch):
        state = nnx.state(nnx.eval_shape(lambda: build(nnx.Rngs(0))), nnx.Param)
        nnx.replace_by_pure_dict(state, params)
        model = nnx.merge(graph, state, rest, copy=True)
        return cross_entropy(model(batch[0]), batch[1])

    return Model(f"{name}, nnx", init, loss_fn, data)


# flax linen


class LinenCnn(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        x = x[..., None]
        for width in (self.width, 2 * self.width):
            x = linen.relu(linen.Conv(width, (3, 3))(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Dense(4 * self.width)(x.reshape(len(x), -1)))
        return linen.Dense(CLASSES)(x)


class LinenResNet(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        norm = lambda: linen.BatchNorm(use_running_average=False)
        conv = lambda width, size, stride: linen.Conv(
            width, (size, size), (stride, stride), use_bias=False
        )
        x = linen.relu(norm()(conv(self.width, 3, 1)(x[..., None])))
        for width in (self.width, 2 * self.width, 4 * self.width):
            stride = 1 + (width != x.shape[-1])
            h = linen.relu(norm()(conv(width, 3, stride)(x)))
            h = norm()(conv(width, 3, 1)(h))
            x = linen.relu(h + (norm()(conv(width, 1, stride)(x)) if stride > 1 else x))
        return linen.Dense(CLASSES)(x.mean((1, 2)))


class LinenBlock(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x, mask=None):
        x = x + linen.MultiHeadDotProductAttention(4)(linen.LayerNorm()(x), mask=mask)
        h = linen.gelu(linen.Dense(4 * self.width)(linen.LayerNorm()(x)))
        return x + linen.Dense(self.width)(h)


class LinenTransformer(linen.Module):
    width: int

    @linen.compact
    def __call__(self, tokens):
        embed = linen.Embed(TOKENS, self.width)
        x = embed(tokens) + linen.Embed(64, self.width)(jnp.arange(tokens.shape[1]))
        for _ in range(2):
            x = LinenBlock(self.width)(x, linen.make_causal_mask(tokens))
        return linen.Dense(TOKENS)(linen.LayerNorm()(x))


class LinenViT(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        patch = x.shape[1] // 4
        x = linen.Conv(self.width, (patch, patch), (patch, patch))(x[..., None])
        x = x.reshape(len(x), -1, self.width)
        token = self.param("token", linen.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("positions", linen.initializers.normal(0.02), (1, *x.shape[1:]))
        for _ in range(2):
            x = LinenBlock(self.width)(x)
        return linen.Dense(CLASSES)(linen.LayerNorm()(x)[:, 0])


class LinenRecurrent(linen.Module):
    cell: Callable
    width: int

    @linen.compact
    def __call__(self, x):
        hidden = linen.RNN(self.cell(2 * self.width))(x)
        return linen.Dense(CLASSES)(jnp.asarray(hidden)[:, -1])


class LinenMoE(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        draw = linen.initializers.lecun_normal(batch_axis=0)
        width = self.width
        x = linen.Dense(width)(x)
        router = self.param("router", linen.initializers.lecun_normal(), (width, 4))
        up = self.param("up", draw, (4, width, 2 * width))
        down = self.param("down", draw, (4, 2 * width, width))
        x = x + mixture(linen.LayerNorm()(x), router, up, down)
        return linen.Dense(CLASSES)(linen.LayerNorm()(x).mean(1))


class LinenGnn(linen.Module):
    width: int

    @linen.compact
    def __call__(self, graph):
        adjacency, x = graph
        for _ in range(3):  # a message and an update, as in GraphSAGE
            h = jnp.concatenate([x, adjacency @ x], axis=-1)
            x = linen.relu(linen.Dense(self.width)(h))
        return linen.Dense(CLASSES)(x.mean(1))


def linen_model(name, module, data, batch) -> Model:
    def init(key):
        return {"params": module.init(key, batch[0])["params"]}

    def loss_fn(params, batch):
        logits: Any = module.apply(params, batch[0], mutable=["batch_stats"])[0]
        return cross_entropy(logits, batch[1])

    return Model(f"{name}, linen", jax.jit(init), loss_fn, data)


# equinox: of one example, the loss maps them over the batch


class EqxCnn(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    hidden: eqx.nn.Linear
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 4)
        self.first = eqx.nn.Conv2d(1, width, 3, padding=1, key=keys[0])
        self.second = eqx.nn.Conv2d(width, 2 * width, 3, padding=1, key=keys[1])
        flat = 2 * width * (side // 4) ** 2
        self.hidden = eqx.nn.Linear(flat, 4 * width, key=keys[2])
        self.head = eqx.nn.Linear(4 * width, CLASSES, key=keys[3])

    def __call__(self, x):
        pool = eqx.nn.MaxPool2d(2, 2)
        x = pool(jax.nn.relu(self.first(x[None])))
        x = pool(jax.nn.relu(self.second(x)))
        return self.head(jax.nn.relu(self.hidden(x.ravel())))


class EqxResidual(eqx.Module):
    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    short: eqx.nn.Conv2d | None
    norms: list

    def __init__(self, inputs, width, stride, key):
        keys = jax.random.split(key, 3)
        options = {"padding": 1, "use_bias": False}
        self.first = eqx.nn.Conv2d(inputs, width, 3, stride, key=keys[0], **options)
        self.second = eqx.nn.Conv2d(width, width, 3, key=keys[1], **options)
        self.norms = [eqx.nn.GroupNorm(4, width) for _ in range(2)]
        self.short = None
        if inputs != width:
            self.short = eqx.nn.Conv2d(inputs, width, 1, stride, key=keys[2])

    def __call__(self, x):
        h = jax.nn.relu(self.norms[0](self.first(x)))
        h = self.norms[1](self.second(h))
        return jax.nn.relu(h + (x if self.short is None else self.short(x)))


class EqxResNet(eqx.Module):
    stem: eqx.nn.Conv2d
    norm: eqx.nn.GroupNorm
    blocks: list
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 5)
        self.stem = eqx.nn.Conv2d(1, width, 3, padding=1, use_bias=False, key=keys[0])
        self.norm = eqx.nn.GroupNorm(4, width)
        widths = (width, width, 2 * width, 4 * width)
        self.blocks = [
            EqxResidual(m, n, 1 + (m != n), k)
            for m, n, k in zip(widths, widths[1:], keys[1:4], strict=False)
        ]
        self.head = eqx.nn.Linear(widths[-1], CLASSES, key=keys[4])

    def __call__(self, x):
        x = jax.nn.relu(self.norm(self.stem(x[None])))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class EqxBlock(eqx.Module):
    attention: eqx.nn.MultiheadAttention
    up: eqx.nn.Linear
    down: eqx.nn.Linear
    norms: list

    def __init__(self, width, key):
        keys = jax.random.split(key, 3)
        self.attention = eqx.nn.MultiheadAttention(4, width, key=keys[0])
        self.up = eqx.nn.Linear(width, 4 * width, key=keys[1])
        self.down = eqx.nn.Linear(4 * width, width, key=keys[2])
        self.norms = [eqx.nn.LayerNorm(width) for _ in range(2)]

    def __call__(self, x, mask=None):
        h = jax.vmap(self.norms[0])(x)
        x = x + self.attention(h, h, h, mask=mask)
        h = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norms[1])(x)))
        return x + jax.vmap(self.down)(h)


class EqxTransformer(eqx.Module):
    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 5)
        self.tokens = eqx.nn.Embedding(TOKENS, width, key=keys[0])
        self.positions = eqx.nn.Embedding(64, width, key=keys[1])
        self.blocks = [EqxBlock(width, k) for k in keys[2:4]]
        self.norm = eqx.nn.LayerNorm(width)
        self.head = eqx.nn.Linear(width, TOKENS, key=keys[4])

    def __call__(self, tokens):
        length = len(tokens)
        x = jax.vmap(self.tokens)(tokens) + jax.vmap(self.positions)(jnp.arange(length))
        for block in self.blocks:
            x = block(x, jnp.tril(jnp.ones((length, length), bool)))
        return jax.vmap(self.head)(jax.vmap(self.norm)(x))


class EqxViT(eqx.Module):
    patches: eqx.nn.Conv2d
    positions: jax.Array
    token: jax.Array
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 6)
        self.patches = eqx.nn.Conv2d(1, width, side // 4, side // 4, key=keys[0])
        self.positions = jax.random.normal(keys[1], (17, width))
        self.token = jax.random.normal(keys[2], (1, width))
        self.blocks = [EqxBlock(width, k) for k in keys[3:5]]
        self.norm = eqx.nn.LayerNorm(width)
        self.head = eqx.nn.Linear(width, CLASSES, key=keys[5])

    def __call__(self, x):
        x = self.patches(x[None])
        x = jnp.concatenate([self.token, x.reshape(len(x), -1).T]) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[0]))


class EqxRecurrent(eqx.Module):
    cell: Any
    head: eqx.nn.Linear

    def __init__(self, cell, width, side, key):
        of_cell, of_head = jax.random.split(key)
        self.cell = cell(side, 2 * width, key=of_cell)
        self.head = eqx.nn.Linear(2 * width, CLASSES, key=of_head)

    def __call__(self, x):
        zeros = jnp.zeros(self.cell.hidden_size)
        start = (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros
        state, _ = jax.lax.scan(lambda state, row: (self.cell(row, state), None), start, x)
        return self.head(state[0] if isinstance(state, tuple) else state)


class EqxMoE(eqx.Module):
    rows: eqx.nn.Linear
    router: eqx.nn.Linear
    experts: eqx.nn.MLP
    norms: list
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 4)
        self.rows = eqx.nn.Linear(side, width, key=keys[0])
        self.router = eqx.nn.Linear(width, 4, key=keys[1])
        build = lambda key: eqx.nn.MLP(width, width, 2 * width, 1, jax.nn.gelu, key=key)
        self.experts = eqx.filter_vmap(build)(jax.random.split(keys[2], 4))
        self.norms = [eqx.nn.LayerNorm(width) for _ in range(2)]
        self.head = eqx.nn.Linear(width, CLASSES, key=keys[3])

    def __call__(self, x):
        def mix(token):
            gates = jax.nn.softmax(self.router(token))
            outputs = eqx.filter_vmap(lambda expert: expert(token))(self.experts)
            return gates @ outputs

        x = jax.vmap(self.rows)(x)
        x = x + jax.vmap(mix)(jax.vmap(self.norms[0])(x))
        return self.head(jax.vmap(self.norms[1])(x).mean(0))


class EqxGnn(eqx.Module):
    layers: list
    head: eqx.nn.Linear

    def __init__(self, width, side, key):
        keys = jax.random.split(key, 4)
        widths = (FEATURES, width, width, width)
        self.layers = [
            eqx.nn.Linear(m, n, key=k)
            for m, n, k in zip(widths, widths[1:], keys[:3], strict=False)
        ]
        self.head = eqx.nn.Linear(width, CLASSES, key=keys[3])

    def __call__(self, graph):
        adjacency, x = graph
        for layer in self.layers:
            x = jax.nn.relu(adjacency @ jax.vmap(layer)(x))
        return self.head(x.mean(0))


def equinox_model(name, build, data) -> Model:
    _, fixed = eqx.partition(build(jax.random.key(0)), eqx.is_inexact_array)

    @jax.jit
    def init(key):
        return eqx.filter(build(key), eqx.is_inexact_array)

    def loss_fn(params, batch):
        return cross_entropy(jax.vmap(eqx.combine(params, fixed))(batch[0]), batch[1])

    return Model(f"{name}, equinox", init, loss_fn, data)


# as published: plain functions


def flat(x):
    return x.reshape(len(x), -1)


def ntk(width, side):
    """Jacot et al. (2018): N(0, 1) weights, divided by the root of the fan-in on the way."""
    sizes = (side * side, 4 * width, 4 * width, CLASSES)

    def init(key):
        keys = jax.random.split(key, 3)
        return [
            jax.random.normal(k, (m, n)) for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def loss_fn(params, batch):
        x = flat(batch[0])
        for k, weight in enumerate(params):
            x = math.sqrt(2 / len(weight)) * (x @ weight)
            x = x if k == 2 else jax.nn.relu(x)
        return cross_entropy(x, batch[1])

    return init, loss_fn


def equalized(width, side):
    """Karras et al. (2018): N(0, 1) kernels, times He's constant on the way."""

    def init(key):
        keys = jax.random.split(key, 3)
        shapes = ((3, 3, 1, width), (3, 3, width, width), (width, CLASSES))
        return [jax.random.normal(k, shape) for k, shape in zip(keys, shapes, strict=True)]

    def loss_fn(params, batch):
        x = batch[0][..., None]
        for kernel in params[:2]:
            kernel = kernel * math.sqrt(2 / math.prod(kernel.shape[:-1]))
            x = jax.lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = jax.nn.leaky_relu(x, 0.2)
        head = params[2] * math.sqrt(1 / width)
        return cross_entropy(x.mean((1, 2)) @ head, batch[1])

    return init, loss_fn


def weight_norm(width, side):
    """Salimans, Kingma (2016): w = g v / |v|."""
    sizes = (side * side, 4 * width, 4 * width, CLASSES)

    def init(key):
        keys = jax.random.split(key, 3)
        return [
            {"v": jax.random.normal(k, (m, n)), "g": jnp.full(n, 1.4), "b": jnp.zeros(n)}
            for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def loss_fn(params, batch):
        x = flat(batch[0])
        for k, one in enumerate(params):
            norm = jnp.sqrt(jnp.sum(one["v"] ** 2, axis=0))
            x = x @ (one["g"] * one["v"] / norm) + one["b"]
            x = x if k == 2 else jax.nn.relu(x)
        return cross_entropy(x, batch[1])

    return init, loss_fn


def siren(width, side):
    """Sitzmann et al. (2020), section 3.2: sin(30 (w x + b)) in every hidden layer."""
    sizes = (2, 4 * width, 4 * width, 4 * width, 1)

    def init(key):
        layers = []
        for k, (m, n) in enumerate(itertools.pairwise(sizes)):
            of_weight, of_bias = jax.random.split(jax.random.fold_in(key, k))
            bound = 1 / m if k == 0 else math.sqrt(6 / m) / 30
            weight = jax.random.uniform(of_weight, (m, n), minval=-bound, maxval=bound)
            bound = 1 / math.sqrt(m)
            bias = jax.random.uniform(of_bias, (n,), minval=-bound, maxval=bound)
            layers.append({"weight": weight, "bias": bias})
        return layers

    def loss_fn(params, batch):
        x = batch[0]
        for one in params[:-1]:
            x = jnp.sin(30 * (x @ one["weight"] + one["bias"]))
        return jnp.mean((x @ params[-1]["weight"] + params[-1]["bias"] - batch[1]) ** 2)

    return init, loss_fn


def pinn(width, side):
    """Raissi et al. (2019): a tanh network that solves Poisson's equation."""
    sizes = (2, width, width, width, 1)

    def init(key):
        keys = jax.random.split(key, 4)
        draw = jax.nn.initializers.glorot_normal()
        return [
            {"weight": draw(k, (m, n)), "bias": jnp.zeros(n)}
            for k, m, n in zip(keys, sizes, sizes[1:], strict=False)
        ]

    def loss_fn(params, batch):
        def u(x):
            for one in params[:-1]:
                x = jnp.tanh(x @ one["weight"] + one["bias"])
            return (x @ params[-1]["weight"] + params[-1]["bias"])[0]

        def residual(x, value):
            return jnp.trace(jax.hessian(u)(x)) + 13 * value[0]

        inside = jnp.mean(jax.vmap(residual)(*batch) ** 2)
        return inside + jnp.mean((jax.vmap(u)(batch[0]) - batch[1][:, 0]) ** 2)

    return init, loss_fn


_NNX = {
    "CNN": NnxCnn, "ResNet": NnxResNet, "Transformer": NnxTransformer, "ViT": NnxViT,
    "MoE": NnxMoE, "GNN": NnxGnn,
}  # fmt: skip
_LINEN = {
    "CNN": LinenCnn, "ResNet": LinenResNet, "Transformer": LinenTransformer, "ViT": LinenViT,
    "MoE": LinenMoE, "GNN": LinenGnn,
}  # fmt: skip
_EQUINOX = {
    "CNN": EqxCnn, "ResNet": EqxResNet, "Transformer": EqxTransformer, "ViT": EqxViT,
    "MoE": EqxMoE, "GNN": EqxGnn,
}  # fmt: skip
_CELLS = {
    "nnx": {
        "LSTM": nnx.LSTMCell, "optimized LSTM": nnx.OptimizedLSTMCell, "GRU": nnx.GRUCell,
    },
    "linen": {
        "LSTM": linen.LSTMCell, "optimized LSTM": linen.OptimizedLSTMCell, "GRU": linen.GRUCell,
    },
    "equinox": {"LSTM": eqx.nn.LSTMCell, "GRU": eqx.nn.GRUCell},
}  # fmt: skip
_PUBLISHED = {
    "NTK": (ntk, "images"), "equalized rate": (equalized, "images"),
    "weight norm": (weight_norm, "images"), "SIREN": (siren, "points"), "PINN": (pinn, "points"),
}  # fmt: skip
_READS = {"Transformer": "tokens", "GNN": "graphs"}


def default_models(data: Mapping[str, Any], width: int = 16) -> dict[str, Model]:
    """List the networks.

    Args:
      data: What `batches` made.
      width: Sets the number of units.

    Returns:
      The networks by name.
    """
    side = data["images"][0].shape[1]
    row = data["rows"][0].shape[2]
    found = []
    for kind, build in _NNX.items():
        make = lambda rngs, build=build: build(width, side, rngs)
        found.append(nnx_model(kind, make, _READS.get(kind, "images")))
    for kind, build in _LINEN.items():
        reads = _READS.get(kind, "images")
        found.append(linen_model(kind, build(width), reads, data[reads]))
    for kind, build in _EQUINOX.items():
        make = lambda key, build=build: build(width, side, key)
        found.append(equinox_model(kind, make, _READS.get(kind, "images")))
    for kind, cell in _CELLS["nnx"].items():
        make = lambda rngs, cell=cell: NnxRecurrent(cell, width, row, rngs)
        found.append(nnx_model(kind, make, "rows"))
    for kind, cell in _CELLS["linen"].items():
        found.append(linen_model(kind, LinenRecurrent(cell, width), "rows", data["rows"]))
    for kind, cell in _CELLS["equinox"].items():
        make = lambda key, cell=cell: EqxRecurrent(cell, width, row, key)
        found.append(equinox_model(kind, make, "rows"))
    for kind, (build, reads) in _PUBLISHED.items():
        init, loss_fn = build(width, side)
        rate = 1e-4 if kind == "SIREN" else 1e-3  # as published
        found.append(Model(kind, jax.jit(init), loss_fn, reads, rate))
    return {model.name: model for model in found}
