"""Hypergradients: memory in sizes of the parameters, and time beside peers and plain JAX.

python -m benchmarks bilevel

optimistix, jaxopt, PyTorch and TorchOpt take part where they can be imported. A loop of PyTorch
that keeps its graph does by hand what TorchOpt does.
"""

import importlib
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut.bilevel import CG, AutoSolve, Forward, Implicit, Minimize, Unroll, argmin, hypergrad
from jaxopt_tut.optimizers import adam, lbfgs, sgd

NUM_PARAMS = 200_000
NUM_STEPS = 1024
LINEAR_TOL = 1e-6
INNER_TOL = 1e-4


def peer(name: str) -> Any:
    """Import a module, or return None where there is none."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def wide(y, z):
    """Return an inner loss of many parameters that itself needs next to no memory."""
    return 0.5 * jnp.mean((y - 1.0) ** 2) + jnp.exp(z) * jnp.mean(y**4)


def wide_outer(y, z):
    del z
    return jnp.mean((y - 0.5) ** 2)


def wide_hypergrad(mode, num_steps):
    def run(y0, z):
        value, grads, _ = hypergrad(
            wide_outer, wide, y0, z, solver=adam(1e-2), steps=num_steps, diff=mode
        )
        return value, grads

    return run


def optimistix_adam(num_steps, checkpoints):
    """Return optimistix' checkpointed adjoint of as many Adam steps, or None without it."""
    if (optx := peer("optimistix")) is None:
        return None
    solver = optx.OptaxMinimiser(optax.adam(1e-2, eps_root=1e-16), rtol=0.0, atol=0.0)
    adjoint = optx.RecursiveCheckpointAdjoint(checkpoints=checkpoints)

    def value(z, y0):
        found = optx.minimise(
            wide, solver, y0, z, max_steps=num_steps, adjoint=adjoint, throw=False
        )
        return wide_outer(found.value, z)

    return lambda y0, z: jax.value_and_grad(value)(z, y0)


def jaxopt_adam(num_steps):
    """Return jaxopt's implicit derivative after as many Adam steps, or None without it."""
    if (jaxopt := peer("jaxopt")) is None:
        return None
    solve = partial(jaxopt.linear_solve.solve_cg, tol=LINEAR_TOL, maxiter=10_000)
    implicit = {"implicit_diff": True, "implicit_diff_solve": solve}
    solver = jaxopt.OptaxSolver(
        fun=wide, opt=optax.adam(1e-2), maxiter=num_steps, tol=0.0, **implicit
    )
    value = lambda z, y0: wide_outer(solver.run(y0, z).params, z)
    return lambda y0, z: jax.value_and_grad(value)(z, y0)


def compiled(fun, *inputs):
    start = time.perf_counter()
    program = jax.jit(fun).lower(*inputs).compile()
    return program, time.perf_counter() - start


def temporary_bytes(program):
    analysis = program.memory_analysis()
    return float("nan") if analysis is None else analysis.temp_size_in_bytes


def memory_rows(num_steps):
    inputs = jnp.zeros(NUM_PARAMS), jnp.float32(-1.0)
    curvature = lambda y0, z: jax.jvp(
        lambda z: wide_hypergrad(Unroll(5), num_steps)(y0, z)[1]["z"], (z,), (z,)
    )
    variants = {
        f"Unroll(5), T = {num_steps}": wide_hypergrad(Unroll(5), num_steps),
        f"Unroll(5), T = {num_steps - 24}": wide_hypergrad(Unroll(5), num_steps - 24),
        "forward over Unroll(5)": curvature,
        "Unroll('sqrt')": wide_hypergrad(Unroll("sqrt"), num_steps),
        "Unroll()": wide_hypergrad(Unroll(), num_steps),
        f"Forward(), T = {num_steps}": wide_hypergrad(Forward(), num_steps),
        f"Forward(), T = {8 * num_steps}": wide_hypergrad(Forward(), 8 * num_steps),
        "Implicit(CG())": wide_hypergrad(Implicit(CG()), num_steps),
        "Implicit(AutoSolve())": wide_hypergrad(Implicit(AutoSolve()), num_steps),
        "optimistix, 16 checkpoints": optimistix_adam(num_steps, 16),
        "jaxopt, implicit": jaxopt_adam(num_steps),
    }
    for name, fun in variants.items():
        if fun is None:
            yield name, "not installed", ""
            continue
        program, seconds = compiled(fun, *inputs)
        yield name, temporary_bytes(program) / (4 * NUM_PARAMS), seconds


def timed(programs, inputs, rounds):
    """Return seconds of every call of compiled programs, by name."""
    return interleaved(
        {
            name: lambda program=program: jax.block_until_ready(program(*inputs))
            for name, program in programs.items()
        },
        rounds,
    )


def pair_rows(functions, rounds):
    """Time programs on the wide problem beside the last of them, a peer's or `None`."""
    inputs = jnp.zeros(NUM_PARAMS), jnp.float32(-1.0)
    programs = {name: compiled(fun, *inputs)[0] for name, fun in functions.items() if fun}
    seconds = timed(programs, inputs, rounds)
    base = seconds.get(list(functions)[-1])
    for name in functions:
        if row := seconds.get(name):
            ratio = median_ratio(row, base) if base else ""
            yield name, 1e3 * statistics.median(row), ratio
        else:
            yield name, "not installed", ""


