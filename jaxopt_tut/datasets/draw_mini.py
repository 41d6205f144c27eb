"""Draw the bundled subset from the full Fashion-MNIST: `python -m jaxopt_tut.datasets.draw_mini`.

For maintainers. Writes `data/fashion_mnist_mini.npz` and prints its SHA-256, which belongs into
`mini.py`; with `--check` it writes nothing and compares the images with those of the package.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

from jaxopt_tut.datasets.dataset import Split
from jaxopt_tut.datasets.fashion_mnist import CLASS_NAMES, load_fashion_mnist
from jaxopt_tut.datasets.mini import FILE, pack, unpack

SEED = b"fashion_mnist_mini"


def draw(split: Split, num_per_class: int, *, seed: bytes) -> Split:
    """Draw equally many images of every class, in the order of the original.

    Of each class those whose SHA-256, taken over the seed and the pixels, comes first: as good as
    random, and the same for ever, which no generator of numpy or Python promises.
    """
    digests = [hashlib.sha256(seed + image.tobytes()).digest() for image in split.images]
    chosen = []
    for label in range(len(CLASS_NAMES)):
        members = np.flatnonzero(split.labels == label)
        if len(members) < num_per_class:
            raise ValueError(
                f"draw needs {num_per_class} images of class {label}, got {len(members)}."
            )
        chosen += sorted(members, key=digests.__getitem__)[:num_per_class]
    return Split(*(leaf[np.sort(chosen)] for leaf in split))


def main(arguments: list[str] | None = None) -> int:
    """Draw the subset and write it, or compare: the exit code is 1 if the package's differs."""
    parser = argparse.ArgumentParser(prog="python -m jaxopt_tut.datasets.draw_mini")
    parser.add_argument("--directory", type=Path, help="where the four full files lie")
    parser.add_argument("--check", action="store_true", help="compare, do not write")
    options = parser.parse_args(arguments)

    full = load_fashion_mnist(options.directory)
    train, test = draw(full.train, 600, seed=SEED), draw(full.test, 100, seed=SEED)
    file = Path(str(FILE))
    if options.check:
        bundled = [*unpack(file.read_bytes())[0], *unpack(file.read_bytes())[1]]
        is_same = all(map(np.array_equal, [*train, *test], bundled))
        print(f"{file} {'holds' if is_same else 'DOES NOT hold'} the images that this draws.")
        return int(not is_same)
    packed = pack(train, test)
    file.write_bytes(packed)
    print(f"{file}: {len(packed)} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
