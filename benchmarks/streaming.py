"""Training from a file on disk, beside the same data on the device and beside grain.

The network of the tutorial takes images of bytes, batches of 256 in shuffled order. Streamed from a
memmap the batches, and so the parameters, are the same to the bit; grain draws an order of its own,
one example an element, batched and handed over by `Batches`. The second table holds the memory of a
process of its own against a file eight times as large as what it may grow by.
"""

import multiprocessing
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import interleaved, machine, median_ratio, print_table
from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Batches, Streamed, fit

BATCH = 256
BOUND = 96
"""MiB by which the process may grow."""


def loss_fn(params, batch):
    images, labels = batch
    logits = mlp.apply(params, images.reshape(len(labels), -1).astype(jnp.float32) / 255)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def write_images(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Write random images into a file, a part at a time, and open it; labels stay in memory."""
    rng = np.random.default_rng(0)
    path = folder / "images.npy"
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, 28, 28))
    for start in range(0, count, 4096):
        part = file[start : start + 4096]
        part[:] = rng.integers(0, 256, part.shape, np.uint8)
    file.flush()
    del file
    labels = rng.integers(0, 10, count).astype(np.int32)
    return np.load(path, mmap_mode="r"), labels


def grain_batches(images: np.ndarray, labels: np.ndarray) -> Callable[[int], Iterator[Any]]:
    """Return what makes grain's iterator of one shuffled epoch."""
    import grain

    def make_iterator(epoch: int) -> Iterator[Any]:
        examples = grain.MapDataset.range(len(labels)).shuffle(seed=epoch)
        examples = examples.map(lambda at: (images[at], labels[at]))
        return iter(examples.to_iter_dataset().batch(BATCH, drop_remainder=True))

    return make_iterator


def compare_times(count: int, rounds: int) -> None:
    """Time epochs over the same images, resident, streamed and by grain."""
    params = jax.jit(mlp.init, static_argnums=1)(jax.random.key(0), mlp.FASHION_MNIST_SIZES)
    adam = optimizers.adam(1e-3)

    def trained(data: Any, batch_size: int | None = BATCH) -> Any:
        result = fit(
            loss_fn, params, adam, data, batch_size=batch_size, num_epochs=1,
            key=jax.random.key(0), progress=False,
        )  # fmt: skip
        return jax.block_until_ready(result.params)

    with tempfile.TemporaryDirectory() as folder:
        images, labels = write_images(Path(folder), count)
        in_memory = np.array(images)
        by_grain = Batches(grain_batches(images, labels), count // BATCH)
        variants = {
            "resident": lambda: trained((in_memory, labels)),
            "streamed from a memmap": lambda: trained(Streamed((images, labels))),
            "grain, an example an element": lambda: trained(by_grain, None),
        }
        leaves = [jax.tree.leaves(variants[name]()) for name in list(variants)[:2]]
        equal = all(map(np.array_equal, *leaves))
        seconds = interleaved(variants, rounds)
    rows = [
        (name, 1e3 * float(np.median(times)), median_ratio(times, seconds["resident"]))
        for name, times in seconds.items()
    ]
    title = f"An epoch of {count} images; the bits of the first two are equal: {equal}"
    print_table(title, ["data", "ms", "of resident"], rows)


def growth(count: int) -> tuple[float, float]:
    """Return the MiB of a file, and those by which a process grows while it trains from it."""
    import psutil

    process, most, is_over = psutil.Process(), 0, threading.Event()
    params = mlp.init(jax.random.key(0), (784, 16, 10))

    def trained(images: np.ndarray, labels: np.ndarray) -> None:
        fit(
            loss_fn, params, optimizers.sgd(0.01), Streamed((images, labels)), batch_size=BATCH,
            num_epochs=1, key=jax.random.key(0), progress=False,
        )  # fmt: skip

    def watch() -> None:
        nonlocal most
        while not is_over.wait(0.002):
            most = max(most, process.memory_info().rss)

    with tempfile.TemporaryDirectory() as folder:
        images, labels = write_images(Path(folder), count)
        trained(images, labels)  # compiles, which takes memory of its own
        before = process.memory_info().rss
        watcher = threading.Thread(target=watch)
        watcher.start()
        trained(images, labels)
        is_over.set()
        watcher.join()
        return images.nbytes / 2**20, (most - before) / 2**20


def main(quick: bool = False) -> None:
    print(machine())
    compare_times(8 * 1024 if quick else 32 * 1024, 3 if quick else 7)
    count = 8 * BOUND * 2**20 // 784
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        size, grown = pool.submit(growth, count).result()
    rows = [("file", size), ("process grew by", grown), ("bound", float(BOUND))]
    print_table("Memory while the file is read once, shuffled", ["", "MiB"], rows)
