"""A small network, its losses, and its matrices by dense derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.curvature import empirical_fisher, gauss_newton, hessian
from jaxopt_tut.models import mlp
from jaxopt_tut.vectors import ravel

NUM_EXAMPLES, SIZES = 23, (3, 4, 3)  # 31 parameters
DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(NUM_EXAMPLES, SIZES[0]))
LABELS = DRAW.integers(0, SIZES[-1], NUM_EXAMPLES).astype(np.int32)


def data(dtype):
    return IMAGES.astype(dtype), LABELS


def params(dtype, seed=0):
    return mlp.init(jax.random.key(seed), SIZES, dtype=dtype)


def logits(params, batch):
    return mlp.apply(params, batch[0], activation=jnp.tanh)


def losses_of(outputs, batch):
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), batch[1][:, None], axis=1)[:, 0]


def output_loss(outputs, batch):
    return jnp.mean(losses_of(outputs, batch))


def losses(params, batch):
    return losses_of(logits(params, batch), batch)


def loss(params, batch):
    return jnp.mean(losses(params, batch))


MAKERS = {
    "hessian": lambda params, *batches, **options: hessian(loss, params, *batches, **options),
    "gauss_newton": lambda params, *batches, **options: gauss_newton(
        logits, output_loss, params, *batches, **options
    ),
    "empirical_fisher": lambda params, *batches, **options: empirical_fisher(
        losses, params, *batches, **options
    ),
}


def dense(name, params, batch):
    """Make the matrix in float64 by JAX's own dense derivatives, of functions of flat vectors."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (params, batch[0]))
        return np.asarray(_dense(wide[0], (wide[1], batch[1]), name=name))


@functools.partial(jax.jit, static_argnames="name")
def _dense(params, batch, *, name):
    vector, unravel = ravel(params)
    if name == "hessian":
        return jax.hessian(lambda v: loss(unravel(v), batch))(vector)
    if name == "empirical_fisher":
        gradients = jax.jacrev(lambda v: losses(unravel(v), batch))(vector)
        return gradients.T @ gradients / len(gradients)
    outputs = logits(params, batch)
    jacobian = jax.jacrev(lambda v: logits(unravel(v), batch))(vector)
    curvature = jax.hessian(lambda z: output_loss(z, batch))(outputs)
    return jnp.einsum("iap,iajb,jbq->pq", jacobian, curvature, jacobian)
