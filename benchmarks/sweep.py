"""A sweep of small networks: strategies and devices against a loop in PyTorch, each its own way."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import surfaces
from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import optimizers
from jaxopt_tut.models import mlp
from jaxopt_tut.training import Map, Vmap, sweep, train
from jaxopt_tut.training.sweeps.devices import Devices
from jaxopt_tut.training.sweeps.pairs import as_pairs
from jaxopt_tut.training.sweeps.planning import default_chunk
from jaxopt_tut.training.sweeps.program import Programs, trace
from jaxopt_tut.training.sweeps.strategies import lanes_of

WIDTHS, BATCH, NUM_BATCHES = (64, 64, 10), 64, 16


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_BATCHES, BATCH, WIDTHS[0])).astype(np.float32)
    return x, (x @ rng.normal(size=WIDTHS[::2]).astype(np.float32)).argmax(axis=-1)


def ours(num_steps: int):
    """Return one training as a function of its hyper-parameters."""
    x, y = data()
    batches = jnp.asarray(x), jnp.asarray(y, np.int32)

    def loss_fn(params, batch):
        logits = mlp.apply(params, batch[0])
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), batch[1][:, None], axis=1)
        return -jnp.mean(picked)

    def run(h, key):
        optimizer = optimizers.adam(h["rate"])
        params = mlp.init(key, WIDTHS)
        return train(loss_fn, params, optimizer, batches, num_steps=num_steps).losses[-1]

    return run


def torch_loop(rates: np.ndarray, num_seeds: int, num_steps: int):
    """Train one network after the other, as a script would."""
    import torch

    torch.set_num_threads(1)  # more make so small a network slower
    x, y = map(torch.tensor, data())

    def run():
        for rate in rates:
            for seed in range(num_seeds):
                torch.manual_seed(seed)
                layers = torch.nn.Linear(*WIDTHS[:2]), torch.nn.ReLU(), torch.nn.Linear(*WIDTHS[1:])
                model = torch.nn.Sequential(*layers)
                adam = torch.optim.Adam(model.parameters(), lr=float(rate))
                for step in range(num_steps):
                    adam.zero_grad()
                    at = step % NUM_BATCHES
                    torch.nn.functional.cross_entropy(model(x[at]), y[at]).backward()
                    adam.step()

    return run


def prepared(run, hyperparameters, keys, strategy, mesh=None):
    """Compile a strategy and return a call that runs the whole sweep by it."""
    pairs = as_pairs("sweep", hyperparameters, keys)
    programs, devices = Programs(trace(run, pairs), pairs), Devices(mesh)
    chunk = default_chunk(pairs.size)
    lanes = lanes_of(strategy, chunk)

    def job(at, device):
        return programs.run_chunk(
            lanes, *pairs.take(np.arange(at * chunk, (at + 1) * chunk)), device
        )

    return lambda: dict(devices.run(range(-(-pairs.size // chunk)), job))


def child(quick: bool) -> None:
    """Measure in a process of two devices, whatever ran before."""
    jax.config.update("jax_num_cpu_devices", 2)
    num_rates, num_seeds, num_steps = (4, 4, 100) if quick else (8, 8, 200)
    rates = np.logspace(-4, -1, num_rates, dtype=np.float32)
    keys = jax.random.split(jax.random.key(0), num_seeds)
    run, mesh = ours(num_steps), jax.make_mesh((2,), ("runs",))
    start = time.perf_counter()
    swept = sweep(run, {"rate": rates}, keys=keys)
    whole = time.perf_counter() - start
    # the candidates of `sweep` depend on the chunk: the chosen one may be another
    strategies = list(dict.fromkeys([Map(), Map(lanes=8), Vmap(), swept.strategy]))
    variants: dict[str, Callable[[], object]]
    variants = {repr(s): prepared(run, {"rate": rates}, keys, s) for s in strategies}
    chosen = repr(swept.strategy)
    on_two = f"{chosen}, two devices"
    variants[on_two] = prepared(run, {"rate": rates}, keys, swept.strategy, mesh)
    try:
        variants["torch loop"] = torch_loop(rates, num_seeds, num_steps)
        variants["torch loop"]()
    except ImportError:
        print("PyTorch is not installed.")
        variants.pop("torch loop")
    seconds = interleaved(variants, rounds=3 if quick else 5)
    steps = num_rates * num_seeds * num_steps
    slowest = "torch loop" if "torch loop" in seconds else repr(Map())
    print_table(
        f"{num_rates} rates x {num_seeds} seeds x {num_steps} Adam steps of a network of "
        f"{WIDTHS}, batches of {BATCH}",
        ["variant", "run-steps / s", f"times faster than {slowest}"],
        [
            [name, steps / statistics.median(times), median_ratio(seconds[slowest], times)]
            for name, times in seconds.items()
        ],
    )
    best = min(map(repr, strategies), key=lambda name: statistics.median(seconds[name]))
    print(f"chosen without a strategy: {chosen}, by {swept.timings}")
    over_best = median_ratio(seconds[chosen], seconds[best])
    print(f"its time over that of the best, {best}: {over_best:.2f}")
    print(
        f"two devices over one: {median_ratio(seconds[chosen], seconds[on_two]):.2f} times as fast"
    )
    print(f"whole call, which compiles, times and runs: {whole:.1f} s")


def surface_ratio(quick: bool) -> None:
    """Compare Adam from 100 starts on the ravine with one batch in PyTorch."""
    points = surfaces.starts(100)
    variants = {"one vmapped program": surfaces.one_program(points)}
    try:
        variants["torch, batched"] = surfaces.batched_torch(points)
        variants["torch, batched"]()
    except ImportError:
        return
    seconds = interleaved(variants, rounds=5 if quick else 15)
    ratio = median_ratio(seconds["torch, batched"], seconds["one vmapped program"])
    print(f"100 starts on a surface of two parameters: {ratio:.0f} times as fast as batched torch")


def main(quick: bool = False) -> None:
    command = [sys.executable, "-m", "benchmarks.sweep", *(["--quick"] if quick else [])]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    child("--quick" in sys.argv[1:])
    surface_ratio("--quick" in sys.argv[1:])
