"""What a command says to a reader that has seen enough, such as `head`: nothing."""

import subprocess
import sys

import pytest

from experiments._log import CUT

BENCHMARKS = """
import runpy, sys, types
from benchmarks import measure
measure.machine = lambda: "a machine"
sys.modules["benchmarks.autodiff"] = types.SimpleNamespace(main=lambda **_: print("measured"))
sys.argv = ["benchmarks", "autodiff"]
runpy.run_module("benchmarks.__main__", run_name="__main__")
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "experiments", "list"),
        ("-m", "experiments", "--help"),
        ("-m", "experiments.autodiff.worked_example", "--help"),
        ("-c", BENCHMARKS),
    ],
    ids=["list", "help", "script", "benchmarks"],
)
def test_a_command_whose_reader_is_gone_ends_in_silence(arguments):
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as command:
        command.stdout.close()
        said = command.stderr.read()
    assert (said, command.returncode) == ("", CUT)
