"""What of JAX's settings changes a trace: other threads and processes have their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax


class Settings(NamedTuple):
    """Types and products."""

    x64: bool
    promotion: str
    precision: str | None

    @classmethod
    def here(cls) -> "Settings":
        """Read those of this thread."""
        config: Any = jax.config
        return cls(
            config.jax_enable_x64,
            config.jax_numpy_dtype_promotion,
            config.jax_default_matmul_precision,
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Have them in another thread or process."""
        with (
            jax.enable_x64(self.x64),
            jax.numpy_dtype_promotion(self.promotion),
            jax.default_matmul_precision(self.precision),
        ):
            yield
