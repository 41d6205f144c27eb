"""Download Fashion-MNIST, if asked: https only, capped in size, verified before it is kept."""

import hashlib
import http.client
import os
import tempfile
import urllib.request
import urllib.response
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urljoin, urlsplit

from jaxopt_tut.datasets.fashion_mnist import cache_directory

BASE_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


class _Release(NamedTuple):
    """One file as its authors published it, and as Debian repacked it.

    Debian took name and date out of the gzip header; the 26 MB after it are the same.
    """

    num_bytes: int
    zalando: str
    debian: str


_RELEASES = {
    "train-images-idx3-ubyte.gz": _Release(
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "train-labels-idx1-ubyte.gz": _Release(
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    ),
    "t10k-images-idx3-ubyte.gz": _Release(
        4_422_102,
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
    "t10k-labels-idx1-ubyte.gz": _Release(
        5_148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    ),
}


def fetch_fashion_mnist(
    directory: str | os.PathLike[str] | None = None,
    *,
    base_url: str = BASE_URL,
    timeout: float = 60.0,
) -> Path:
    """Download the four files of Fashion-MNIST (31 MB) and return where they are.

    Nothing else in the library touches the network, and this only when called. Files that are
    there and whole are kept, so a call after an interrupted one goes on where that stopped. Each
    file goes to a scratch directory beside its place, is compared with the SHA-256 of the
    authors' release or of Debian's, and only then takes its name, in one atomic step. Proxies are
    taken from the environment, as `urllib` does.

    Args:
      directory: Where to put the files; None means the cache, where `load_fashion_mnist` looks.
      base_url: The https address of the folder with the four files, for a mirror of your own.
      timeout: Seconds to wait for the next bytes before giving up.

    Returns:
      The directory.

    Raises:
      ValueError: If an address or a redirect isn't https, or a file is too large or another.
      ConnectionError: If an address can't be read.
      OSError: If the directory can't be written.

    Example:
      >>> fetch_fashion_mnist(base_url="http://example.org/")
      Traceback (most recent call last):
      ...
      ValueError: fetch_fashion_mnist needs https all the way, got 'http://example.org/'.
    """
    _require_https(base_url)
    target = cache_directory() if directory is None else Path(directory).expanduser()
    target.mkdir(parents=True, exist_ok=True)
    opener = urllib.request.build_opener(_HttpsRedirects)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as scratch:
        for name, release in _RELEASES.items():
            if (target / name).is_file() and _is_released(target / name, release):
                continue
            part = Path(scratch) / name
            url = urljoin(base_url.rstrip("/") + "/", name)
            _download(opener, url, part, release.num_bytes, timeout)
            if not _is_released(part, release):
                raise ValueError(
                    f"fetch_fashion_mnist needs the released {name} of {release.num_bytes} bytes "
                    f"and SHA-256 {release.zalando}, got {part.stat().st_size} bytes and "
                    f"{_sha256(part)} from {url}."
                )
            part.replace(target / name)
    return target


def _download(
    opener: urllib.request.OpenerDirector, url: str, path: Path, max_bytes: int, timeout: float
) -> None:
    """Write what `url` answers to `path`, and stop once that is more than `max_bytes`."""
    num_bytes = 0
    with path.open("wb") as file:
        try:
            with opener.open(url, timeout=timeout) as response:
                while num_bytes <= max_bytes and (chunk := response.read(2**16)):
                    num_bytes += file.write(chunk)
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(f"fetch_fashion_mnist cannot read {url}: {error}.") from error
    if num_bytes > max_bytes:
        raise ValueError(
            f"fetch_fashion_mnist needs a file of at most {max_bytes} bytes, got more from {url}."
        )


def _is_released(path: Path, release: _Release) -> bool:
    return _sha256(path) in (release.zalando, release.debian)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follow a redirect only to https: urllib would also go on to http and ftp."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes] | urllib.response.addinfourl,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse another scheme before a request is made."""
        _require_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(url: str) -> None:
    if urlsplit(url).scheme != "https":
        raise ValueError(f"fetch_fashion_mnist needs https all the way, got {url!r}.")
