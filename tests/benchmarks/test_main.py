"""The command line of the benchmarks."""

import importlib
import sys
import types

import pytest

from benchmarks import __main__ as command


def test_ctrl_c_says_which_benchmarks_did_not_end(monkeypatch, capsys):
    def interrupted(**_):
        raise KeyboardInterrupt

    mains = {"autodiff": lambda **_: print("measured"), "bilevel": interrupted}
    find = lambda name: types.SimpleNamespace(main=mains[name.split(".")[1]])
    monkeypatch.setattr(importlib, "import_module", find)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "autodiff", "bilevel", "doctor"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 130
    said = capsys.readouterr()
    assert "measured" in said.out
    assert said.err == "Interrupted; not run to the end: bilevel, doctor.\n"
