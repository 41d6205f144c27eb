"""Files that come with the package, and are what it was released with."""

import hashlib
from importlib.resources.abc import Traversable


def read_bundled(caller: str, file: Traversable, sha256: str) -> bytes:
    """Read a bundled file, and refuse another one in its place."""
    packed = file.read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != sha256:
        raise ValueError(
            f"{caller} needs the bundled file with SHA-256 {sha256}, got {digest}; "
            "install jaxopt_tut anew."
        )
    return packed
