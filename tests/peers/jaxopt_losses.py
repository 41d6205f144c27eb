"""Losses, objectives and trees of jaxopt, and what takes their place: mostly optax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.peers.jaxopt_case import ROUNDING, Case, jaxopt

LOGITS = np.array([0.3, -1.2, 0.8, 0.1])
DATA = np.array([[0.2, 1.0, -0.4], [1.1, -0.3, 0.5], [-0.7, 0.6, 0.9], [0.4, 0.8, 0.1]])
TARGETS = np.array([0.5, -1.0, 0.3, 0.8])
LABELS = np.array([1, 0, 0, 1])
CLASSES = np.array([2, 0, 1, 2])
WEIGHTS = np.array([[0.3, -0.2, 0.1], [0.5, 0.4, -0.6], [-0.1, 0.2, 0.7]])
TREE = {"a": np.array([0.5, -2.0]), "b": np.array([[1.5, 0.25]])}
OTHER = {"a": np.array([1.0, 3.0]), "b": np.array([[-0.5, 2.0]])}
COMPLEX = {"a": np.array([0.5 - 1.0j, 2.0j]), "b": np.array([1.0 + 0.5j])}
loss, objective, trees = jaxopt.loss, jaxopt.objective, jaxopt.tree_util

formula = functools.partial(Case, tol=ROUNDING, forward=True)


def binary(name, ours, label):
    theirs = functools.partial(getattr(loss, name), label)
    return formula(f"loss.{name} [{label}]", lambda s: ours(s, label), theirs, (0.4,))


def multiclass(name, ours):
    return formula(
        f"loss.{name}", lambda s: ours(s, 2), functools.partial(getattr(loss, name), 2), (LOGITS,)
    )


def promoted(fun):
    """Let a function mix dtypes, as it would without the strict promotion of these tests."""
    return jax.numpy_dtype_promotion("standard")(fun)


def sign(label):
    return 2.0 * label - 1.0


def logistic(scores, label):
    return optax.losses.sigmoid_binary_cross_entropy(scores, np.float64(label))


def of_classes(scores, labels):
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(scores, labels))


LOSSES = [
    formula(
        "loss.huber_loss", lambda y, s: optax.losses.huber_loss(s, y, delta=0.7),
        lambda y, s: loss.huber_loss(y, s, 0.7), (0.2, 0.6),
    ),
    formula(
        "loss.huber_loss [far]", lambda y, s: optax.losses.huber_loss(s, y, delta=0.7),
        lambda y, s: loss.huber_loss(y, s, 0.7), (0.2, -2.6),
    ),
    *(binary("binary_logistic_loss", logistic, label) for label in (0, 1)),
    *(
        binary("binary_sparsemax_loss", lambda s, y: optax.losses.sparsemax_loss(s, y), label)
        for label in (0, 1)
    ),
    *(
        binary("binary_hinge_loss", lambda s, y: optax.losses.hinge_loss(s, sign(y)), label)
        for label in (0, 1)
    ),
    *(
        binary(
            "binary_perceptron_loss", lambda s, y: optax.losses.perceptron_loss(s, sign(y)), label
        )
        for label in (0, 1)
    ),
    formula("loss.sparse_plus", jax.nn.sparse_plus, loss.sparse_plus, (0.4,)),
    formula("loss.sparse_sigmoid", jax.nn.sparse_sigmoid, loss.sparse_sigmoid, (0.4,)),
    multiclass(
        "multiclass_logistic_loss", optax.losses.softmax_cross_entropy_with_integer_labels
    ),
    multiclass(
        "multiclass_sparsemax_loss",  # a batch there
        lambda s, y: promoted(optax.losses.multiclass_sparsemax_loss)(s[None], np.array([y]))[0],
    ),
    multiclass("multiclass_hinge_loss", optax.losses.multiclass_hinge_loss),
    multiclass("multiclass_perceptron_loss", optax.losses.multiclass_perceptron_loss),
    formula(
        "loss.make_fenchel_young_loss",
        lambda y, s: optax.losses.make_fenchel_young_loss(jax.nn.logsumexp)(s, y),
        loss.make_fenchel_young_loss(jax.nn.logsumexp), (np.eye(4)[2], LOGITS),
    ),
]  # fmt: skip

OBJECTIVES = [
    formula(
        "objective.least_squares", lambda w: jnp.mean(optax.losses.l2_loss(DATA @ w, TARGETS)),
        lambda w: objective.least_squares(w, (DATA, TARGETS)), (WEIGHTS[0],),
    ),
    formula(
        "objective.ridge_regression",
        lambda w, lam: jnp.mean(optax.losses.l2_loss(DATA @ w, TARGETS)) + lam / 2 * jnp.sum(w**2),
        lambda w, lam: objective.ridge_regression(w, lam, (DATA, TARGETS)), (WEIGHTS[0], 0.3),
    ),
    formula(
        "objective.binary_logreg", lambda w: jnp.mean(logistic(DATA @ w, LABELS)),
        lambda w: objective.binary_logreg(w, (DATA, LABELS)), (WEIGHTS[0],),
    ),
    formula(
        "objective.multiclass_logreg", lambda w: of_classes(DATA @ w, CLASSES),
        lambda w: objective.multiclass_logreg(w, (DATA, CLASSES)), (WEIGHTS,),
    ),
    formula(
        "objective.multiclass_logreg_with_intercept",
        lambda w, b: of_classes(DATA @ w + b, CLASSES),
        lambda *p: objective.multiclass_logreg_with_intercept(p, (DATA, CLASSES)),
        (WEIGHTS, WEIGHTS[1]),
    ),
    formula(
        "objective.l2_multiclass_logreg",
        lambda w, lam: of_classes(DATA @ w, CLASSES) + lam / 2 * jnp.sum(w**2),
        lambda w, lam: objective.l2_multiclass_logreg(w, lam, (DATA, CLASSES)), (WEIGHTS, 0.3),
    ),
    formula(
        "objective.l2_multiclass_logreg_with_intercept",
        lambda w, b, lam: of_classes(DATA @ w + b, CLASSES) + lam / 2 * jnp.sum(w**2),
        lambda w, b, lam: objective.l2_multiclass_logreg_with_intercept(
            (w, b), lam, (DATA, CLASSES)
        ), (WEIGHTS, WEIGHTS[1], 0.3),
    ),
]  # fmt: skip


def tree(name, ours, *args):
    return formula(f"tree_util.{name}", ours, getattr(trees, name), args)


ARITHMETIC = ("add", "sub", "mul", "div")
TREES = [
    tree("tree_add_scalar_mul", optax.tree.add_scale, TREE, 0.7, OTHER),
    tree("tree_scalar_mul", optax.tree.scale, 0.7, TREE),
    *(tree(f"tree_{name}", getattr(optax.tree, name), TREE, OTHER) for name in ARITHMETIC),
    formula(
        "tree_util.tree_where", lambda a, b: optax.tree.where(False, a, b),
        lambda a, b: trees.tree_where(False, a, b), (TREE, OTHER),
    ),
    tree("tree_vdot", optax.tree.vdot, TREE, OTHER),
    tree("tree_vdot_real", optax.tree.vdot, TREE, OTHER),
    tree("tree_sum", optax.tree.sum, TREE),
    tree("tree_l2_norm", optax.tree.norm, TREE),
    tree("tree_inf_norm", lambda t: optax.tree.norm(t, ord="inf"), TREE),
    tree("tree_negative", lambda t: optax.tree.scale(-1, t), TREE),
    tree("tree_zeros_like", optax.tree.zeros_like, TREE),
    tree("tree_ones_like", optax.tree.ones_like, TREE),
    tree("tree_conj", optax.tree.conj, COMPLEX),
    tree("tree_real", optax.tree.real, COMPLEX),
]  # fmt: skip
