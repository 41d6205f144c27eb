"""Checkpoints of a run: written in the background, verified when they are read.

* `Checkpoint`: where, how often and whether to resume, for `fit(..., checkpoint=)`.
* `restore`: the arrays of the newest checkpoint that is whole.
* `verify`: a report on every checkpoint of a folder and on every leaf in it.
* `DamagedCheckpoint`: what is raised where none is whole.
"""

from jaxopt_tut.training.checkpoints.errors import DamagedCheckpoint
from jaxopt_tut.training.checkpoints.options import Checkpoint
from jaxopt_tut.training.checkpoints.restoring import restore
from jaxopt_tut.training.checkpoints.verifying import CheckpointReport, Verification, verify

__all__ = [
    "Checkpoint",
    "CheckpointReport",
    "DamagedCheckpoint",
    "Verification",
    "restore",
    "verify",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
