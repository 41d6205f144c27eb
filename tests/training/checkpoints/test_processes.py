"""Several processes save and resume one run together."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.test_processes import start

SCRIPT = Path(__file__).parent / "processes.py"


@pytest.mark.slow
def test_two_processes_resume_together_and_one_goes_on_alone(tmp_path):
    folder, alone = tmp_path / "run", tmp_path / "alone"
    for process in start(SCRIPT, folder, tmp_path / "two", 1):
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    np.testing.assert_array_equal(np.load(tmp_path / "two0.npy"), np.load(tmp_path / "two1.npy"))
    # the same folder without its last epoch, over two devices of one process
    shutil.copytree(folder, alone)
    for save in alone.glob("save_*"):
        if int(save.name.split("_")[-1]) > 20:
            shutil.rmtree(save)
    code = [sys.executable, str(SCRIPT), str(alone), str(tmp_path / "one"), "2"]
    subprocess.run(code, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "one0.npy"), np.load(tmp_path / "two0.npy"))
