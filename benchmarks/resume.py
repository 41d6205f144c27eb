"""What a run pays for checkpoints: how long a save stops it, its share of the time, and nothing.

The state is one of 10 MB, a network and its moments under Adam. The last table compares `fit`
without any of the newer arguments with the version of a commit before there were checkpoints; both
versions train in processes of their own, which take turns.
"""

import contextlib
import inspect
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import median_ratio, print_table
from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Checkpoint, fit, restore, verify
from jaxopt_tut.training.keeping import Keeper

SIZES = (784, 800, 300, 10)
"""870 000 weights: 10.4 MB with the two moments of Adam."""

BEFORE = "43b1ba2"
"""The last commit without checkpoints."""

INTERVAL = 60.0
"""Seconds, the default."""


def loss_fn(params, batch):
    logits = mlp.apply(params, batch[0])
    return jnp.mean((logits - batch[1]) ** 2)


class Run:
    """Runs of the same number of steps, with saves or without."""

    def __init__(self, num_steps: int):
        """Draw data and parameters."""
        rng = np.random.default_rng(0)
        x = rng.normal(size=(num_steps * 64, SIZES[0])).astype(np.float32)
        self.num_steps, self.data = num_steps, (x, x[:, :10])
        self.params = jax.jit(mlp.init, static_argnums=1)(jax.random.key(0), SIZES)
        self.adam = optimizers.adam(1e-3)

    def __call__(self, checkpoint: Checkpoint | None = None) -> None:
        result = fit(
            loss_fn, self.params, self.adam, self.data, batch_size=64, num_epochs=1,
            key=jax.random.key(0), checkpoint=checkpoint, progress=False,
        )  # fmt: skip
        jax.block_until_ready(result.params)


@contextlib.contextmanager
def timed_saves() -> Iterator[list[float]]:
    """Collect the seconds for which each save stops the loop.

    The steps that were sent off before, and a save that is still being written, are waited for
    first: by the clock there is none, and the loop waits for its steps with or without a save.
    """
    seconds, save = [], Keeper._save

    def timed(self, steps):
        self._saver.finish()
        jax.block_until_ready(self._run.loop.carry)
        start = time.perf_counter()
        save(self, steps)
        seconds.append(time.perf_counter() - start)

    Keeper._save = timed
    try:
        yield seconds
    finally:
        Keeper._save = save


def cost_of_saving(quick: bool) -> None:
    run = Run(num_steps=100 if quick else 300)
    blocked, cpu, wall = [], [], []
    for measured in (False, *[True] * (2 if quick else 5)):
        clocks = []
        for every in (None, run.num_steps // 5):  # without and with 5 saves on the way
            with tempfile.TemporaryDirectory() as directory, timed_saves() as seconds:
                options = None
                if every is not None:
                    options = Checkpoint(directory, every_steps=every, every_seconds=None)
                before = time.process_time(), time.perf_counter()
                run(options)
                clocks.append((time.process_time() - before[0], time.perf_counter() - before[1]))
                if every:  # the last one waits until all is on the disk, as nothing is left to do
                    blocked += seconds[:-1] if measured else []
                    num_saves = len(seconds)
        if measured:
            cpu.append((clocks[1][0] - clocks[0][0]) / num_saves)
            wall.append((clocks[1][1] - clocks[0][1]) / num_saves)
    rows = [
        ["the loop waits, ms (median)", 1e3 * statistics.median(blocked)],
        ["the loop waits, ms (longest)", 1e3 * max(blocked)],
        ["CPU-seconds", statistics.median(cpu)],
        ["seconds by which a run takes longer", statistics.median(wall)],
        [f"% of the time, every {INTERVAL:.0f} s", 100 * statistics.median(wall) / INTERVAL],
    ]
    print_table("A save of 10 MB (and 10 MB of the start of the epoch)", ["", "a save"], rows)


def cost_of_reading() -> None:
    run, like = Run(num_steps=20), {}
    with tempfile.TemporaryDirectory() as directory:
        run(Checkpoint(directory))
        like = {"params": run.params, "opt_state": run.adam.init(run.params)}
        rows = []
        for name, call in {
            "restore": lambda: jax.block_until_ready(restore(directory, like)),
            "verify": lambda: verify(directory),
        }.items():
            call()
            start = time.perf_counter()
            call()
            rows.append([name, 1e3 * (time.perf_counter() - start)])
    print_table("Reading 10 MB and comparing all digests", ["", "ms"], rows)


def serve() -> None:
    """Train once for each line that comes in, and answer with the CPU-seconds; a child process."""
    num_steps = int(sys.argv[1])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_steps * 32, 32)).astype(np.float32)
    data = (x, x.sum(1))
    loss_fn = lambda params, batch: jnp.mean((jnp.tanh(batch[0] @ params) - batch[1][:, None]) ** 2)
    adam, params = optimizers.adam(1e-3), 0.1 * jnp.ones((32, 16))

    def train():
        result = fit(
            loss_fn, params, adam, data, batch_size=32, num_epochs=4, key=jax.random.key(0),
            progress=False,
        )  # fmt: skip
        jax.block_until_ready(result.params)

    train()
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        train()
        print(time.process_time() - cpu, time.perf_counter() - wall, flush=True)


SERVE = """
import sys, time
import jax, jax.numpy as jnp, numpy as np
from jaxopt_tut import optimizers
from jaxopt_tut.training import fit
"""


def compared_with_before(quick: bool) -> None:
    """Let both versions train in turn, small steps, of which the host's part is large."""
    root = Path(__file__).parents[1]
    archive = subprocess.run(
        ["git", "-C", root, "archive", BEFORE, "jaxopt_tut"], capture_output=True, check=False
    )
    if archive.returncode:
        print(f"\nThere is no commit {BEFORE} here to compare with.")
        return
    code = SERVE + inspect.getsource(serve) + "serve()"
    steps = 800 if quick else 4000
    with tempfile.TemporaryDirectory() as old, contextlib.ExitStack() as stack:
        subprocess.run(["tar", "-x", "-C", old], input=archive.stdout, check=True)
        children = []
        for at in (root, old):
            command = [sys.executable, "-c", code, str(steps // 4)]
            child = subprocess.Popen(
                command, cwd=at, env={**os.environ, "PYTHONPATH": str(at)}, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
            children.append(stack.enter_context(child))
        seconds: list[list[tuple[float, ...]]] = [[], []]
        for _ in range(5 if quick else 25):
            for child, found in zip(children, seconds, strict=True):
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdin.write("train\n")
                child.stdin.flush()
                found.append(tuple(map(float, child.stdout.readline().split())))
        for child in children:
            assert child.stdin is not None
            child.stdin.close()
    rows = []
    for k, name in enumerate(("CPU-seconds", "seconds")):
        now, then = ([round[k] for round in one] for one in seconds)
        # what else runs on the machine only adds: the least is of the programs alone
        rows.append([name, 1e6 * min(now) / steps, min(now) / min(then), median_ratio(now, then)])
    print_table(
        f"`fit` without newer arguments, against {BEFORE}",
        ["", "least, us a step", "now / then", "median of rounds"],
        rows,
    )


def main(quick: bool = False) -> None:
    cost_of_saving(quick)
    cost_of_reading()
    compared_with_before(quick)


if __name__ == "__main__":
    main()