def compile_rows():
    """Compile short and long loops in turns."""
    inputs = jnp.zeros(NUM_PARAMS), jnp.float32(-1.0)
    modes = {
        "Unroll()": Unroll(),
        "Unroll('sqrt')": Unroll("sqrt"),
        "Unroll(5)": Unroll(5),
        "Forward()": Forward(),
        "Implicit()": Implicit(),
    }
    for name, mode in modes.items():
        short, long = (
            min(compiled(wide_hypergrad(mode, count), *inputs)[1] for _ in range(3))
            for count in (32, 32**2)
        )
        yield name, short, long, long / short


class Case(NamedTuple):
    """An inner problem in JAX and in PyTorch: `f(y, z, data)`, `outer(y, data)`.

    The data are two halves: the first is learned from, the second judges.
    """

    f: Callable
    outer: Callable
    torch_f: Callable
    torch_outer: Callable
    y0: Any
    z: Any
    data: Any
    rate: float


def logistic(num_examples=1000, dim=100):
    """Return a regression with one penalty to learn."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, num_examples, dim)).astype(np.float32)
    signs = np.sign(inputs @ rng.standard_normal(dim).astype(np.float32))

    def loss(y, inputs, signs):
        return jnp.mean(jnp.logaddexp(0.0, -signs * (inputs @ y)))

    def torch_loss(y, inputs, signs):
        return peer("torch").nn.functional.softplus(-signs * (inputs @ y)).mean()

    return Case(
        f=lambda y, z, data: loss(y, *data[0]) + 0.5 * jnp.exp(z) * jnp.sum(y**2),
        outer=lambda y, data: loss(y, *data[1]),
        torch_f=lambda y, z, data: torch_loss(y[0], *data[0]) + 0.5 * z.exp() * (y[0] ** 2).sum(),
        torch_outer=lambda y, data: torch_loss(y[0], *data[1]),
        y0=jnp.zeros(dim),
        z=jnp.float32(-3.0),
        data=list(zip(inputs, signs, strict=True)),
        rate=0.5,
    )


def weighted_mlp(num_examples=1000, sizes=(100, 128, 10)):
    """Return a network whose every example has a weight to learn."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    inputs = draw(2, num_examples, sizes[0])
    labels = rng.integers(sizes[-1], size=(2, num_examples))

    def losses(y, inputs, labels):
        logits = jnp.tanh(inputs @ y[0]) @ y[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)

    def torch_losses(y, inputs, labels):
        logits = (inputs @ y[0]).tanh() @ y[1]
        return peer("torch").nn.functional.cross_entropy(logits, labels, reduction="none")

    return Case(
        f=lambda y, z, data: jnp.mean(jax.nn.sigmoid(z) * losses(y, *data[0])),
        outer=lambda y, data: jnp.mean(losses(y, *data[1])),
        torch_f=lambda y, z, data: (z.sigmoid() * torch_losses(y, *data[0])).mean(),
        torch_outer=lambda y, data: torch_losses(y, *data[1]).mean(),
        y0=[draw(a, b) / np.sqrt(a, dtype=np.float32) for a, b in pairwise(sizes)],
        z=jnp.zeros(num_examples),
        data=list(zip(inputs, labels, strict=True)),
        rate=0.5,
    )


def hypergrad_of(case, num_steps, mode, solver=None, tol=None):
    def run(z, data):
        f, outer = lambda y, z: case.f(y, z, data), lambda y, _: case.outer(y, data)
        solver_ = solver or sgd(case.rate)
        options = {"solver": solver_, "steps": num_steps, "diff": mode, "tol": tol}
        return hypergrad(outer, f, case.y0, z, **options)[:2]

    return run


def by_hand(case, num_steps):
    def descend(y, z, data):
        return jax.tree.map(lambda a, g: a - case.rate * g, y, jax.grad(case.f)(y, z, data))

    def value(z, data):
        step = lambda y, _: (descend(y, z, data), None)
        return case.outer(jax.lax.scan(step, case.y0, length=num_steps)[0], data)

    return jax.value_and_grad(value)


def forward_pass(case, num_steps):
    def run(z, data):
        f = lambda y, z: case.f(y, z, data)
        return case.outer(argmin(f, case.y0, z, solver=sgd(case.rate), steps=num_steps).y, data)

    return run


def converged_peers(case):
    """Return the implicit derivatives of jaxopt and optimistix, where they are installed."""
    found = {}
    if jaxopt := peer("jaxopt"):

        def jaxopt_value(z, data):
            solver = jaxopt.LBFGS(case.f, maxiter=1000, tol=INNER_TOL)
            return case.outer(solver.run(case.y0, z, data).params, data)

        found["jaxopt, L-BFGS, implicit"] = jax.value_and_grad(jaxopt_value)
    if optx := peer("optimistix"):

        def optimistix_value(z, data):
            f = lambda y, args: case.f(y, *args)
            solver = optx.BFGS(rtol=INNER_TOL, atol=INNER_TOL)
            return case.outer(optx.minimise(f, solver, case.y0, (z, data), throw=False).value, data)

        found["optimistix, BFGS, implicit"] = jax.value_and_grad(optimistix_value)
    return found


