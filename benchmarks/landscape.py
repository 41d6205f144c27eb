"""A loss on a plane of parameters: one program against loss-landscapes, which moves the model."""

import contextlib
import itertools
import logging
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import median_ratio, print_table
from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.landscape import random_directions, slice_2d
from jaxopt_tut.models import mlp

SIZES = (784, 12, 22, 10)
STEPS = 51
NUM_IMAGES = 1000


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return images as vectors, and labels."""
    dataset = load_fashion_mnist_mini()
    images = np.asarray(dataset.train.images[:NUM_IMAGES], np.float32) / 255
    images = (images - dataset.mean) / dataset.std
    return images.reshape(NUM_IMAGES, -1), np.asarray(dataset.train.labels[:NUM_IMAGES])


def loss_fn(params, batch):
    images, labels = batch
    logits = mlp.apply(params, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def plane(seed: int, steps: int) -> np.ndarray:
    """Return a plane of ours through a network of this seed."""
    first, second = jax.random.split(jax.random.key(seed))
    params = mlp.init(first, SIZES)
    directions = random_directions(second, params, 2)
    axis = np.linspace(-1, 1, steps)
    return np.asarray(slice_2d(loss_fn, params, directions, data(), coords=(axis, axis)).loss)


def peer(steps: int):
    """Return the same by loss-landscapes, with its own directions."""
    import loss_landscapes
    import torch
    from loss_landscapes.metrics import Loss

    layers = []
    for fan_in, fan_out in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    images, labels = (torch.tensor(part) for part in data())
    metric = Loss(torch.nn.CrossEntropyLoss(), images, labels.long())
    return lambda: loss_landscapes.random_plane(model, metric, steps=steps, deepcopy_model=True)


def temporary_bytes(steps: int) -> int:
    """Return the memory that the plane takes besides its arguments and its result."""
    params = mlp.init(jax.random.key(0), SIZES)
    directions = random_directions(jax.random.key(1), params, 2)
    axis = jnp.linspace(-1, 1, steps)
    call = lambda *args: slice_2d(loss_fn, *args, coords=(axis, axis)).loss
    program = jax.jit(call).lower(params, directions, jax.tree.map(jnp.asarray, data())).compile()
    memory = program.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


@contextlib.contextmanager
def compilations():
    """Collect what is compiled in here."""
    names: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: names.append(record.getMessage())
    logger = logging.getLogger("jax._src.interpreters.pxla")
    logger.addHandler(handler)
    propagates, logger.propagate = logger.propagate, False
    with jax.log_compiles():
        yield names
    logger.removeHandler(handler)
    logger.propagate = propagates


def from_cold(steps: int) -> float:
    """Return the seconds of the first plane of a process that has its data, its imports behind."""
    code = (
        "import time; from benchmarks import landscape; landscape.data(); import jax; "
        "jax.block_until_ready(jax.numpy.ones(1)); start = time.perf_counter(); "
        f"landscape.plane(0, {steps}); print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(quick: bool = False) -> None:
    steps = 15 if quick else STEPS
    cold = [from_cold(steps) for _ in range(1 if quick else 3)]
    variants = {"slice_2d": lambda: plane(1, steps)}
    try:
        variants["loss-landscapes"] = peer(steps)
    except ImportError:
        print("loss-landscapes is not installed.")
    plane(0, steps)
    with compilations() as compiled:
        plane(2, steps)
    wall = {name: [] for name in variants}
    cpu = {name: [] for name in variants}
    for _ in range(1 if quick else 3):
        for name, call in variants.items():
            start, busy = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - busy)
    params = mlp.init(jax.random.key(0), SIZES)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    temporary = temporary_bytes(steps)
    print_table(
        f"{steps} x {steps} plane, {size} parameters, {NUM_IMAGES} images "
        f"(from cold: {statistics.median(cold):.2f} s, temporary memory {temporary / 1e6:.2f} MB; "
        f"another centre, other directions: {sum('Compiling' in text for text in compiled)} "
        "programs compiled)",
        ["variant", "s", "CPU s", "slice_2d / it", "the same in CPU time"],
        [
            [
                name,
                statistics.median(wall[name]),
                statistics.median(cpu[name]),
                median_ratio(wall["slice_2d"], wall[name]),
                median_ratio(cpu["slice_2d"], cpu[name]),
            ]
            for name in variants
        ],
    )
    if "loss-landscapes" in variants:
        ratio = statistics.median(cold) / statistics.median(wall["loss-landscapes"])
        print(f"The first plane of a process, compiling: {ratio:.2f} of loss-landscapes.")


if __name__ == "__main__":
    main()
