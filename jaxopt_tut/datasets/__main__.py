"""Find or download the full Fashion-MNIST: `python -m jaxopt_tut.datasets`, or `make data`."""

import argparse
import sys
from pathlib import Path

from jaxopt_tut.datasets.fashion_mnist import REMEDIES, find_fashion_mnist, load_fashion_mnist
from jaxopt_tut.datasets.fetch import fetch_fashion_mnist


def main(arguments: list[str] | None = None) -> int:
    """Say where the full set is; download it if it is nowhere; then read and verify it.

    The exit code is 0 if the full set can be loaded now, 130 after Ctrl-C, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m jaxopt_tut.datasets", description=__doc__)
    parser.add_argument("--directory", type=Path, help="look there, and download to there")
    options = parser.parse_args(arguments)
    try:
        directory = _find_or_fetch(options.directory)
        dataset = load_fashion_mnist(directory)
    except (OSError, ValueError) as error:
        print(f"{error}\n{REMEDIES}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # files take their names only when they are whole and verified
        print("Interrupted; the files that are whole are kept.", file=sys.stderr)
        return 130
    print(
        f"{directory} has {len(dataset.train.labels)} training and {len(dataset.test.labels)} test "
        f"images of Fashion-MNIST, mean {dataset.mean:.6f}, std {dataset.std:.6f}."
    )
    return 0


def _find_or_fetch(directory: Path | None) -> Path:
    try:
        return find_fashion_mnist(directory)
    except FileNotFoundError:
        print("Fashion-MNIST is not on this machine yet: downloading 31 MB ...", flush=True)
        return fetch_fashion_mnist(directory)


if __name__ == "__main__":
    sys.exit(main())
