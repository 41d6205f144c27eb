import hashlib
import http.client
import io
import os
import urllib.error
import urllib.request
import urllib.response

import pytest

from jaxopt_tut.datasets import fetch, fetch_fashion_mnist
from jaxopt_tut.datasets.fashion_mnist import FILE_NAMES, cache_directory

BODIES = {name: f"the content of {name}".encode() for name in FILE_NAMES}
NAME = FILE_NAMES[0]
MIRROR = "https://mirror.example/fashion/"


def sha256(body):
    return hashlib.sha256(body).hexdigest()


def redirect(address):
    return 302, {"Location": address}, b""


@pytest.fixture
def web(monkeypatch):
    """A web of https answers, by address: (status, headers, body), or an error to raise.

    The real openers, redirect and error handlers of urllib run; only the socket is replaced.
    `BODIES` stand for the released files.
    """
    answers = {MIRROR + name: (200, {}, body) for name, body in BODIES.items()}
    requested = []

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req):
            requested.append(req.full_url)
            answer = answers[req.full_url]
            if isinstance(answer, Exception):
                raise answer
            status, headers, body = answer
            message = http.client.HTTPMessage()
            for name, value in headers.items():
                message[name] = value
            stream = io.BytesIO(body) if isinstance(body, bytes) else body
            response = urllib.response.addinfourl(stream, message, req.full_url, status)
            response.msg = "reason"
            return response

    releases = {
        name: fetch._Release(len(body), sha256(body), sha256(b"Debian's " + body))
        for name, body in BODIES.items()
    }
    monkeypatch.setattr(urllib.request, "HTTPSHandler", Https)
    monkeypatch.setattr(fetch, "_RELEASES", releases)
    answers["requested"] = requested
    return answers


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("base_url", [MIRROR, MIRROR.rstrip("/")], ids=["slash", "no slash"])
def test_downloads_the_four_files_and_leaves_nothing_else(web, tmp_path, base_url):
    target = tmp_path / "new" / "directory"
    assert fetch_fashion_mnist(target, base_url=base_url) == target
    assert contents(target) == BODIES
    assert web["requested"] == [MIRROR + name for name in FILE_NAMES]


