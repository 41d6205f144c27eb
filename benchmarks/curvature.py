"""Products with curvature matrices, against gradients, hand-written loops and PyTorch's libraries.

The tutorial's network (784-512-256-256-128-10) and a small CNN with BatchNorm, on 1000 images in
chunks of 500. Each section is a function that returns what takes turns and the ratios to print;
CPU times are from a process on one core, where PyTorch's threads cost nothing.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.measure import both_clocks, median_ratio, print_table
from jaxopt_tut.curvature import Operator, gauss_newton, hessian, linear_map, top_eigenpairs
from jaxopt_tut.curvature.lanczos import begin, extend_in_place
from jaxopt_tut.models import mlp
from jaxopt_tut.vectors import ravel

IMAGES, CHUNK = 1000, 500
STEPS = 12  # of Lanczos, in what is compared with other libraries
PARAMETERS, BASIS = 633_226, 60  # of the tutorial's network, and vectors that are kept
SMALL = (28 * 28 // 16, 32, 16, 10)  # of 2298 parameters, on images of 7 x 7


class Ratio(NamedTuple):
    """A row of the table: one variant by another, and what it should be at most."""

    name: str
    ours: str
    other: str
    bar: float


class Section(NamedTuple):
    """Variants that take turns, and the ratios to print of them."""

    variants: dict[str, Callable[[], object]]
    ratios: list[Ratio]
    rounds: int


def images_and_labels(num_pixels=784, num_images=IMAGES):
    images = jax.random.normal(jax.random.key(1), (num_images, num_pixels))
    return images, jax.random.randint(jax.random.key(2), (num_images,), 0, 10)


def output_loss(logits, batch):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))


def logits(params, batch):
    return mlp.apply(params, batch[0])


def loss(params, batch):
    return output_loss(logits(params, batch), batch)


def done(function: Callable[..., object], *args: object) -> Callable[[], object]:
    return lambda: jax.block_until_ready(function(*args))


def chunks(batch):
    """Cut data into two halves: of 500 images, unless in a hurry."""
    half = len(batch[0]) // 2
    return [tuple(leaf[:half] for leaf in batch), tuple(leaf[half:] for leaf in batch)]


def looped(function: Callable[..., object], *args: object, batch) -> Callable[[], object]:
    """Sum a compiled function over chunks as one writes it by hand."""
    parts = chunks(batch)
    add = jax.jit(lambda total, more: jax.tree.map(jnp.add, total, more), donate_argnums=0)
    scale = jax.jit(lambda total: jax.tree.map(lambda leaf: leaf / len(parts), total))

    def run():
        total = function(*args, parts[0])
        for part in parts[1:]:
            total = add(total, function(*args, part))
        return jax.block_until_ready(scale(total))

    return run


def lanczos_steps(op: Operator, start: jax.Array, num_products: int) -> Callable[[], object]:
    """Search for some eigenpairs with so many products, and no more."""
    options: dict = {"basis": num_products, "max_products": num_products, "start": start}
    key = jax.random.key(4)
    return lambda: jax.block_until_ready(top_eigenpairs(op, num_products // 3, key, **options))


def tutorial_network(quick: bool) -> Section:
    """Products with the Hessian of the tutorial's network beside its gradient."""
    params, batch = jax.jit(mlp.init)(jax.random.key(0)), images_and_labels()
    op = hessian(loss, params, batch, batch_size=CHUNK)
    vector = jax.random.normal(jax.random.key(3), (op.size,))
    variants = {
        "gradient": looped(jax.jit(jax.grad(loss)), params, batch=batch),
        "product": done(op.matvec, vector),
        "cached": done(op.cached().matvec, vector),
        "eigenpairs": lanczos_steps(op, vector, STEPS),
        "as many products": lambda: [
            jax.block_until_ready(op.matvec(vector)) for _ in range(STEPS)
        ],
    }
    ratios = [
        Ratio("A2 network: product / gradient", "product", "gradient", 2.2),
        Ratio("A2 network: cached() / product", "cached", "product", 0.85),
        Ratio("A2 network: top_eigenpairs / its products", "eigenpairs", "as many products", 1.15),
    ]
    return Section(variants, ratios, 5 if quick else 21)