def torch_calls(case, num_steps):
    """Return hypergradients of PyTorch, by hand and of TorchOpt, where they are installed."""
    if (torch := peer("torch")) is None:
        return {}
    tensor = lambda leaf: torch.tensor(np.asarray(leaf))
    data = jax.tree.map(tensor, case.data)
    start = [tensor(leaf) for leaf in jax.tree.leaves(case.y0)]

    def by_hand(y, grads, state):
        return [a - case.rate * g for a, g in zip(y, grads, strict=True)], state

    def run(step, init):
        z = tensor(case.z).requires_grad_()
        y = [leaf.clone().requires_grad_() for leaf in start]
        state = init(y)
        for _ in range(num_steps):
            grads = torch.autograd.grad(case.torch_f(y, z, data), y, create_graph=True)
            y, state = step(y, grads, state)
        return torch.autograd.grad(case.torch_outer(y, data), z)[0]

    calls = {"PyTorch, loop that keeps its graph": partial(run, by_hand, lambda _: None)}
    if torchopt := peer("torchopt"):
        transformation = torchopt.sgd(lr=case.rate)

        def theirs(y, grads, state):
            updates, state = transformation.update(list(grads), state, inplace=False)
            return torchopt.apply_updates(y, updates, inplace=False), state

        calls["TorchOpt"] = partial(run, theirs, transformation.init)
    return calls


def time_rows(case, num_steps, rounds, variants):
    """Time JAX programs and PyTorch calls in turns, beside the forward pass."""
    functions = {
        "forward pass": forward_pass(case, num_steps),
        "scan and grad by hand": by_hand(case, num_steps),
        "Unroll()": hypergrad_of(case, num_steps, Unroll()),
        "Unroll('step')": hypergrad_of(case, num_steps, Unroll("step")),
        "Unroll('sqrt')": hypergrad_of(case, num_steps, Unroll("sqrt")),
        **variants,
    }
    inputs = case.z, case.data
    programs = {name: compiled(fun, *inputs)[0] for name, fun in functions.items()}
    calls = {
        name: lambda program=program: jax.block_until_ready(program(*inputs))
        for name, program in programs.items()
    }
    seconds = interleaved(calls | torch_calls(case, num_steps), rounds)
    for name, row in seconds.items():
        memory = temporary_bytes(programs[name]) / 2**20 if name in programs else ""
        ratio = median_ratio(row, seconds["forward pass"])
        yield name, 1e3 * statistics.median(row), ratio, memory


def main(quick: bool = False) -> None:
    rounds = 3 if quick else 7
    print_table(
        f"Memory of a hypergradient through Adam, {NUM_PARAMS} float32 parameters",
        ("mode", "sizes of the parameters", "s to compile"),
        list(memory_rows(NUM_STEPS)),
    )
    num_steps = 256 if quick else NUM_STEPS
    print_table(
        f"Through {num_steps} Adam steps in little memory",
        ("program", "ms", "of optimistix"),
        list(
            pair_rows(
                {
                    "Unroll(5)": wide_hypergrad(Unroll(5), num_steps),
                    "optimistix, 16 checkpoints": optimistix_adam(num_steps, 16),
                },
                3,
            )
        ),
    )
    print_table(
        f"After 256 Adam steps, implicitly, linear residual {LINEAR_TOL:g}",
        ("program", "ms", "of jaxopt"),
        list(
            pair_rows(
                {
                    "Implicit(CG())": wide_hypergrad(Implicit(CG(), tol=LINEAR_TOL), 256),
                    "Implicit(AutoSolve())": wide_hypergrad(Implicit(tol=LINEAR_TOL), 256),
                    "jaxopt, implicit": jaxopt_adam(256),
                },
                3,
            )
        ),
    )
    print_table(
        "Seconds to compile, least of three",
        ("mode", "T = 32", "T = 1024", "ratio"),
        list(compile_rows()),
    )
    case = logistic()
    converged = partial(hypergrad_of, case, 1000, solver=Minimize(lbfgs()), tol=INNER_TOL)
    for count in (10, 100):
        variants = {
            "Forward()": hypergrad_of(case, count, Forward()),
            "Implicit(), L-BFGS": converged(Implicit()),
            "Implicit(CG()), L-BFGS": converged(Implicit(CG(), tol=LINEAR_TOL)),
            **converged_peers(case),
        }
        print_table(
            f"Logistic regression, 1000 examples of 100 features, T = {count}",
            ("program", "ms", "of the forward pass", "temporary MB"),
            list(time_rows(case, count, rounds, variants)),
        )
    print_table(
        "MLP 100-128-10, 1000 weighted examples, T = 100",
        ("program", "ms", "of the forward pass", "temporary MB"),
        list(time_rows(weighted_mlp(), 100, 3, {})),
    )
