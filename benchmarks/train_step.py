"""One training step of the tutorial's network: `fit` against PyTorch and a plain optax loop.

784-512-256-256-128-10, ReLU, batch 256, Adam, 50 000 images of bytes. Every variant runs whole
epochs, shuffling, gathering and normalising included.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import optimizers
from jaxopt_tut.datasets import Dataset, Split
from jaxopt_tut.models import mlp
from jaxopt_tut.training import fit

BATCH = 256
MEAN, STD = 0.2860, 0.3530


def cross_entropy(params, batch):
    logits = mlp.apply(params, batch.images)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels))


def random_images(num_images: int) -> Split:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (num_images, 28, 28), np.uint8)
    return Split(images, rng.integers(0, 10, num_images).astype(np.int32))


def fit_epoch(data: Split):
    """One epoch of `fit`, called as a user calls it."""
    dataset = Dataset(data, data, MEAN, STD)
    params = jax.jit(mlp.init)(jax.random.key(0))
    adam = optimizers.adam(1e-3)

    def run():
        result = fit(
            cross_entropy, params, adam, dataset,
            batch_size=BATCH, num_epochs=1, key=jax.random.key(0), progress=False,
        )  # fmt: skip
        jax.block_until_ready(result.params)

    return run


def plain_epoch(data: Split):
    """The loop of most tutorials: NumPy batches into a jitted flax + optax step."""
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            for width in mlp.FASHION_MNIST_SIZES[1:-1]:
                x = nn.relu(nn.Dense(width)(x))
            return nn.Dense(mlp.FASHION_MNIST_SIZES[-1])(x)

    model, adam = Network(), optax.adam(1e-3)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 784)))
    state = adam.init(params)
    rng = np.random.default_rng(0)

    @jax.jit
    def step(params, state, x, y):
        def loss_fn(params):
            logits = jnp.asarray(model.apply(params, x))
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, y))

        loss, grads = jax.value_and_grad(loss_fn)(params)
        updates, state = adam.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    def run():
        nonlocal params, state
        order = rng.permutation(len(data.labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            x = (data.images[index].reshape(BATCH, -1).astype(np.float32) / 255 - MEAN) / STD
            params, state, loss = step(params, state, x, data.labels[index])
        jax.block_until_ready(loss)

    return run


def torch_epoch(data: Split, **adam_options):
    """PyTorch's eager loop on bytes in memory."""
    import torch

    sizes = mlp.FASHION_MNIST_SIZES
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    adam = torch.optim.Adam(model.parameters(), lr=1e-3, **adam_options)
    images = torch.from_numpy(data.images.reshape(len(data.images), -1))
    labels = torch.from_numpy(data.labels.astype(np.int64))

    def run():
        order = torch.randperm(len(labels))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            x = (images[index].float() / 255 - MEAN) / STD
            loss = torch.nn.functional.cross_entropy(model(x), labels[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
        loss.item()

    return run


def matmul(size: int, repeats: int):
    """The machine's own f32 rate: a square product that fits its caches."""
    a = jnp.ones((size, size), jnp.float32)
    product = jax.jit(partial(jnp.matmul, precision="highest"))

    def run():
        for _ in range(repeats):
            out = product(a, a)
        jax.block_until_ready(out)

    return run


def first_epoch_seconds(cache: str | None) -> float:
    """Seconds from the start of a process to the end of its first epoch on the mini images."""
    enable = f"training.compilation_cache({cache!r});" if cache else ""
    code = (
        "import jax; from jaxopt_tut import datasets, models, optimizers, training;"
        f"{enable}"
        "from benchmarks.train_step import cross_entropy;"
        "training.fit(cross_entropy, models.mlp.init, optimizers.adam(1e-3),"
        "datasets.load_fashion_mnist_mini(), batch_size=256, num_epochs=1, key=jax.random.key(0))"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main(quick: bool = False) -> None:
    data = random_images(12_800 if quick else 50_000)
    num_steps = len(data.labels) // BATCH
    variants = {"fit": fit_epoch(data), "flax + optax, numpy batches": plain_epoch(data)}
    try:
        variants |= {
            "torch, fused": torch_epoch(data, fused=True),
            "torch, default": torch_epoch(data),
        }
    except ImportError:
        print("PyTorch is not installed.")
    size, repeats = 2048, 8
    variants["matmul"] = matmul(size, repeats)
    seconds = interleaved(variants, rounds=3 if quick else 7)

    weights = [a * b for a, b in pairwise(mlp.FASHION_MNIST_SIZES)]
    # Forward, weight gradient, input gradient; nobody needs the gradient of the images.
    flops = 2 * BATCH * (3 * sum(weights) - weights[0])
    peak = 2 * size**3 * repeats / statistics.median(seconds.pop("matmul"))
    rows = [
        [
            name,
            1e3 * statistics.median(times) / num_steps,
            median_ratio(seconds["fit"], times),
            100 * flops * num_steps / statistics.median(times) / peak,
        ]
        for name, times in seconds.items()
    ]
    print_table(
        f"Training step, Adam, batch {BATCH} ({peak / 1e9:.0f} GFLOP/s f32 matmul)",
        ["variant", "ms a step", "fit / variant", "% of matmul rate"],
        rows,
    )
    with tempfile.TemporaryDirectory() as cache:
        rows = [["no cache", first_epoch_seconds(None)]]
        rows += [["cache, cold", first_epoch_seconds(cache)]]
        rows += [["cache, warm", first_epoch_seconds(cache)]]
    print_table("From process start to the first finished epoch", ["compilation", "s"], rows)


if __name__ == "__main__":
    main()
