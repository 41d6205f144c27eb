import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from experiments.training.where_the_time_goes import without_kept_programs


@pytest.fixture
def kept(tmp_path):
    """Keep every program in a folder of this test."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
        "jax_enable_compilation_cache": True,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_no_program_is_kept_or_read_inside_and_they_are_again_after(kept):
    with without_kept_programs():
        jax.jit(lambda x: x + 1).lower(1.0).compile()
    assert list(kept.iterdir()) == []
    jax.jit(lambda x: x + 2).lower(1.0).compile()
    assert list(kept.iterdir())
