"""`fit` over two processes is `fit` over two devices of one."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parent / "sharded_runs.py"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def start(script, *arguments):
    """Start two processes that find one another; what gloo prints goes nowhere."""
    port = str(free_port())
    return [
        subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments), port, str(process)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for process in range(2)
    ]  # fmt: skip


def load(folder, name, process=0):
    report = json.loads((folder / f"{name}-{process}.json").read_text())
    return dict(np.load(folder / f"{name}-{process}.npz")), report


SAME = ["replicated", "fsdp", "streamed fsdp", "batches", "evaluated"]


@pytest.mark.slow
def test_two_processes_have_the_bits_of_two_devices(tmp_path):
    (tmp_path / "two").mkdir()
    names = ",".join(SAME)
    code = [sys.executable, str(SCRIPT), str(tmp_path), "2", names]
    subprocess.run(code, check=True, capture_output=True)
    for process in start(SCRIPT, tmp_path / "two", 1, names):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    for name in SAME:
        expected, alone = load(tmp_path, name)
        for process in (0, 1):
            arrays, report = load(tmp_path / "two", name, process)
            for key, values in expected.items():
                if key != "validation":
                    np.testing.assert_array_equal(arrays[key], values, err_msg=f"{name} {key}")
            assert report["kept"] == alone["kept"]
            assert (report["num_events"] > 0) == (process == 0)
        # the metrics of an evaluation are summed over the same two devices
        np.testing.assert_array_equal(arrays["validation"], expected["validation"])
    # what one process reads of the rows: half of them, and the two that are looked at
    rows = alone["asked"] - 4
    _, report = load(tmp_path / "two", "evaluated", 1)
    assert report["asked"] - 4 == rows / 2
