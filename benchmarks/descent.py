"""`minimize` beside SciPy, optax and scikit-learn, and Adam's update beside optax and PyTorch.

OPENBLAS_NUM_THREADS=1 python -m benchmarks descent
"""

import statistics

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut.optimizers import adam, bfgs, lbfgs, minimize, newton_cg

MAX_STEPS = 10_000


def rosenbrock(w):
    return jnp.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)


def optax_lbfgs(fun, gtol):
    """Compile optax's documented loop; without `jit` it compiles at each call."""
    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(fun)

    def step(carry):
        w, state, count = carry
        value, grad = value_and_grad(w, state=state)
        updates, state = optimizer.update(grad, state, w, value=value, grad=grad, value_fn=fun)
        return optax.apply_updates(w, updates), state, count + 1

    def goes_on(carry):
        _, state, count = carry
        grad = optax.tree.get(state, "grad")
        return (count == 0) | ((count < MAX_STEPS) & (jnp.max(jnp.abs(grad)) > gtol))

    @jax.jit
    def run(w):
        return jax.lax.while_loop(goes_on, step, (w, optimizer.init(w), 0))[0]

    return run


def rosenbrock_rows(sizes, rounds):
    from scipy.optimize import minimize as scipy_minimize
    from scipy.optimize import rosen, rosen_der

    for size in sizes:
        start = np.tile([-1.2, 1.0], size // 2)
        w = jnp.array(start)
        # the parameters alone, as optax's loop: each array returned costs microseconds
        ours = jax.jit(lambda w: minimize(rosenbrock, w, lbfgs(), max_steps=MAX_STEPS).params)
        theirs = optax_lbfgs(rosenbrock, 1e-6)
        options = {"gtol": 1e-6, "ftol": 0, "maxiter": MAX_STEPS, "maxfun": 2 * MAX_STEPS}
        seconds = interleaved(
            {
                "call": lambda w=w: jax.block_until_ready(
                    minimize(rosenbrock, w, lbfgs(), max_steps=MAX_STEPS)
                ),
                "jit": lambda w=w, ours=ours: jax.block_until_ready(ours(w)),
                "optax": lambda w=w, theirs=theirs: jax.block_until_ready(theirs(w)),
                "scipy": lambda start=start, options=options: scipy_minimize(
                    rosen, start, jac=rosen_der, method="L-BFGS-B", options=options
                ),
            },
            rounds,
        )
        milliseconds = {name: 1e3 * statistics.median(s) for name, s in seconds.items()}
        yield [
            f"{size}",
            *milliseconds.values(),
            median_ratio(seconds["call"], seconds["scipy"]),
            median_ratio(seconds["jit"], seconds["optax"]),
        ]


def logistic_rows(num_examples, dim, rounds):
    from sklearn.linear_model import LogisticRegression

    key_x, key_w, key_y = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(key_x, (num_examples, dim))
    w = jax.random.normal(key_w, (dim,)) / dim**0.5
    y = (jax.random.uniform(key_y, (num_examples,)) < jax.nn.sigmoid(3 * x @ w)).astype(x.dtype)

    def loss(w, x, y):
        # the mean of scikit-learn's objective at C = 1, which divides by the number of examples
        margins = (2 * y - 1) * (x @ w)
        return jnp.mean(jax.nn.softplus(-margins)) + 0.5 * jnp.sum(w**2) / len(y)

    zero = jnp.zeros(dim, x.dtype)
    x_np, y_np = np.asarray(x), np.asarray(y)

    def fit(solver):
        model = LogisticRegression(solver=solver, tol=1e-6, fit_intercept=False, max_iter=1000)
        return lambda: model.fit(x_np, y_np)

    def run(optimizer):
        return lambda: jax.block_until_ready(minimize(loss, zero, optimizer, x, y, gtol=1e-6))

    solvers = {"lbfgs": lbfgs(), "newton-cholesky": newton_cg()}
    for solver, optimizer in solvers.items():
        seconds = interleaved({"here": run(optimizer), "there": fit(solver)}, rounds)
        theirs = jnp.array(fit(solver)().coef_[0])
        yield [
            solver,
            *(1e3 * statistics.median(s) for s in seconds.values()),
            float(run(optimizer)().grad_norm),
            float(jnp.max(jnp.abs(jax.grad(loss)(theirs, x, y)))),
            median_ratio(seconds["here"], seconds["there"]),
        ]


def starts_rows(num_starts, rounds):
    from scipy.optimize import minimize as scipy_minimize
    from scipy.optimize import rosen, rosen_der

    starts = 2 * jax.random.normal(jax.random.key(1), (num_starts, 2))
    starts_np = np.asarray(starts)
    for make, method in ((bfgs, "BFGS"), (lbfgs, "L-BFGS-B")):
        run = jax.jit(jax.vmap(lambda w, make=make: minimize(rosenbrock, w, make())))
        loop = lambda method=method: [
            scipy_minimize(rosen, s, jac=rosen_der, method=method, options={"gtol": 1e-6})
            for s in starts_np
        ]
        seconds = interleaved(
            {"here": lambda run=run: jax.block_until_ready(run(starts)), "scipy": loop}, rounds
        )
        yield [
            f"{make.__name__} / {method}",
            *(1e3 * statistics.median(s) for s in seconds.values()),
            float(jnp.mean(run(starts).converged)),
            median_ratio(seconds["scipy"], seconds["here"]),
        ]


def adam_rows(num_parameters, num_leaves, rounds):
    size = num_parameters // num_leaves
    params = [jnp.ones(size, jnp.float32) for _ in range(num_leaves)]
    grads = [jnp.full(size, 1e-3, jnp.float32) for _ in range(num_leaves)]

    def runner(optimizer, donate):
        def step(params, state, grads):
            updates, state = optimizer.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(step, donate_argnums=(0, 1) if donate else ())
        held = jax.block_until_ready((jax.tree.map(jnp.copy, params), optimizer.init(params)))

        def call():
            nonlocal held
            held = jax.block_until_ready(compiled(*held, grads))

        return call

    variants = {
        "here, donated": runner(adam(1e-3), True),
        "optax, donated": runner(optax.adam(1e-3), True),
        "optax": runner(optax.adam(1e-3), False),
    }
    try:
        variants["torch, fused"] = _torch_adam(size, num_leaves)
    except ImportError:
        print("PyTorch is not installed: no `fused=True` beside it.")
    seconds = interleaved(variants, rounds)
    # parameters, gradients and two averages read; all but the gradients written
    gigabytes = 7 * 4 * size * num_leaves / 1e9
    for name, times in seconds.items():
        yield [
            f"{num_leaves} leaves: {name}",
            1e3 * statistics.median(times),
            gigabytes / statistics.median(times),
            median_ratio(times, seconds["optax, donated"]),
        ]


def _torch_adam(size, num_leaves):
    import torch

    params = [torch.ones(size, requires_grad=True) for _ in range(num_leaves)]
    for p in params:
        p.grad = torch.full((size,), 1e-3)
    return torch.optim.Adam(params, lr=1e-3, fused=True).step


def main(*, quick: bool = False) -> None:
    rounds = 3 if quick else 7
    with jax.enable_x64(True):
        print_table(
            "Rosenbrock, float64, to |g| <= 1e-6, ms",
            ["n", "minimize", "in a jit", "optax in a jit", "SciPy", "/ SciPy", "jit / optax"],
            list(rosenbrock_rows((2, 10, 100) if quick else (2, 10, 100, 1000), rounds)),
        )
        print_table(
            "logistic regression to |g| <= 1e-6, ms",
            ["sklearn's solver", "here", "sklearn", "|g| here", "|g| sklearn", "ratio"],
            list(logistic_rows(2000 if quick else 10_000, 200, rounds)),
        )
        print_table(
            "many Rosenbrock starts, ms",
            ["solver", "vmapped", "SciPy's loop", "converged", "times faster"],
            list(starts_rows(100 if quick else 1000, 3)),
        )
    rows = [
        row
        for num_leaves in (1, 200)
        for row in adam_rows(2_000_000 if quick else 20_000_000, num_leaves, rounds)
    ]
    print_table("an update of Adam", ["variant", "ms", "GB/s", "of optax, donated"], rows)
