"""Data arrive on the device with the values that they had, or are refused by name."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.training import Aux, evaluator, fit
from jaxopt_tut.training.data import device_data

LIMITS = [
    np.array([0, 2**31]), np.array([-(2**31) - 1, 0]), np.array([2**40 + 1, 5]),
    np.array([2**32, 1], np.uint64), np.array([2**63 + 3, 1], np.uint64),
    np.array([2**40, 1], ">i8"),
]  # fmt: skip


@pytest.mark.parametrize("values", LIMITS, ids=str)
def test_integers_that_would_wrap_are_refused(values):
    worst = max(values.tolist(), key=abs)
    kind = "uint32" if values.dtype.kind == "u" else "int32"
    sentence = f"needs integers in the range of {kind}, got {worst} at 'ids/0':"
    with pytest.raises(ValueError, match="^evaluator " + re.escape(sentence)):
        evaluator(lambda _p, _b: {}, {"ids": [values]})
    state = {"ids": [values]}
    with pytest.raises(ValueError, match="^fit " + re.escape(sentence)):
        fit(
            lambda w, _b, s: (w, Aux(model_state=s)), 1.0, optax.sgd(0.1), jnp.ones(2),
            batch_size=1, num_epochs=1, key=jax.random.key(0), model_state=state,
        )  # fmt: skip
    with jax.enable_x64(True):
        kept = device_data({"ids": [values]}, "fit").arrays["ids"][0]
        np.testing.assert_array_equal(np.asarray(kept), values)


TAKEN = {
    "the largest": np.array([2**31 - 1, -(2**31)]),
    "the largest without a sign": np.array([2**32 - 1, 0], np.uint64),
    "none": np.zeros(0, np.int64),
    "big-endian floats": np.arange(3, dtype=">f4"),
    "big-endian doubles": np.arange(3, dtype=">f8"),
    "big-endian integers": np.arange(3, dtype=">i2"),
    "big-endian complex numbers": np.arange(3, dtype=">c8"),
    "long doubles": np.arange(3, dtype=np.longdouble),
    "long complex numbers": np.arange(3, dtype=np.clongdouble),
    "truth values": np.ones(3, bool),
    "bytes": np.arange(3, dtype=np.uint8),
    "halves": np.arange(3, dtype=np.float16),
    "bfloat16": np.asarray(jnp.arange(3, dtype=jnp.bfloat16)),
    "backwards": np.arange(6)[::-2],
}


@pytest.mark.parametrize("name", TAKEN)
def test_numbers_of_any_kind_and_order_of_bytes_keep_their_values(name):
    found = device_data(TAKEN[name], "fit").arrays
    np.testing.assert_array_equal(np.asarray(found), TAKEN[name])


@pytest.mark.parametrize(
    ("dataset", "sentence"),
    [
        (jax.random.split(jax.random.key(0), 3), "got key<fry> at '(root)': hand over their words"),
        (
            np.zeros(3, [("a", "f4"), ("b", "i4")]),
            "got records of a, b at '(root)': make a dictionary of its fields.",
        ),
    ],
)
def test_what_is_no_number_is_refused(dataset, sentence):
    with pytest.raises(TypeError, match=re.escape(sentence)):
        device_data(dataset, "fit")
