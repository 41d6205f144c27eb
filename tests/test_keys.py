"""What draws refuses what is no key, in a sentence that names it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.curvature import (
    AverageCase,
    diagonal,
    hutchinson_trace,
    linear_map,
    sharpness,
    sharpness_probe,
    spectral_density,
    symmetry_error,
    top_eigenpairs,
    trace,
)
from jaxopt_tut.keys import require_key
from jaxopt_tut.landscape import fit_bezier, random_directions

OPERATOR = linear_map(lambda v: 2 * v, jnp.zeros(3))
START = jnp.ones(3)
half_square = lambda w: jnp.sum(w**2) / 2
DRAWERS = {
    "top_eigenpairs": lambda key: top_eigenpairs(OPERATOR, 1, key),
    "spectral_density": lambda key: spectral_density(OPERATOR, key),
    "trace": lambda key: trace(OPERATOR, key),
    "hutchinson_trace": lambda key: hutchinson_trace(OPERATOR, key),
    "diagonal": lambda key: diagonal(OPERATOR, key),
    "symmetry_error": lambda key: symmetry_error(OPERATOR, key),
    "sharpness": lambda key: sharpness(half_square, START, kind=AverageCase(0.1), key=key),
    "sharpness_probe": lambda key: sharpness_probe(half_square, key=key),
    "random_directions": lambda key: random_directions(key, START, 1),
    "fit_bezier": lambda key: fit_bezier(
        half_square, START, -START, key=key, optimizer=optax.sgd(0.1), num_steps=1
    ),
}
NO_KEYS = {
    "a seed": (0, "0."),
    "none": (None, "None."),
    "a batch of keys": (jax.random.split(jax.random.key(0)), "key<fry>[2]."),
    "numbers": (np.zeros(2, np.float32), "float32[2]."),
    "a batch of older keys": (jax.random.split(jax.random.PRNGKey(0), 3), "uint32[3, 2]."),
}


@pytest.mark.parametrize("given", NO_KEYS)
@pytest.mark.parametrize("name", DRAWERS)
def test_what_is_no_key_is_refused_by_name(name, given):
    value, found = NO_KEYS[given]
    if name == "sharpness" and value is None:  # a kind that draws nothing needs none
        with pytest.raises(ValueError, match=r"sharpness needs a key for kind=AverageCase"):
            DRAWERS[name](value)
        return
    sentence = f"{name} needs one key of jax.random.key, got {found}"
    with pytest.raises(TypeError, match=re.escape(sentence)):
        DRAWERS[name](value)


def test_keys_of_either_make_pass_also_while_they_are_traced():
    keys = jax.random.split(jax.random.key(0), 2)
    jax.vmap(lambda key: require_key("trace", key))(keys)
    jax.jit(lambda key: require_key("trace", key))(jax.random.PRNGKey(0))
    with pytest.raises(
        TypeError, match=r"trace needs one key of jax.random.key, got key<fry>\[2\]"
    ):
        jax.jit(lambda key: require_key("trace", key))(keys)
