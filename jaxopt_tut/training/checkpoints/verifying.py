"""Which checkpoints of a folder are what was written."""

import dataclasses
import os
from pathlib import Path

from jaxopt_tut.blocks import shown
from jaxopt_tut.training.checkpoints import folder, store
from jaxopt_tut.training.checkpoints.restoring import existing


@shown
@dataclasses.dataclass(frozen=True)
class CheckpointReport:
    """What was found in one checkpoint.

    Attributes:
      step: Steps taken until it.
      path: Its folder.
      damage: A sentence on each file or leaf that is not what was written; empty if it is whole.
      leaves: What is wrong with each leaf, by its name; None is nothing.
    """

    step: int
    path: Path
    damage: tuple[str, ...]
    leaves: dict[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether it is whole."""
        return not self.damage


@shown
@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found in a folder; its text has a line a checkpoint.

    Attributes:
      checkpoints: The newest first.
    """

    checkpoints: tuple[CheckpointReport, ...]

    @property
    def ok(self) -> bool:
        """Whether all of them are whole."""
        return all(one.ok for one in self.checkpoints)

    def __str__(self) -> str:
        """Write a line a checkpoint, and one a damage."""
        lines = []
        for one in self.checkpoints:
            state = "whole" if one.ok else "damaged"
            lines.append(f"{one.path.name}: {state}, {len(one.leaves)} leaves")
            lines.extend(f"  {damage}" for damage in one.damage)
        return "\n".join(lines)


def verify(directory: str | os.PathLike[str]) -> Verification:
    r"""Compare every checkpoint of a folder with what was written.

    $$\mathrm{SHA256}(\text{bytes}) = h$$

    for each file and each leaf, with the $h$ that stands in the checkpoint, and for the file in
    which that stands. It reads everything, and writes nothing; the run may go on meanwhile.

    Args:
      directory: The folder that was given to `Checkpoint`.

    Returns:
      A report on each checkpoint, the newest first, and on each leaf in it.

    Raises:
      TypeError: If `directory` is no path.
      ValueError: If there is no folder or no checkpoint in it.

    Example:
      >>> import jax, jax.numpy as jnp, optax, tempfile
      >>> from jaxopt_tut.training import fit
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     result = fit(lambda w, x: jnp.sum((w - x) ** 2), jnp.zeros(2), optax.sgd(0.5),
      ...                  jnp.ones((4, 2)), batch_size=4, num_epochs=1, key=jax.random.key(0),
      ...                  checkpoint=directory, progress=False)
      ...     verify(directory).checkpoints[0].leaves["params"] is None
      True
    """
    path = existing(directory, "verify")
    reports = []
    for name in folder.checkpoints_in(path):
        at = path / str(name)
        document, damage = store.read_document(at, name)
        leaves = {} if document is None else store.damaged_leaves(at, document)
        if not at.exists():  # removed meanwhile by the run, after newer ones
            continue
        damage = damage + [f"{leaf}: {wrong}" for leaf, wrong in leaves.items() if wrong]
        reports.append(CheckpointReport(name.step, at, tuple(damage), leaves))
    return Verification(tuple(reports))
