"""Static hyper-parameters are checked, arrays pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_tut.hyperparameters import (
    cast,
    require_decay,
    require_finite,
    require_nonnegative,
    require_positive,
    require_real,
)

REQUIREMENTS = [require_finite, require_decay, require_nonnegative]


@pytest.mark.parametrize(
    ("require", "value", "rule"),
    [
        (require_finite, float("inf"), "a finite x, got x=inf"),
        (require_finite, np.float32("nan"), "a finite x, got x=nan"),
        (require_decay, 1.0, "0 <= x < 1, got x=1.0"),
        (require_decay, -0.1, "0 <= x < 1, got x=-0.1"),
        (require_decay, float("nan"), "0 <= x < 1, got x=nan"),
        (require_nonnegative, -1e-9, "a finite x >= 0, got x=-1e-09"),
        (require_nonnegative, float("inf"), "a finite x >= 0, got x=inf"),
        (require_positive, 0.0, "x > 0, got x=0.0"),
        (require_positive, float("nan"), "x > 0, got x=nan"),
        (require_nonnegative, float("nan"), "a finite x >= 0, got x=nan"),
    ],
)
def test_refuses_values_out_of_range(require, value, rule):
    with pytest.raises(ValueError, match=f"^somebody needs {rule}\\.$"):
        require("somebody", x=value)


@pytest.mark.parametrize("require", REQUIREMENTS)
@pytest.mark.parametrize("value", [0, 0.5, np.float64(0.5), np.int64(0), np.array(0.5)], ids=repr)
def test_accepts_numbers_of_python_and_numpy(require, value):
    require("somebody", x=value)


@pytest.mark.parametrize("require", REQUIREMENTS)
@pytest.mark.parametrize("value", ["0.5", None, [0.5]], ids=repr)
def test_refuses_what_is_no_number(require, value):
    with pytest.raises(TypeError, match=r"^somebody needs a real number as x, got x="):
        require("somebody", x=value)


@pytest.mark.parametrize("require", REQUIREMENTS)
@pytest.mark.parametrize("value", [np.zeros(2), jnp.zeros((1,))], ids=["numpy", "jax"])
def test_refuses_what_is_no_scalar(require, value):
    with pytest.raises(ValueError, match=r"^somebody needs a scalar x, got shape \(\d,\)\.$"):
        require("somebody", x=value)


@pytest.mark.parametrize("require", REQUIREMENTS)
def test_does_not_read_jax_arrays(require):
    require("somebody", x=jnp.array(jnp.nan))
    jax.jit(lambda x: require("somebody", x=x))(-7.0)


@pytest.mark.parametrize("value", [True, np.True_, jnp.array(True), 1j, np.complex64(1j)])
def test_refuses_truth_values_and_imaginary_numbers(value):
    with pytest.raises(TypeError, match=r"^somebody needs a real number as x, got x="):
        require_real("somebody", x=value)
    require_real("somebody", x=jnp.complex64(1j))


def test_arrays_pass_where_they_are_meant():
    require_nonnegative("somebody", scalar=False, x=[0.0, 1.0], y=np.ones(2), z=jnp.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^somebody needs a finite x >= 0, got x=\[1, -1\]\.$"):
        require_nonnegative("somebody", scalar=False, x=[1, -1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "complex64"])
def test_casts_to_the_dtype_of_the_leaf(dtype):
    for value in (0.5, np.float64(0.5), jnp.float32(0.5), jnp.complex64(0.5)):
        assert cast(value, dtype).dtype == dtype
        assert cast(value, dtype) == 0.5


def test_casting_keeps_the_derivative():
    derivative = jax.grad(lambda x: cast(x, jnp.bfloat16).astype(jnp.float32))(0.5)
    assert (float(derivative), derivative.dtype) == (1.0, jnp.float32)