def cnn_with_batch_norm(quick: bool) -> Section:
    """The same for a CNN in flax nnx, beside a hand-written loop of compiled products."""
    from flax import nnx

    class Network(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List(
                [nnx.Conv(i, o, (3, 3), rngs=rngs) for i, o in ((1, 8), (8, 16))]
            )
            self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for o in (8, 16)])
            self.head = nnx.Linear(16 * 7 * 7, 10, rngs=rngs)

        def __call__(self, x):
            x = x.reshape(-1, 28, 28, 1)
            for conv, norm in zip(self.layers, self.norms, strict=True):
                x = nnx.max_pool(nnx.relu(norm(conv(x))), (2, 2), (2, 2))
            return self.head(x.reshape(x.shape[0], -1))

    def model_loss(model, batch):
        return output_loss(model(batch[0]), batch)

    model, batch = Network(nnx.Rngs(0)), images_and_labels(num_images=200 if quick else IMAGES)
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    plain = lambda params, batch: model_loss(nnx.merge(graph, params, rest, copy=True), batch)

    @jax.jit
    def by_hand(params, vector, batch):
        gradient = lambda params: jax.grad(plain)(params, batch)
        return jax.jvp(gradient, (params,), (vector,))[1]

    op = hessian(model_loss, model, batch, batch_size=len(batch[0]) // 2)
    vector = jax.random.normal(jax.random.key(3), (op.size,))
    direction = ravel(params)[1](vector)
    variants = {
        "gradient": looped(jax.jit(jax.grad(plain)), params, batch=batch),
        "product": done(op.matvec, vector),
        "cached": done(op.cached().matvec, vector),
        "by hand": looped(by_hand, params, direction, batch=batch),
    }
    ratios = [
        Ratio("CNN: product / gradient", "product", "gradient", 2.2),
        Ratio("CNN: cached() / product", "cached", "product", 0.85),
        Ratio("CNN: product / loop of compiled products", "product", "by hand", 1.15),
    ]
    return Section(variants, ratios, 3 if quick else 11)


PEERS = ("torch", "curvlinops", "hessian_eigenthings")


def peers(quick: bool) -> Section:
    """Products of hessian-eigenthings and curvlinops with the same network and images."""
    import curvlinops
    import hessian_eigenthings as eigenthings
    import torch
    from curvlinops.papyan2020traces.spectrum import fast_lanczos
    from hessian_eigenthings.algorithms.lanczos import lanczos_tridiagonal
    from torch import nn

    params, batch = jax.jit(mlp.init)(jax.random.key(0)), images_and_labels()
    hess = hessian(loss, params, batch, batch_size=CHUNK)
    ggn = gauss_newton(logits, output_loss, params, batch, batch_size=CHUNK)
    vector = jax.random.normal(jax.random.key(3), (hess.size,))
    layers = []
    for layer in params:
        linear = nn.Linear(*layer["kernel"].shape)
        linear.weight.data = torch.tensor(layer["kernel"].T.tolist())
        linear.bias.data = torch.tensor(layer["bias"].tolist())
        layers += [linear, nn.ReLU()]
    model, criterion = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    data: Any = [tuple(torch.tensor(leaf.tolist()) for leaf in part) for part in chunks(batch)]
    weights = list(model.parameters())
    direction = torch.randn(hess.size)
    thing = eigenthings.HessianOperator(model, data, eigenthings.supervised_loss(criterion))
    thing_ggn = eigenthings.GGNOperator(
        model,
        data,
        eigenthings.supervised_forward,
        eigenthings.supervised_loss_of_output(criterion),
    )
    quiet: dict = {"check_deterministic": False}
    linop = curvlinops.HessianLinearOperator(model, criterion, weights, data, **quiet)
    linop_ggn = curvlinops.GGNLinearOperator(model, criterion, weights, data, **quiet)
    variants = {
        "product": done(hess.matvec, vector),
        "eigenthings": lambda: thing.matvec(direction),
        "Lanczos": lanczos_steps(hess, vector, STEPS),
        "eigenthings Lanczos": lambda: lanczos_tridiagonal(thing, direction, STEPS),
        "curvlinops Lanczos": lambda: fast_lanczos(linop, STEPS),
        "curvlinops": lambda: linop @ direction,
        "Gauss-Newton": done(ggn.matvec, vector),
        "eigenthings GGN": lambda: thing_ggn.matvec(direction),
        "curvlinops GGN": lambda: linop_ggn @ direction,
    }
    ratios = [
        Ratio("Hessian product / hessian-eigenthings", "product", "eigenthings", 0.65),
        Ratio("Hessian product / curvlinops", "product", "curvlinops", 0.5),
        Ratio("12 Lanczos steps / hessian-eigenthings", "Lanczos", "eigenthings Lanczos", 0.75),
        Ratio("12 Lanczos steps / curvlinops", "Lanczos", "curvlinops Lanczos", 0.6),
        Ratio("Gauss-Newton product / hessian-eigenthings", "Gauss-Newton", "eigenthings GGN", 0.6),
        Ratio("Gauss-Newton product / curvlinops", "Gauss-Newton", "curvlinops GGN", 0.6),
    ]
    return Section(variants, ratios, 5 if quick else 21)


def lanczos(quick: bool) -> Section:
    """What Lanczos takes besides its products, which here are those of a diagonal."""
    from matfree.decomp import tridiag_sym

    diagonal = jnp.linspace(0.0, 1.0, PARAMETERS // (100 if quick else 1)) ** 3
    op = linear_map(lambda vector, diagonal: diagonal * vector, diagonal, diagonal)
    start = jax.random.normal(jax.random.key(3), diagonal.shape)
    decompose = tridiag_sym(BASIS, reortho="full")
    theirs = jax.jit(lambda v, diagonal: decompose(lambda v: diagonal * v, v).J_small)
    variants = {
        "ours": lanczos_steps(op, start, BASIS),
        "matfree": done(theirs, start, diagonal),
    }
    name = f"Lanczos besides its products, {diagonal.size} x {BASIS} / matfree"
    return Section(variants, [Ratio(name, "ours", "matfree", 0.5)], 1 if quick else 3)


def temporary_vectors() -> float:
    """Return how many vectors a step of Lanczos keeps besides the basis while it runs."""
    vector = jax.ShapeDtypeStruct((PARAMETERS,), jnp.float32)
    state = jax.eval_shape(lambda v, key: begin(v, key, BASIS), vector, jax.random.key(0))
    step = extend_in_place.lower(state.basis, state._replace(basis=None), vector).compile()
    memory = step.memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes / (4 * PARAMETERS)


def dense(quick: bool) -> Section:
    """The whole matrix of a small network beside `jax.hessian`."""
    params = mlp.init(jax.random.key(0), SMALL)
    batch = images_and_labels(SMALL[0])
    op = hessian(loss, params, batch)
    vector, unravel = ravel(params)
    plain = jax.jit(jax.hessian(lambda vector, batch: loss(unravel(vector), batch)))
    variants = {"to_dense": done(op.to_dense), "jax.hessian": done(plain, vector, batch)}
    ratios = [Ratio(f"to_dense() of {op.size} / jax.hessian", "to_dense", "jax.hessian", 0.6)]
    return Section(variants, ratios, 1 if quick else 5)


SECTIONS = {
    section.__name__: section
    for section in (tutorial_network, cnn_with_batch_norm, peers, lanczos, dense)
}


def second_call() -> int:
    """Count the programs that are compiled for other parameters and data of the same shapes."""
    compiled = []

    def listen(event, duration_secs, **_):
        if "backend_compile" in event:
            compiled.append((event, duration_secs))

    def use(seed):
        params = mlp.init(jax.random.key(seed), SMALL)
        images, labels = images_and_labels(SMALL[0])
        batch = (images + seed, labels)
        for op in (
            hessian(loss, params, batch, batch_size=300),
            gauss_newton(logits, output_loss, params, batch, batch_size=300).cached(),
        ):
            op.matvec(params)
            op.matvec(jnp.full(op.size, seed + 1.0))

    use(0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    use(1)
    return len(compiled)


def measured(name: str, quick: bool) -> list[tuple[str, float, float, float, float]]:
    """Return of each ratio its name, by both clocks, seconds of ours, and its bar."""
    variants, ratios, rounds = SECTIONS[name](quick)
    wall, cpu = both_clocks(variants, rounds)
    return [
        (
            ratio.name,
            median_ratio(wall[ratio.ours], wall[ratio.other]),
            median_ratio(cpu[ratio.ours], cpu[ratio.other]),
            sorted(cpu[ratio.ours])[rounds // 2] * 1e3,
            ratio.bar,
        )
        for ratio in ratios
    ]


def on_one_core(names: list[str], quick: bool) -> dict[str, list]:
    """Measure in a process that has one core from its start on."""
    code = (
        "import os, sys\n"
        "if hasattr(os, 'sched_setaffinity'):\n"
        "    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
        "import json\n"
        "from benchmarks import curvature\n"
        f"print(json.dumps({{n: curvature.measured(n, {quick}) for n in {names}}}))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def main(quick: bool = False, names: list[str] | None = None) -> None:
    names = list(SECTIONS) if names is None else names
    if "peers" in names and not all(map(find_spec, PEERS)):
        print(f"{', '.join(PEERS)} are not all installed: their rows are left out.")
        names = [name for name in names if name != "peers"]
    pinned = on_one_core(names, quick)
    here = pinned if quick else {name: measured(name, quick) for name in names}
    rows = []
    for name in names:
        for (title, wall, *_), (_, _, cpu, milliseconds, bar) in zip(
            here[name], pinned[name], strict=True
        ):
            rows.append([title, cpu, wall, milliseconds, f"<= {bar}"])
    header = ["", "CPU, one core", "wall", "CPU ms", "bar"]
    print_table("Curvature: medians of ratios", header, rows)
    print(f"temporary memory of a step of Lanczos: {temporary_vectors():.2f} vectors (bar 4)")
    print(f"second call with other parameters and data: {second_call()} programs compiled")


if __name__ == "__main__":
    main(quick="--quick" in sys.argv, names=[n for n in sys.argv[1:] if n in SECTIONS] or None)
