"""What runs outside of `jax.shard_map` runs inside, with its default check of types."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxopt_tut import control_flow, linalg
from jaxopt_tut.bilevel import (
    CG,
    GMRES,
    Forward,
    Implicit,
    Minimize,
    Neumann,
    NormalCG,
    OneStep,
    Truncate,
    Unroll,
    argmin,
    hypergrad,
    layers,
)
from jaxopt_tut.optimizers import (
    adam,
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg_marquardt,
    line_search,
    minimize,
    newton,
    newton_cg,
    nonlinear_cg,
    norms,
    projections,
    sgd,
    steepest_descent,
    trust_region,
)

# one device shows a clash of types as well as many
MESH = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,))
X = jnp.array([[1.0, 2.0, 0.5], [0.3, 1.0, 2.0], [2.0, 0.1, 1.0], [1.0, 1.0, 1.0]])
Y = jnp.array([1.0, -2.0, 0.5, 3.0])
A = X.T @ X + jnp.eye(3)
matvec = lambda v: A @ v


def inner(w, y):
    return jnp.sum((X @ w - y) ** 2) + jnp.sum(w**4)


def search(optimizer, **options):
    def run(y):
        residuals = lambda w: X @ w - y
        loss = lambda w: jnp.sum(residuals(w) ** 2) + 0.1 * jnp.sum(w**4)
        extra = {"residual_fn": residuals} if optimizer.init in _LEAST_SQUARES else {}
        return minimize(loss, jnp.zeros(3), optimizer, max_steps=8, **extra, **options).params

    return run


def solved(mode, **options):
    defaults = {"solver": sgd(0.02), "steps": 5, **options}
    return lambda y: argmin(inner, jnp.zeros(3), y, diff=mode, **defaults).y


def differentiated(mode, **options):
    defaults = {"solver": sgd(0.02), "steps": 5, **options}
    outer = lambda w, _: jnp.sum(w**2)
    return lambda y: hypergrad(outer, inner, jnp.zeros(3), y, diff=mode, **defaults)[1]["z"]


MARQUARDT, GAUSS = levenberg_marquardt(), gauss_newton()
_LEAST_SQUARES = (MARQUARDT.init, GAUSS.init)
PROGRAM = (jnp.ones((1, 3)), jnp.ones(1), -jnp.eye(3), jnp.zeros(3))
QUICK = {
    "lbfgs": search(lbfgs()),
    "trust_region": search(trust_region()),
    "levenberg_marquardt": search(MARQUARDT),
    "history": search(sgd(0.01), history=True),
    "cg": lambda y: linalg.cg(matvec, X.T @ y, tol=1e-5, max_steps=9).x,
    "normal_cg": lambda y: linalg.normal_cg(matvec, X.T @ y, tol=1e-5, max_steps=9).x,
    "gmres": lambda y: linalg.gmres(matvec, X.T @ y, tol=1e-5, max_steps=9).x,
    "truncated_cg": lambda y: (
        linalg.truncated_cg(matvec, X.T @ y, tol=1e-5, max_steps=9, radius=0.5).step
    ),
    "neumann": lambda y: linalg.neumann(matvec, X.T @ y, num_terms=5, step_size=0.05),
    "ball_minimum": lambda y: linalg.ball_minimum(A, X.T @ y, 0.5).step,
    "qp": lambda y: layers.qp(A, X.T @ y, *PROGRAM),
    "prox_tv1d": lambda y: layers.prox_tv1d(y, 0.1),
    "argmin": solved(Unroll(), tol=1e-3),
    "implicit": differentiated(Implicit()),
    "reverse_through_implicit": jax.grad(
        lambda y: jnp.sum(solved(Implicit(), solver=Minimize(lbfgs()))(y))
    ),
}
THOROUGH = {
    "bfgs": search(bfgs()),
    "newton": search(newton()),
    "newton_cg": search(newton_cg()),
    "nonlinear_cg": search(nonlinear_cg()),
    "trust_region_matrix_free": search(trust_region(max_dense=0)),
    "gauss_newton": search(GAUSS),
    "adam": search(adam(0.1)),
    "armijo": search(optax.chain(sgd(1.0), line_search.armijo())),
    "exact": search(optax.chain(sgd(1.0), line_search.exact())),
    "spectral": lambda y: (
        minimize(
            lambda w: jnp.sum((X @ w - y[:, None]) ** 2),
            jnp.zeros((3, 2)),
            steepest_descent(0.1, norm=norms.Spectral()),
            max_steps=5,
        ).params
    ),
    "largest_eigenvalue": lambda y: linalg.largest_eigenvalue(matvec, X.T @ y, num_steps=5),
    "polar_factor": lambda y: linalg.polar_factor(X * y[:, None]),
    "newton_schulz": lambda y: linalg.newton_schulz(X * y[:, None]),
    "modified_cholesky": lambda y: linalg.modified_cholesky_solve(A * y[0], X.T @ y),
    "simplex": lambda y: projections.simplex()(y),
    "l1_ball": lambda y: projections.ball(0.1, norms.L1())(y),
    "qp_derivative": jax.grad(lambda y: jnp.sum(layers.qp(A, X.T @ y, *PROGRAM) ** 2)),
    "prox_tv1d_derivative": jax.grad(lambda y: jnp.sum(layers.prox_tv1d(y, 0.1) ** 2)),
    "sqrt": differentiated(Unroll("sqrt"), tol=1e-3),
    "forward": differentiated(Forward()),
    "truncate": differentiated(Truncate(2), tol=1e-3),
    "one_step": differentiated(OneStep(), tol=1e-3),
    "implicit_cg": differentiated(Implicit(CG())),
    "implicit_normal_cg": differentiated(Implicit(NormalCG())),
    "implicit_gmres": differentiated(Implicit(GMRES())),
    "implicit_neumann": differentiated(Implicit(Neumann(3))),
    "certified": differentiated(Implicit(), solver=Minimize(lbfgs()), certify=True),
    "batches": lambda y: (
        argmin(
            lambda w, y, rows: jnp.sum((rows @ w - y) ** 2),
            jnp.zeros(3),
            y,
            solver=sgd(0.02),
            steps=2,
            diff=Implicit(),
            batches=jnp.stack([X, 2 * X]),
        ).y
    ),
}
CASES = [
    *(pytest.param(case, id=name) for name, case in QUICK.items()),
    *(pytest.param(case, id=name, marks=pytest.mark.slow) for name, case in THOROUGH.items()),
]


def sharded(fun, mesh=MESH):
    lifted = lambda y: jax.tree.map(lambda leaf: leaf[None], fun(y[0]))
    return jax.jit(jax.shard_map(lifted, mesh=mesh, in_specs=P("data"), out_specs=P("data")))


@pytest.mark.parametrize("case", CASES)
def test_runs_inside_shard_map_as_outside(case):
    inside, outside = sharded(case)(Y[None])[0], jax.jit(case)(Y)
    # the same operations in the same order; the two programs may be fused differently
    np.testing.assert_allclose(inside, outside, rtol=1e-4, atol=1e-5)


def test_loops_and_branches_raise_only_the_types_that_must_be():
    def kinds(y):
        varying = lambda tree: jax.tree.map(
            lambda leaf: bool(jax.typeof(leaf).manual_axis_type.varying), tree
        )
        zero = jnp.zeros(())
        fixed = control_flow.while_loop(
            lambda s: s[1] < 3, lambda s: (s[0] + y[0], s[1] + 1), (zero, 0)
        )
        uneven = control_flow.while_loop(lambda s: s[0] < y[0], lambda s: (s[0] + 1, 0), (zero, 0))
        total, ys = control_flow.scan(lambda c, x: (c + x, c), zero, y)
        constant, _ = control_flow.scan(lambda c, x: (0.5 * c, x), zero, y)
        branch = control_flow.cond(True, lambda: (zero, y[0]), lambda: (zero, zero))
        chosen = control_flow.switch(jnp.int32(y[0]), [lambda: zero, lambda: zero + 1])
        empty, _ = control_flow.scan(lambda c, x: (c + x, c), zero, y[:0])
        seen.append(varying((fixed, uneven, total, ys, constant, branch, chosen)))
        return fixed[0] + total + empty

    seen = []
    assert sharded(kinds)(Y[None])[0] == 3 * Y[0] + jnp.sum(Y)
    both = (True, True)
    assert seen[-1] == ((True, False), both, True, True, False, (False, True), True)


SEVERAL_DEVICES = """
import jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, PartitionSpec as P
from jaxopt_tut.bilevel import Implicit, Minimize, NormalCG, hypergrad
from jaxopt_tut.optimizers import lbfgs, minimize, newton, sgd

mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
X = jax.random.normal(jax.random.key(0), (8, 3))
Y = X @ jnp.array([1.0, 2.0, 3.0]) + 0.1 * jax.random.normal(jax.random.key(1), (8,))

def on_all(fun, out_specs):
    specs = (P("data"), P("data"))
    return jax.jit(jax.shard_map(fun, mesh=mesh, in_specs=specs, out_specs=out_specs))(X, Y)

def mean_over_devices(w, X, y):
    return jax.lax.pmean(jnp.mean((X @ w - y) ** 2), "data")

def together(X, y):
    return minimize(lambda w: mean_over_devices(w, X, y), jnp.zeros(3), lbfgs()).params

np.testing.assert_allclose(on_all(together, P()), np.linalg.lstsq(X, Y)[0], rtol=1e-3)

ridge = lambda X, y, z: jnp.linalg.solve(X.T @ X / len(y) + z * jnp.eye(3), X.T @ y / len(y))

def alone(X, y):  # each device has a problem of its own, and all share z
    outer = lambda w, z: jnp.sum((X @ w - y) ** 2)
    inner = lambda w, z: jnp.mean((X @ w - y) ** 2) + z * jnp.sum(w**2)
    options = {"solver": Minimize(newton()), "steps": 20, "diff": Implicit()}
    value, grads, _ = hypergrad(outer, inner, jnp.zeros(3), 1.0, **options)
    return jax.lax.psum(value, "data"), grads["z"]

parts = list(zip(jnp.split(X, 4), jnp.split(Y, 4)))
truth = jax.value_and_grad(lambda z: sum(jnp.sum((a @ ridge(a, b, z) - b) ** 2) for a, b in parts))
np.testing.assert_allclose(on_all(alone, (P(), P())), truth(1.0), rtol=1e-4)

def shared(X, y):  # all devices solve one problem, each with a part of the data
    outer = lambda w, z: mean_over_devices(w, X, y)
    inner = lambda w, z: mean_over_devices(w, X, y) + z * jnp.sum(w**2)
    options = {"solver": sgd(0.1), "steps": 200, "diff": Implicit(NormalCG())}
    value, grads, _ = hypergrad(outer, inner, jnp.zeros(3), 1.0, **options)
    return value, grads["z"]

truth = jax.value_and_grad(lambda z: jnp.mean((X @ ridge(X, Y, z) - Y) ** 2))
np.testing.assert_allclose(on_all(shared, (P(), P())), truth(1.0), rtol=1e-4)
"""


@pytest.mark.slow
def test_several_devices_solve_one_problem_or_one_each():
    subprocess.run([sys.executable, "-c", SEVERAL_DEVICES], check=True)
