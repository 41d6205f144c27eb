"""Data on the host, checked before it is trusted.

* `load_fashion_mnist_mini`: 7 000 real images that come with the package.
* `load_fashion_mnist`, `find_fashion_mnist`, `fetch_fashion_mnist`: all 70 000, from a Debian
  package, a directory of yours or an opt-in download (`python -m jaxopt_tut.datasets`).
* `load`: one of the two, by the name of its size.
* `load_daily_closes`: thirteen years of four share prices, which come with the package too.
* `Dataset`, `Split`, `split_train_validation`, `CLASS_NAMES`: what the loaders return, and a
  validation part by key.
* `normalize`, `pixel_statistics`, `verify_normalization`: zero mean and unit variance, computed
  from the training images and verified on one batch.
* `read_idx`: the file format of MNIST and its relatives.
"""

from jaxopt_tut.datasets.closes import Closes, load_daily_closes
from jaxopt_tut.datasets.dataset import Dataset, Split, split_train_validation
from jaxopt_tut.datasets.fashion_mnist import (
    CLASS_NAMES,
    find_fashion_mnist,
    load_fashion_mnist,
)
from jaxopt_tut.datasets.fetch import fetch_fashion_mnist
from jaxopt_tut.datasets.idx import read_idx
from jaxopt_tut.datasets.loading import load
from jaxopt_tut.datasets.mini import load_fashion_mnist_mini
from jaxopt_tut.datasets.normalization import (
    NormalizationCheck,
    normalize,
    pixel_statistics,
    verify_normalization,
)

__all__ = [
    "CLASS_NAMES",
    "Closes",
    "Dataset",
    "NormalizationCheck",
    "Split",
    "fetch_fashion_mnist",
    "find_fashion_mnist",
    "load",
    "load_daily_closes",
    "load_fashion_mnist",
    "load_fashion_mnist_mini",
    "normalize",
    "pixel_statistics",
    "read_idx",
    "split_train_validation",
    "verify_normalization",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
