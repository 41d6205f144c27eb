"""Optimizers on the same problems, from the same starts, on the same batches.

* `RaceTable`: every loss of a race, and what is needed to judge it.
"""

from jaxopt_tut.training.races.table import RaceTable

__all__ = ["RaceTable"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
