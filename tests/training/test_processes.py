"""`fit` over two processes is `fit` over two devices of one."""

import json
import re
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


PEERS = Path(__file__).parent / "killed_peers.py"


def reports(folder, victim, checkpoints):
    """Run two processes; return what each reports and wrote as errors."""
    for old in folder.glob("[01].json"):
        old.unlink()
    running = start(PEERS, folder, victim, checkpoints)
    errors = [process.communicate()[1] for process in running]
    files = [folder / f"{process}.json" for process in range(2)]
    return [json.loads(one.read_text()) if one.exists() else None for one in files], errors


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_survivors_say_where_to_resume_and_a_new_start_does(victim, tmp_path):
    """As if nothing had happened; the first process is the coordinator."""
    expected, _ = reports(tmp_path, "nobody", tmp_path / "undisturbed")
    assert expected[0] == expected[1]
    assert expected[0]["resumed_from"] is None
    folder = tmp_path / "killed"
    found, errors = reports(tmp_path, victim, folder)
    assert found[victim] is None
    said = re.search(
        r"fit lost another process: start all of them again; they resume from step (\d+) or "
        r"later, saved in '(.*)'\.",
        errors[1 - victim],  # also if JAX aborts it before it could report
    )
    assert said is not None, errors[1 - victim]
    assert said[2] == str(folder)
    assert found[1 - victim] in (None, {"error": said[0]})
    saved = max(int(one.name.rpartition("_")[2]) for one in folder.glob("save_*"))
    assert 30 <= int(said[1]) <= saved <= 40  # it is the end of the fourth epoch
    resumed, _ = reports(tmp_path, "nobody", folder)
    for one in resumed:
        assert one.pop("resumed_from") == saved
        assert one == {name: value for name, value in expected[0].items() if name != "resumed_from"}
