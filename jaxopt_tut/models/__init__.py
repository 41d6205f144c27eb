"""The small networks of the experiments: pure functions of a parameter tree.

* `mlp`: the fully connected network of the first tutorial, `init` and `apply`.
* `MLP`: the same network as a flax nnx module (imported on first use: flax is not cheap).
"""

from typing import TYPE_CHECKING

from jaxopt_tut.models import mlp

if TYPE_CHECKING:
    from jaxopt_tut.models.mlp_nnx import MLP

__all__ = ["MLP", "mlp"]


def __getattr__(name: str) -> type:
    """Import the nnx twin only when it is asked for."""
    if name == "MLP":
        from jaxopt_tut.models.mlp_nnx import MLP

        return MLP
    raise AttributeError(f"module 'jaxopt_tut.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
