"""Recording every layer's value and cotangent, against the gradient alone.

The tutorial's network (784-512-256-256-128-10, batch 256) and a 6-layer pre-norm Transformer.
Both sides are one compiled step that returns loss and gradients; the tapped one returns the
values and cotangents of all layers too.
"""

import statistics

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import taps
from jaxopt_tut.models import mlp

NUM_LAYERS, WIDTH, NUM_HEADS, LENGTH, VOCABULARY = 6, 256, 8, 64, 512


def mlp_problem():
    params = jax.jit(mlp.init)(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (256, 784))
    labels = jax.random.randint(jax.random.key(2), (256,), 0, 10)

    def loss_fn(params, images, labels):
        logits = mlp.apply(params, images)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    return loss_fn, params, images, labels


def transformer_problem(batch=16):
    from flax import linen as nn

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, tokens):
            x = nn.Embed(VOCABULARY, WIDTH)(tokens)
            for _ in range(NUM_LAYERS):
                x = x + nn.MultiHeadDotProductAttention(num_heads=NUM_HEADS)(nn.LayerNorm()(x))
                hidden = nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x)))
                x = x + nn.Dense(WIDTH)(hidden)
            return nn.Dense(VOCABULARY)(nn.LayerNorm()(x))

    model = Transformer()
    tokens = jax.random.randint(jax.random.key(0), (batch, LENGTH), 0, VOCABULARY)
    params = jax.jit(model.init)(jax.random.key(1), tokens)

    def loss_fn(params, tokens):
        logits = jnp.asarray(model.apply(params, tokens))[:, :-1]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]))

    return loss_fn, params, tokens


def measure(loss_fn, *args, rounds: int):
    plain = jax.jit(jax.value_and_grad(loss_fn))
    tapped = jax.jit(taps.record_gradients(loss_fn))
    recorded = jax.eval_shape(tapped, *args)[2]
    variants = {
        "gradient": lambda: jax.block_until_ready(plain(*args)),
        "tapped": lambda: jax.block_until_ready(tapped(*args)),
    }
    return len(recorded), interleaved(variants, rounds)


def trace_seconds(function, *args) -> float:
    """Time to trace, the caches of the pieces already warm."""
    calls = {"trace": lambda: jax.jit(lambda *a: function(*a)).trace(*args)}
    return statistics.median(interleaved(calls, 3)["trace"])


def main(quick: bool = False) -> None:
    rows = []
    problems = {"MLP, batch 256": mlp_problem(), "Transformer, 6 layers": transformer_problem()}
    for name, (loss_fn, *args) in problems.items():
        num_layers, seconds = measure(loss_fn, *args, rounds=7 if quick else 41)
        rows.append(
            [
                name,
                num_layers,
                1e3 * statistics.median(seconds["gradient"]),
                1e3 * statistics.median(seconds["tapped"]),
                median_ratio(seconds["tapped"], seconds["gradient"]),
                trace_seconds(jax.value_and_grad(loss_fn), *args),
                trace_seconds(taps.record_gradients(loss_fn), *args),
            ]
        )
    print_table(
        "Values and cotangents of all layers, beside the gradient",
        ["network", "sites", "gradient ms", "tapped ms", "ratio", "trace s", "tapped trace s"],
        rows,
    )


if __name__ == "__main__":
    main()
