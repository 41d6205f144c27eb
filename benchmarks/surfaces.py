"""Many Adam runs on the ravine: one vmapped program against loops."""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import optimizers
from jaxopt_tut.landscape import descend, surfaces

NUM_STEPS, LEARNING_RATE = 200, 0.1


def starts(num_runs: int) -> np.ndarray:
    lower, upper = surfaces.ravine.domain
    return np.random.default_rng(0).uniform(lower, upper, (num_runs, 2)).astype(np.float32)


def one_program(points):
    run = jax.jit(
        jax.vmap(
            lambda p: descend(
                surfaces.ravine.fun, p, optimizers.adam(LEARNING_RATE), NUM_STEPS
            ).values[-1]
        )
    )
    return lambda: jax.block_until_ready(run(points))


def python_loop(points):
    """One jitted step, called from Python for every run and every step."""
    adam = optimizers.adam(LEARNING_RATE)

    @jax.jit
    def step(w, state):
        updates, state = adam.update(jax.grad(surfaces.ravine.fun)(w), state, w)
        return w + updates, state

    def run():
        for point in points:
            w, state = jnp.asarray(point), adam.init(jnp.asarray(point))
            for _ in range(NUM_STEPS):
                w, state = step(w, state)
        jax.block_until_ready(w)

    return run


def batched_torch(points):
    """All runs as one batch; every step is eager, as PyTorch's is."""
    import torch

    def run():
        w = torch.tensor(points, requires_grad=True)
        adam = torch.optim.Adam([w], lr=LEARNING_RATE)
        for _ in range(NUM_STEPS):
            adam.zero_grad()
            loss = torch.tanh(w[:, 0]) ** 2 + 0.01 * w[:, 0].abs() + torch.sigmoid(w[:, 1])
            loss.sum().backward()
            adam.step()

    return run


def main(quick: bool = False) -> None:
    num_runs, num_loops = (1_000, 5) if quick else (10_000, 20)
    points = starts(num_runs)
    variants = {"one vmapped program": one_program(points)}
    try:
        variants["torch, batched"] = batched_torch(points)
        variants["torch, batched"]()
    except ImportError:
        print("PyTorch is not installed.")
        variants.pop("torch, batched")
    start = time.perf_counter()
    variants["one vmapped program"]()
    compile_seconds = time.perf_counter() - start
    seconds = interleaved(variants, rounds=3 if quick else 7)
    # The loop is so slow that it gets a few of the runs only; its time is scaled up.
    loop = interleaved({"loop": python_loop(points[:num_loops])}, rounds=3)["loop"]
    per_run_step = {
        name: statistics.median(times) / (num_runs * NUM_STEPS) for name, times in seconds.items()
    }
    per_run_step["python loop of jitted steps"] = statistics.median(loop) / (num_loops * NUM_STEPS)
    ours = per_run_step["one vmapped program"]
    ratios = {
        name: median_ratio(seconds[name], seconds["one vmapped program"])
        if name in seconds
        else value / ours
        for name, value in per_run_step.items()
    }
    print_table(
        f"Adam on the ravine, {num_runs} runs x {NUM_STEPS} steps "
        f"(first call, compiling: {compile_seconds:.1f} s)",
        ["variant", "run-steps / s", "times slower than one program"],
        [[name, 1 / value, ratios[name]] for name, value in per_run_step.items()],
    )


if __name__ == "__main__":
    main()
