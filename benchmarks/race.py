"""A race of twelve optimizers on six problems, from nothing and from a cache, and a PyTorch loop.

12 optimizers x 6 problems x 20 rates x 10 seeds x 300 steps are 14 400 runs, 4.3 million steps.
Each race is a process of its own. Processor seconds are those of all its threads: on a machine that
is used by others, too, they say more than the clock. `--quick` has two rates.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from itertools import pairwise

import jax
import numpy as np

from benchmarks.measure import print_table
from jaxopt_tut.optimizers import adam
from jaxopt_tut.training import compilation_cache, problems, race

RATES, SEEDS, STEPS, EVERY = 20, 10, 300, 10
HIDDEN, BATCH = (32, 32), 32


def race_in_a_process(num_rates: int, cache: str) -> dict[str, float]:
    """Race all on all, with compiled programs kept in a folder."""
    code = f"""
import json, resource, time
import jax
from experiments.training._entrants import ENTRANTS, log_rates
from jaxopt_tut.training import compilation_cache, problems, race
compilation_cache({cache!r})
start = time.perf_counter()
table = race(ENTRANTS, problems.toy_six(), learning_rates=log_rates({num_rates}), seeds={SEEDS},
             steps={STEPS}, key=jax.random.key(0), evaluate_every={EVERY}, progress=False)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps(dict(
    runs=table.losses[..., 0].size, seconds=time.perf_counter() - start,
    processor=used.ru_utime + used.ru_stime, gigabytes=used.ru_maxrss / 2**20,
)))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def network_race(num_rates: int) -> tuple[float, int]:
    """Return the processor seconds of a race of Adam, compiling included, and its steps."""
    start = time.process_time()
    rates = np.logspace(-4, 1, num_rates)
    race(
        {"Adam": adam}, problems.relu_network(HIDDEN, batch_size=BATCH), learning_rates=rates,
        seeds=SEEDS, steps=STEPS, key=jax.random.key(0), evaluate_every=EVERY, time_steps=False,
        progress=False,
    )  # fmt: skip
    return time.process_time() - start, num_rates * SEEDS * STEPS


def torch_loop(num_runs: int) -> tuple[float, int]:
    """Return the processor seconds of the same runs, one after another, and their steps."""
    import torch

    torch.set_num_threads(1)  # more only spin at this size
    problem = problems.relu_network(HIDDEN, batch_size=BATCH)
    images, labels = map(torch.from_numpy, jax.tree.leaves(problem.data))
    judging, answers = map(torch.from_numpy, jax.tree.leaves(problem.validation))
    labels, answers = labels.long(), answers.long()
    cross_entropy = torch.nn.functional.cross_entropy

    def one_run(rate: float) -> None:
        layers = []
        for fan_in, fan_out in pairwise((images.shape[1], *HIDDEN, 10)):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
        order = torch.randperm(len(labels))
        for step in range(STEPS):
            at = (step * BATCH) % (len(labels) - BATCH)
            index = order[at : at + BATCH]
            loss = cross_entropy(model(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if (step + 1) % EVERY == 0:
                with torch.no_grad():
                    cross_entropy(model(judging), answers).item()

    one_run(1e-3)  # the first call of each operation is slow
    start = time.process_time()
    for _ in range(num_runs):
        one_run(1e-3)
    return time.process_time() - start, num_runs * STEPS


def main(quick: bool = False) -> None:
    num_rates = 2 if quick else RATES
    with tempfile.TemporaryDirectory() as cache:
        found = {name: race_in_a_process(num_rates, cache) for name in ("no cache", "warm cache")}
    cold = found["no cache"]["processor"]
    rows = [
        [
            name,
            f"{r['runs']:.0f}",
            r["processor"],
            r["processor"] / cold,
            r["seconds"],
            r["gigabytes"],
        ]
        for name, r in found.items()
    ]
    header = ["compiled programs", "runs", "CPU s", "of the first", "s", "GB"]
    print_table(f"12 optimizers on 6 problems, {STEPS} steps", header, rows)

    with tempfile.TemporaryDirectory() as cache:
        compilation_cache(cache)
        found = {name: network_race(num_rates) for name in ("compiling included", "warm cache")}
    try:
        used, taken = torch_loop(4 if quick else 20)
    except ImportError:
        print("PyTorch is not installed.")
        used, taken = math.nan, 1
    rows = [["PyTorch loop", 1e6 * used / taken, 1.0]]
    for name, (seconds, steps) in found.items():
        rows += [[f"race, {name}", 1e6 * seconds / steps, (used / taken) / (seconds / steps)]]
    header = ["Adam on a network of 2986 parameters", "CPU us a step", "PyTorch / this"]
    print_table(f"One optimizer on one problem, {num_rates * SEEDS} runs", header, rows)


if __name__ == "__main__":
    main()
