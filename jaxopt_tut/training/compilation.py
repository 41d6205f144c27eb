"""Compiled programs kept on disk."""

from pathlib import Path

import jax


def compilation_cache(directory: str | Path) -> None:
    """Keep every compiled program in a directory, to be found by the next process.

    JAX's own threshold of one second leaves out all the small programs of an experiment, which
    together cost the most; here it is zero. The setting is JAX's and holds for the process, so
    scripts call it and the library never does.

    Args:
      directory: Where the programs are kept; made if it does not exist.
    """
    path = Path(directory).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
