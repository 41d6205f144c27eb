import shutil

import pytest

from jaxopt_tut.datasets import __main__ as command
from jaxopt_tut.datasets import fashion_mnist


@pytest.fixture(autouse=True)
def no_places(tmp_path, monkeypatch):
    """Leave no usual place with the data set."""
    monkeypatch.delenv("JAXOPT_TUT_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(fashion_mnist, "SYSTEM_DIRECTORY", tmp_path / "system")


def test_says_where_the_set_is(full_directory, monkeypatch, capsys):
    monkeypatch.setenv("JAXOPT_TUT_DATA", str(full_directory))
    assert command.main([]) == 0
    line = (
        f"{full_directory} has 60000 training and 10000 test images of Fashion-MNIST, mean 0.287017"
    )
    assert capsys.readouterr().out.startswith(line)


def test_downloads_a_set_that_is_nowhere(full_directory, tmp_path, monkeypatch, capsys):
    fetch = lambda directory: shutil.copytree(full_directory, directory)
    monkeypatch.setattr(command, "fetch_fashion_mnist", fetch)
    assert command.main(["--directory", str(tmp_path / "new")]) == 0
    assert f"{tmp_path}/new has 60000 training" in capsys.readouterr().out


@pytest.mark.parametrize("error", [ConnectionError("no route"), ValueError("no route")], ids=repr)
def test_a_failed_download_names_the_package_and_fails(monkeypatch, capsys, error):
    def fetch(_):
        raise error

    monkeypatch.setattr(command, "fetch_fashion_mnist", fetch)
    assert command.main([]) == 1
    assert (
        "no route\nInstall it with `apt-get install dataset-fashion-mnist`"
        in capsys.readouterr().err
    )


def test_ctrl_c_ends_a_download_with_130_and_one_line(monkeypatch, capsys):
    def fetch(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "fetch_fashion_mnist", fetch)
    assert command.main([]) == 130
    assert capsys.readouterr().err == "Interrupted; the files that are whole are kept.\n"
