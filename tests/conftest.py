"""Settings of the whole suite: strict promotion, and the compilation cache off."""

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def x64():
    """Run one test in double precision; the library itself never switches it on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def full_products():
    """Multiply float32 matrices in full, as a CPU does; a GPU by default keeps 10 bits."""
    with jax.default_matmul_precision("highest"):
        yield
