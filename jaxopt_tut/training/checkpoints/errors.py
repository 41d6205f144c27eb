"""What is raised for a checkpoint whose bytes are not those that were written."""

from collections.abc import Sequence


class DamagedCheckpoint(RuntimeError):
    """A checkpoint is not what was written.

    A checkpoint that is whole, but of another run, raises `ValueError` instead: going back to an
    earlier one would not mend that.

    Attributes:
      damage: One sentence on each file or leaf.
    """

    def __init__(self, message: str, damage: Sequence[str] = ()):
        """Keep what is damaged beside the message."""
        super().__init__(message)
        self.damage = tuple(damage)
