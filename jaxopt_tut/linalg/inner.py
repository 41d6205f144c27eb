"""The inner face of `linalg`: what the rooms built on it need beyond its solves.

Other rooms import these names from here; nothing about them is promised to users.
"""

from jaxopt_tut.linalg.orthogonal import next_direction, orthogonal

__all__ = ["next_direction", "orthogonal"]
