"""Projections and proximal operators of jaxopt, and what takes their place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_tut.bilevel import Picard, fixed_point, layers
from jaxopt_tut.optimizers import projections
from jaxopt_tut.optimizers.norms import L1, LInf
from tests.peers.jaxopt_case import ROUNDING, SEARCHED, SOLVED, STOP, Case, jaxopt

X = np.array([1.3, -0.4, 0.9, 2.1, -1.7])
SMALL = 0.1 * X
TREE = {"a": X[:2], "b": (X[2:],)}
NORMAL = np.array([0.5, 1.0, -0.3, 0.8, 0.2])
EQUALITIES = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 0.0, -1.0, 0.5]])
SIMILARITY = np.array([[0.9, 0.1, 0.4], [0.2, 0.8, -0.3], [-0.1, 0.5, 0.6]])
SHARES = np.array([0.5, 0.0, -0.4]), np.array([-0.7, 0.0, 0.1])
there, prox = jaxopt.projection, jaxopt.prox


def onto_polyhedron(x, A, b, G, h):
    return layers.qp(jnp.eye(x.size), -x, A, b, G, h)


def onto_box_section(x, lower, upper, w, c):
    G = jnp.concatenate([jnp.eye(x.size), -jnp.eye(x.size)])
    return onto_polyhedron(x, w[None], c[None], G, jnp.concatenate([upper, -lower]))


def onto_transport(S, a, b):
    rows, columns = S.shape
    sums_of_rows = jnp.kron(jnp.eye(rows), jnp.ones((1, columns)))
    sums_of_columns = jnp.kron(jnp.ones((1, rows)), jnp.eye(columns))
    # one equation follows from the others
    A, sums = jnp.concatenate([sums_of_rows, sums_of_columns]), jnp.concatenate([a, b])
    flat = onto_polyhedron(S.ravel(), A, sums, -jnp.eye(S.size), jnp.zeros(S.size))
    return flat.reshape(S.shape)


def onto_transport_by_entropy(S, a, b):
    kernel = lambda z: jnp.exp(z[0])

    def sinkhorn(u, z):
        K, (_, a, b) = kernel(z), z
        return a / (K @ (b / (K.T @ u)))

    z = (S, a, b)
    # scales of u are free: held by a sum
    normal = lambda u, z: sinkhorn(u, z) / jnp.sum(sinkhorn(u, z))
    u = fixed_point(normal, jnp.ones_like(a), z, solver=Picard(), steps=100).y
    K = kernel(z)
    v = b / (K.T @ u)
    return u[:, None] * K * v


def with_shares(project):
    """Let marginals be what sums to 1, as they must also where they are differentiated."""
    return lambda S, a, b: project(S, jax.nn.softmax(a), jax.nn.softmax(b))


def searched(fun):
    return jaxopt.LBFGS(fun, tol=STOP, implicit_diff_solve=SOLVE)


SOLVE = functools.partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-14)
SEMI_DUAL = {"make_solver": searched}
DUAL = {"make_solver": searched, "use_semi_dual": False}
MARGIN = np.ones(3)
RIDGE = lambda x, lam: layers.ridge(jnp.eye(x.size), x, lam)
POSITIVE = projections.box(0.0, np.inf)

formula = functools.partial(Case, tol=ROUNDING, forward=True)

CASES = [
    formula(
        "projection.projection_non_negative", projections.box(0.0, np.inf),
        there.projection_non_negative, (TREE,),
    ),
    formula(
        "projection.projection_box", lambda x, low, high: projections.box(low, high)(x),
        lambda x, low, high: there.projection_box(x, (low, high)), (X, X * 0 - 0.5, X * 0 + 1.0),
    ),
    formula(
        "projection.projection_box [outside]", lambda x, low, high: projections.box(low, high)(x),
        lambda x, low, high: there.projection_box(x, (low, high)), (X, X + 0.2, X + 0.5),
    ),
    formula(
        "projection.projection_hypercube", lambda x, unit: projections.box(0.0, unit)(x),
        there.projection_hypercube, (X, 1.1),
    ),
    formula(
        "projection.projection_simplex", lambda x, s: projections.simplex(s)(x),
        there.projection_simplex, (X, 1.7),
    ),
    formula(
        "projection.projection_simplex [a corner]", lambda x, s: projections.simplex(s)(x),
        there.projection_simplex, (10 * X, 1.0),
    ),
    formula(
        "projection.projection_l1_sphere",
        lambda x, r: jnp.sign(x) * projections.simplex(r)(jnp.abs(x)),
        there.projection_l1_sphere, (X, 1.5),
    ),
    formula(
        "projection.projection_l1_ball [outside]", lambda x, r: projections.ball(r, L1())(x),
        there.projection_l1_ball, (X, 2.5),
    ),
    formula(
        "projection.projection_l1_ball [inside]", lambda x, r: projections.ball(r, L1())(x),
        there.projection_l1_ball, (SMALL, 2.5),
    ),
    formula(
        "projection.projection_l2_ball [outside]", lambda x, r: projections.ball(r)(x),
        there.projection_l2_ball, (TREE, 1.5),
    ),
    formula(
        "projection.projection_l2_ball [inside]", lambda x, r: projections.ball(r)(x),
        there.projection_l2_ball, (TREE, 9.0),
    ),
    formula(
        "projection.projection_l2_sphere", optax.projections.projection_l2_sphere,
        there.projection_l2_sphere, (TREE, 1.5),
    ),
    formula(
        "projection.projection_linf_ball", lambda x, r: projections.ball(r, LInf())(x),
        there.projection_linf_ball, (X, 1.1),  # of a tree it raises
    ),
    formula(
        "projection.projection_hyperplane", lambda x, a, b: projections.hyperplane(a, b)(x),
        lambda x, a, b: there.projection_hyperplane(x, (a, b)), (X, NORMAL, 0.4),
    ),
    formula(
        "projection.projection_halfspace [outside]",
        lambda x, a, b: projections.half_space(a, b)(x),
        lambda x, a, b: there.projection_halfspace(x, (a, b)), (X, NORMAL, 0.4),
    ),
    formula(
        "projection.projection_halfspace [inside]", lambda x, a, b: projections.half_space(a, b)(x),
        lambda x, a, b: there.projection_halfspace(x, (a, b)), (X, NORMAL, 4.0),
    ),
    Case(
        "projection.projection_affine_set", lambda x, A, b: projections.affine(A, b)(x),
        lambda x, A, b: there.projection_affine_set(x, (A, b)),
        (X, EQUALITIES, np.array([1.0, 0.5])), SOLVED,
    ),
    Case(
        "projection.projection_polyhedron", onto_polyhedron,
        lambda x, *sides: there.projection_polyhedron(x, sides, check_feasible=False),
        (X, EQUALITIES[:1], np.array([1.0]), -np.eye(5), np.zeros(5)),
        1e-2,  # ADMM stops at residuals of 1e-3, which cannot be set
    ),
    Case(
        "projection.projection_box_section", onto_box_section,
        lambda x, *sides: there.projection_box_section(x, sides),
        (X, X * 0, X * 0 + 0.6, np.array([0.5, 1.0, 0.3, 0.8, 0.2]), np.array(1.1)),
        1e-4,  # bisection stops at residuals of 1e-5, with slopes of w @ w on what is free: .34
    ),
    # by its dual: the semi-dual's derivatives are 0, see WRONG
    Case(
        "projection.projection_transport",
        with_shares(onto_transport),
        with_shares(lambda S, a, b: there.projection_transport(S, (a, b), **DUAL)),
        (SIMILARITY, *SHARES), SEARCHED, slow=True,
    ),
    Case(
        "projection.projection_birkhoff", lambda S: onto_transport(S, MARGIN, MARGIN),
        lambda S: there.projection_birkhoff(S, **DUAL), (SIMILARITY,), SEARCHED, slow=True,
    ),
    Case(
        "projection.kl_projection_transport", with_shares(onto_transport_by_entropy),
        with_shares(lambda S, a, b: there.kl_projection_transport(S, (a, b), **SEMI_DUAL)),
        (SIMILARITY, *SHARES), SEARCHED, slow=True,
    ),
    Case(
        "projection.kl_projection_birkhoff",
        lambda S: onto_transport_by_entropy(S, MARGIN, MARGIN),
        lambda S: there.kl_projection_birkhoff(S, **SEMI_DUAL), (SIMILARITY,), SEARCHED, slow=True,
    ),
    formula("prox.prox_lasso", layers.soft_threshold, prox.prox_lasso, (X, 0.7)),
    formula(
        "prox.prox_lasso [scaled]", lambda x, lam, rate: layers.soft_threshold(x, rate * lam),
        prox.prox_lasso, (X, 0.7 + 0.1 * X**2, 0.6),
    ),
    formula(
        "prox.prox_non_negative_lasso", lambda x, lam: POSITIVE(layers.soft_threshold(x, lam)),
        prox.prox_non_negative_lasso, (X, 0.7),
    ),
    formula(
        "prox.prox_elastic_net",
        lambda x, lam, gamma: layers.soft_threshold(x, lam) / (1 + lam * gamma),
        lambda x, lam, gamma: prox.prox_elastic_net(x, (lam, gamma)), (X, 0.7, 1.3),
    ),
    formula(
        "prox.prox_group_lasso", lambda x, lam: x - projections.ball(lam)(x),
        prox.prox_group_lasso, (X, 0.7),
    ),
    formula(
        "prox.prox_group_lasso [to 0]", lambda x, lam: x - projections.ball(lam)(x),
        prox.prox_group_lasso, (X, 7.0),
    ),
    # there it is the operator of half the square, whatever is said: see WRONG
    formula("prox.prox_ridge", RIDGE, prox.prox_ridge, (X, 0.7)),
    formula(
        "prox.prox_non_negative_ridge", lambda x, lam: POSITIVE(RIDGE(x, lam)),
        prox.prox_non_negative_ridge, (X, 0.7),
    ),
    formula("prox.prox_none", lambda x: layers.soft_threshold(x, 0.0), prox.prox_none, (X,)),
    formula(
        "prox.make_prox_from_projection", lambda x, s: projections.simplex(s)(x),
        prox.make_prox_from_projection(there.projection_simplex), (X, 1.7),
    ),
]  # fmt: skip
