"""Our engine's gradient against `jax.grad`: run, trace and compile time, memory and FLOPs.

Run: `python -m benchmarks autodiff [--quick]`. Every round measures both engines in turn, so a
busy machine slows both; the table gives the medians and the ratio ours / JAX's.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.measure import print_table
from jaxopt_tut import autodiff


class Row(NamedTuple):
    """One line of the table; `ratio` is ours over JAX's."""

    problem: str
    quantity: str
    ours: float
    theirs: float
    target: float | None

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else float("nan")


def mlp(width: int = 256, depth: int = 6) -> tuple[Callable, tuple]:
    keys = jax.random.split(jax.random.key(0), depth + 1)
    scale = width**-0.5
    weights = [scale * jax.random.normal(key, (width, width)) for key in keys[:-1]]
    params = [(weight, jnp.zeros(width)) for weight in weights]
    x = jax.random.normal(keys[-1], (256, width))

    def loss(params: Any, x: Any) -> Any:
        for weight, bias in params:
            x = jax.nn.relu(x @ weight + bias)
        return jnp.mean(jax.nn.logsumexp(x, -1) - x[:, 0])

    return loss, (params, x)


def cnn(size: int = 28) -> tuple[Callable, tuple]:
    keys = jax.random.split(jax.random.key(1), 4)
    params = {
        "first": 0.3 * jax.random.normal(keys[0], (3, 3, 1, 16)),
        "second": 0.1 * jax.random.normal(keys[1], (3, 3, 16, 32)),
        "dense": 0.03 * jax.random.normal(keys[2], ((size // 4) ** 2 * 32, 10)),
        "scale": jnp.ones(16),
        "shift": jnp.zeros(16),
    }
    x = jax.random.normal(keys[3], (32, size, size, 1))

    def conv(x: Any, kernel: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)

    def pool(x: Any) -> Any:
        window = (1, 2, 2, 1)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    def loss(params: Any, x: Any) -> Any:
        h = conv(x, params["first"])
        mean, var = jnp.mean(h, (0, 1, 2)), jnp.var(h, (0, 1, 2))
        h = (h - mean) * jax.lax.rsqrt(var + 1e-5) * params["scale"] + params["shift"]
        h = pool(jax.nn.relu(h))
        h = pool(jax.nn.relu(conv(h, params["second"])))
        logits = h.reshape(h.shape[0], -1) @ params["dense"]
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

    return loss, (params, x)


def attention(layers: int = 4, width: int = 64, heads: int = 4) -> tuple[Callable, tuple]:
    keys = jax.random.split(jax.random.key(2), layers + 1)

    def block(key: Any) -> dict[str, Any]:
        parts = jax.random.split(key, 4)
        scale = width**-0.5
        return {
            "qkv": scale * jax.random.normal(parts[0], (width, 3 * width)),
            "out": scale * jax.random.normal(parts[1], (width, width)),
            "up": scale * jax.random.normal(parts[2], (width, 4 * width)),
            "down": scale * jax.random.normal(parts[3], (4 * width, width)),
            "scale": jnp.ones(width),
        }

    params = [block(key) for key in keys[:-1]]
    x = jax.random.normal(keys[-1], (8, 32, width))

    def norm(x: Any, scale: Any) -> Any:
        mean = jnp.mean(x, -1, keepdims=True)
        var = jnp.var(x, -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-6) * scale

    def loss(params: Any, x: Any) -> Any:
        for layer in params:
            h = norm(x, layer["scale"]) @ layer["qkv"]
            q, k, v = jnp.split(h.reshape(*h.shape[:2], heads, -1), 3, -1)
            weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5)
            h = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
            x = x + h @ layer["out"]
            x = x + jax.nn.gelu(norm(x, layer["scale"]) @ layer["up"]) @ layer["down"]
        return jnp.mean(x**2)

    return loss, (params, x)


def rnn(steps: int = 200, width: int = 64) -> tuple[Callable, tuple]:
    keys = jax.random.split(jax.random.key(3), 3)
    params = {
        "recurrent": width**-0.5 * jax.random.normal(keys[0], (width, width)),
        "input": width**-0.5 * jax.random.normal(keys[1], (width, width)),
        "bias": jnp.zeros(width),
    }
    xs = jax.random.normal(keys[2], (steps, 16, width))

    def loss(params: Any, xs: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            h = jnp.tanh(h @ params["recurrent"] + x @ params["input"] + params["bias"])
            return h, jnp.mean(h)

        last, means = jax.lax.scan(step, jnp.zeros_like(xs[0]), xs)
        return jnp.mean(last**2) + jnp.sum(means)

    return loss, (params, xs)


PROBLEMS = {"mlp": mlp, "cnn": cnn, "attention": attention, "rnn 200": rnn}
ENGINES = {"ours": autodiff.grad, "jax": jax.grad}


def trace_seconds(fun: Callable, args: tuple) -> float:
    start = time.perf_counter()
    jax.jit(fun).trace(*args)
    return time.perf_counter() - start


def fresh(loss: Callable) -> Callable:
    """Wrap the loss in a new function, so that no cache knows it."""
    return lambda *args: loss(*args)


def compare_problem(name: str, rounds: int) -> list[Row]:
    loss, args = PROBLEMS[name]()
    cold: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    warm, run, build = ({engine: [] for engine in ENGINES} for _ in range(3))
    compiled = {}
    for k in range(max(3, rounds // 4)):
        for engine in sorted(ENGINES, reverse=bool(k % 2)):
            jax.clear_caches()
            cold[engine].append(trace_seconds(ENGINES[engine](fresh(loss)), args))
            warm[engine].append(trace_seconds(ENGINES[engine](fresh(loss)), args))
            if k < 3:
                lowered = jax.jit(ENGINES[engine](loss)).lower(*args)
                start = time.perf_counter()
                compiled[engine] = lowered.compile()
                build[engine].append(time.perf_counter() - start)
    for k in range(rounds):
        for engine in sorted(ENGINES, reverse=bool(k % 2)):
            start = time.perf_counter()
            jax.block_until_ready(compiled[engine](*args))
            run[engine].append(time.perf_counter() - start)
    middle = statistics.median
    rows = [
        _row(name, f"{label} (ms)", {e: 1e3 * middle(times[e]) for e in ENGINES}, target)
        for label, times, target in (
            ("run", run, 1.05),
            ("trace cold", cold, 1.0),
            ("trace warm", warm, 1.25),
            ("compile", build, 1.1),
        )
    ]
    costs = {engine: compiled[engine].cost_analysis() for engine in ENGINES}
    sizes = {engine: compiled[engine].memory_analysis() for engine in ENGINES}
    flops = {e: costs[e]["flops"] / 1e6 for e in ENGINES}
    moved = {e: costs[e]["bytes accessed"] / 1e6 for e in ENGINES}
    temporary = {e: sizes[e].temp_size_in_bytes / 1e6 for e in ENGINES}
    rows.append(_row(name, "MFLOP", flops, None))
    rows.append(_row(name, "bytes accessed (MB)", moved, None))
    rows.append(_row(name, "temporary memory (MB)", temporary, 1.1))
    return rows


def _row(problem: str, quantity: str, measured: dict[str, float], target: float | None) -> Row:
    return Row(problem, quantity, measured["ours"], measured["jax"], target)


def compare_high_order(rounds: int, order: int = 4) -> Row:
    def scalar(x: Any) -> Any:
        return jnp.sin(x) * jnp.exp(-(x**2)) / (1 + jnp.cosh(x)) + jnp.tanh(x * jnp.log(2 + x))

    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            jax.clear_caches()
            fun = fresh(scalar)
            for _ in range(order):
                fun = ENGINES[engine](fun)
            seconds[engine].append(trace_seconds(fun, (0.3,)))
    medians = {engine: 1e3 * statistics.median(seconds[engine]) for engine in ENGINES}
    return _row("scalar", f"trace of derivative {order} (ms)", medians, 0.5)


def micrograd_size(rounds: int) -> list[Row]:
    """Time an expression of a few nodes and a chain, eagerly: build, evaluate, go back."""

    def expression(a: Any, b: Any) -> Any:
        c = a * b + b**3
        d = jax.lax.max(c + a, 0.0) * 3.0
        return d / 2.0 + 10.0 / (d + 1.0)

    def chain(x: Any) -> Any:
        for _ in range(10_000):
            x = jax.lax.sin(x)
        return x

    rows = []
    for name, fun, args in (("expression", expression, (2.0, 3.0)), ("chain 10000", chain, (1.0,))):
        build, back, theirs = [], [], []
        for _ in range(rounds):
            start = time.perf_counter()
            graph = autodiff.trace(fun)(*args)
            values = graph.evaluate(*args)
            middle = time.perf_counter()
            jax.block_until_ready(graph.backpropagate(values, 1.0))
            end = time.perf_counter()
            jax.block_until_ready(jax.grad(fun)(*args))
            theirs.append(time.perf_counter() - end)
            build.append(middle - start)
            back.append(end - middle)
        total = statistics.median(a + b for a, b in zip(build, back, strict=True))
        rows.append(
            Row(name, "build + backward (ms)", 1e3 * total, 1e3 * statistics.median(theirs), None)
        )
        rows.append(
            Row(name, "backward alone (ms)", 1e3 * statistics.median(back), float("nan"), None)
        )
    return rows


def main(quick: bool = False) -> None:
    rounds = 5 if quick else 40
    rows = [row for name in PROBLEMS for row in compare_problem(name, rounds)]
    rows.append(compare_high_order(3 if quick else 11))
    rows.extend(micrograd_size(2 if quick else 5))
    print_table(
        "Our engine's gradient beside jax.grad",
        ["problem", "quantity", "ours", "jax", "ratio", "target"],
        [[*row[:4], row.ratio, row.target or ""] for row in rows],
    )


if __name__ == "__main__":
    main()