def test_the_cache_is_the_default_and_zalando_the_source(web, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    elsewhere = "https://raw.githubusercontent.com/zalandoresearch/"
    for name, body in BODIES.items():
        web[fetch.BASE_URL + name] = redirect(elsewhere + name)
        web[elsewhere + name] = (200, {}, body)
    assert fetch_fashion_mnist() == cache_directory()
    assert contents(cache_directory()) == BODIES


def test_whole_files_are_kept_and_damaged_ones_replaced(web, tmp_path):
    repacked = b"Debian's " + BODIES[FILE_NAMES[1]]
    (tmp_path / FILE_NAMES[0]).write_bytes(BODIES[FILE_NAMES[0]])
    (tmp_path / FILE_NAMES[1]).write_bytes(repacked)
    (tmp_path / FILE_NAMES[2]).write_bytes(b"damaged")
    fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert web["requested"] == [MIRROR + name for name in FILE_NAMES[2:]]
    assert contents(tmp_path) == BODIES | {FILE_NAMES[1]: repacked}


def test_goes_on_where_an_interrupted_call_stopped(web, tmp_path):
    answer = web[MIRROR + FILE_NAMES[2]]
    web[MIRROR + FILE_NAMES[2]] = TimeoutError("timed out")
    with pytest.raises(ConnectionError, match="timed out"):
        fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert sorted(contents(tmp_path)) == sorted(FILE_NAMES[:2])
    web[MIRROR + FILE_NAMES[2]] = answer
    web["requested"].clear()
    fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert web["requested"] == [MIRROR + name for name in FILE_NAMES[2:]]


class EndlessStream(io.RawIOBase):
    """Never stops, and counts what was taken from it."""

    num_bytes = 0

    def readable(self):
        return True

    def readinto(self, buffer):
        self.num_bytes += len(buffer)
        return len(buffer)


def test_an_endless_answer_is_cut_at_the_size_of_the_file(web, tmp_path):
    web[MIRROR + NAME] = (200, {"Content-Length": "3"}, stream := EndlessStream())
    limit = len(BODIES[NAME])
    sentence = (
        rf"^fetch_fashion_mnist needs a file of at most {limit} bytes, got more from {MIRROR}"
    )
    with pytest.raises(ValueError, match=sentence):
        fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert stream.num_bytes <= 2**16  # one chunk
    assert contents(tmp_path) == {}


BODY = BODIES[NAME]
BAD_ANSWERS = {
    "other file": (
        (200, {}, BODY[::-1]),
        ValueError,
        rf"needs the released {NAME} of {len(BODY)} bytes and SHA-256 {sha256(BODY)}, "
        rf"got {len(BODY)} bytes and {sha256(BODY[::-1])} from {MIRROR}{NAME}\.",
    ),
    "partial": (
        (200, {"Content-Length": str(len(BODY))}, BODY[:3]),
        ValueError,
        rf"needs the released {NAME} of {len(BODY)} bytes .*, got 3 bytes and ",
    ),
    "one byte more": ((200, {}, BODY + b"!"), ValueError, rf"needs a file of at most {len(BODY)} "),
    "redirect to http": (
        redirect("http://plain.example/file"),
        ValueError,
        r"needs https all the way, got 'http://plain\.example/file'\.",
    ),
    "redirect to ftp": (
        redirect("ftp://plain.example/file"),
        ValueError,
        r"needs https all the way, got 'ftp://plain\.example/file'\.",
    ),
    "redirect to a file": (
        redirect("file:///etc/hostname"),
        ConnectionError,
        rf"cannot read {MIRROR}{NAME}: HTTP Error 302",
    ),
    "not found": ((404, {}, b""), ConnectionError, rf"cannot read {MIRROR}{NAME}: HTTP Error 404"),
    "no such host": (
        urllib.error.URLError("Name or service not known"),
        ConnectionError,
        rf"cannot read {MIRROR}{NAME}: .*Name or service not known",
    ),
}


@pytest.mark.parametrize(("answer", "error", "sentence"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_leaves_what_was_there(web, tmp_path, answer, error, sentence):
    web[MIRROR + NAME] = answer
    (tmp_path / NAME).write_bytes(b"old and damaged")
    with pytest.raises(error, match=f"^fetch_fashion_mnist {sentence}"):
        fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert contents(tmp_path) == {NAME: b"old and damaged"}


@pytest.mark.usefixtures("web")
def test_a_file_takes_its_name_only_when_verified(tmp_path, monkeypatch):
    replaced = []
    real = os.replace

    def replace(source, target):
        with open(source, "rb") as file:
            replaced.append((os.path.basename(target), file.read()))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert dict(replaced) == BODIES


@pytest.mark.parametrize("base_url", ["http://mirror.example/", "ftp://mirror.example/", "mirror"])
def test_refuses_an_address_that_is_not_https(web, tmp_path, base_url):
    with pytest.raises(ValueError, match=f"^fetch_fashion_mnist needs https .*, got '{base_url}'"):
        fetch_fashion_mnist(tmp_path / "new", base_url=base_url)
    assert web["requested"] == []
    assert not (tmp_path / "new").exists()


def test_an_interrupted_download_leaves_whole_files_alone(web, tmp_path):
    class Stream(io.BytesIO):
        def read(self, _=-1):
            if self.tell():
                raise KeyboardInterrupt
            return super().read(3)

    second = FILE_NAMES[1]
    web[MIRROR + second] = 200, {}, Stream(BODIES[second])
    with pytest.raises(KeyboardInterrupt):
        fetch_fashion_mnist(tmp_path, base_url=MIRROR)
    assert [file.name for file in tmp_path.iterdir()] == [NAME]
    assert (tmp_path / NAME).read_bytes() == BODIES[NAME]
