"""What `autodiff.zero_safe` costs: `jax.grad` of a function with and without it.

Run: `python -m benchmarks zero_safe [--quick]`. The two take turns, so a busy machine slows both;
the table gives medians and the median ratio within a round. Compile time is all that lies between
the Python function and its first result but the run itself: trace, lowering and XLA.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from benchmarks.autodiff import PROBLEMS, fresh
from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut.autodiff import zero_safe

RUN_TARGET, COMPILE_TARGET = 1.1, 1.3


def unrolled(steps: int = 100) -> tuple[Callable, tuple]:
    """Return the loss after steps of `optax.adam`, as a function of data weights."""
    keys = jax.random.split(jax.random.key(4), 3)
    x, v = jax.random.normal(keys[0], (1000, 100)), jax.random.normal(keys[1], (200, 100))
    truth = jax.random.normal(keys[2], (100,))
    y, t = jnp.sign(x @ truth), jnp.sign(v @ truth)

    def inner(w, z, x, y):
        return jnp.mean(jax.nn.sigmoid(z) * jax.nn.softplus(-y * (x @ w)))

    def outer(update: Callable, z, x, y, v, t):
        def step(carry, _):
            w, state = carry
            updates, state = update(jax.grad(inner)(w, z, x, y), state, w)
            return (optax.apply_updates(w, updates), state), None

        w = jnp.zeros(x.shape[1])
        (w, _), _ = jax.lax.scan(step, (w, optimizer.init(w)), None, length=steps)
        return jnp.mean(jax.nn.softplus(-t * (v @ w)))

    optimizer = optax.adam(1e-2)
    return outer, (jnp.zeros(1000), x, y, v, t)


def variants(name: str) -> tuple[dict[str, Callable], tuple]:
    """Return the gradient plain and safe, and its arguments."""
    if name == "optax.adam, T = 100":
        outer, args = unrolled()
        update = optax.adam(1e-2).update
        plain = lambda *args: outer(update, *args)
        safe = lambda *args: outer(zero_safe(update), *args)
        return {"plain": jax.grad(plain), "safe": jax.grad(safe)}, args
    loss, args = PROBLEMS[name]()
    return {"plain": jax.grad(loss), "safe": jax.grad(zero_safe(loss))}, args


def rows(name: str, rounds: int) -> list[list[object]]:
    functions, args = variants(name)
    compiled = {}

    def build(variant: str) -> None:
        jax.clear_caches()
        compiled[variant] = jax.jit(fresh(functions[variant])).lower(*args).compile()

    builds = interleaved({v: lambda v=v: build(v) for v in functions}, max(3, rounds // 5))
    runs = interleaved(
        {v: lambda v=v: jax.block_until_ready(compiled[v](*args)) for v in functions}, rounds
    )
    table = []
    for what, seconds, target in (("run", runs, RUN_TARGET), ("compile", builds, COMPILE_TARGET)):
        middle = {v: 1e3 * sorted(seconds[v])[len(seconds[v]) // 2] for v in functions}
        ratio = median_ratio(seconds["safe"], seconds["plain"])
        table.append([name, f"{what} (ms)", middle["safe"], middle["plain"], ratio, target])
    return table


def main(quick: bool = False) -> None:
    rounds = 15 if quick else 60
    names = ["mlp", "cnn", "attention", "optax.adam, T = 100"]
    started = time.perf_counter()
    table = [row for name in names for row in rows(name, rounds)]
    print_table(
        f"zero_safe beside plain jax.grad ({time.perf_counter() - started:.0f} s)",
        ["problem", "quantity", "safe", "plain", "ratio", "target"],
        table,
    )


if __name__ == "__main__":
    main()
