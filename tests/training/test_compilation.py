"""The compilation cache is filled by one process and read by the next."""

import subprocess
import sys

import pytest

CODE = """
import sys, jax, jax.numpy as jnp
from jaxopt_tut.training import compilation_cache
compilation_cache(sys.argv[1])
jax.jit(lambda x: jnp.sin(x) + 1)(jnp.ones(3))
"""


@pytest.mark.slow
def test_small_programs_are_kept(tmp_path):
    directory = tmp_path / "made" / "here"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", CODE, str(directory)], check=True)
    programs = [path for path in directory.iterdir() if path.name.endswith("-cache")]
    assert programs
