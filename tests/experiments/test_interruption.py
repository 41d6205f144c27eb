"""What an interrupted or failing run leaves behind: all that was whole before, and a page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import _outputs
from experiments._files import replace_folder
from experiments._reports import read_all

ROOT = Path(__file__).parents[2]
SCRIPT = '''"""A claim of {name}."""
import dataclasses, pathlib, time
from experiments import _claims

@dataclasses.dataclass(frozen=True)
class Config:
    def quick(self):
        return self

def run(config):
    pathlib.Path("{name}.started").touch()
    {body}
    return {{"number": {number}}}

def check(result):
    return [_claims.at_least("fine", 1.0, 0.0)]

def plot(result):
    return {{"drawing": "<svg/>"}}
'''
WAIT = "while not pathlib.Path('never').exists(): time.sleep(0.01)"


@pytest.fixture
def make_program(tmp_path):
    """Return a function that writes the runner and scripts of one's own into an empty folder."""
    package = tmp_path / "experiments"
    (package / "part").mkdir(parents=True)
    for file in (ROOT / "experiments").glob("_*.py"):
        shutil.copy(file, package)

    def make(**bodies):
        for name, body in bodies.items():
            text = SCRIPT.format(name=name, body=body, number=len(body))
            (package / "part" / f"{name}.py").write_text(text, encoding="utf-8")
        return tmp_path

    return make


def start(folder, *arguments):
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments, "--out", "results"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(process, *files):
    end = time.monotonic() + 120
    while not all(file.exists() for file in files):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def snapshot(folder):
    """Read what a run left; its page is written anew by the next one."""
    files = [file for file in folder.iterdir() if file.name != "index.html"]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_keeps_what_was_there_and_says_what_is_missing(
    make_program, jobs, number
):
    folder = make_program(a_first="pass", b_second="pass", c_third="pass")
    first = start(folder, "run", "a_first", "b_second")
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0, output
    results = folder / "results"
    before = snapshot(results / "b_second")
    assert set(before) == {"drawing.svg", "log.txt", "result.json"}
    make_program(a_first="print('anew')", b_second=WAIT, c_third=WAIT)
    (folder / "a_first.started").unlink()
    (folder / "b_second.started").unlink()
    second = start(folder, "run", "a_first", "b_second", "c_third", "--jobs", jobs)
    wait_for(second, folder / "b_second.started", folder / "a_first.started")
    if jobs == "2":  # the first has ended where the third has begun
        wait_for(second, folder / "c_third.started")
    second.send_signal(number)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 130, output
    assert "Traceback" not in output
    assert "Interrupted; not run to the end: b_second, c_third." in output
    assert snapshot(results / "b_second") == before
    numbers = json.loads((results / "a_first" / "result.json").read_text(encoding="utf-8"))
    assert numbers["numbers"] == {"number": len("print('anew')")}
    assert sorted(file.name for file in results.iterdir()) == [
        ".cache",
        "a_first",
        "b_second",
        "claims.html",
        "index.html",
    ]
    page = (results / "index.html").read_text(encoding="utf-8")
    assert "<li>b_second: shown from an earlier run</li><li>c_third: not shown</li>" in page
    assert 'href="a_first/index.html"' in page
    for name in ("a_first", "b_second"):
        assert (results / name / "index.html").exists()


@pytest.mark.slow
def test_a_script_of_its_own_is_interrupted_likewise(make_program):
    folder = make_program(alone=WAIT)
    script = folder / "experiments" / "part" / "alone.py"
    script.write_text(
        script.read_text(encoding="utf-8")
        + "\nimport sys\nfrom experiments._runner import run_script\n"
        + 'if __name__ == "__main__":\n    run_script(sys.modules[__name__])\n',
        encoding="utf-8",
    )
    path = os.pathsep.join([str(folder), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.part.alone"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for(process, folder / "alone.started")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    page = (folder / "results" / "index.html").read_text(encoding="utf-8")
    assert "<li>alone: not shown</li>" in page
    assert not list((folder / "results").glob(".alone*"))


REPORT = {"experiment": "one", "error": None, "numbers": 3}


def test_a_failure_keeps_the_last_complete_run(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "figure.png").write_bytes(b"drawn")
    _outputs.write_json(REPORT, folder)
    whole = (folder / "result.json").read_bytes()
    for error in ("first", "second"):
        _outputs.write_failure(REPORT | {"error": error, "numbers": None}, folder)
        assert json.loads((folder / "result.json").read_text())["error"] == error
        assert (folder / "last_complete.json").read_bytes() == whole
        assert (folder / "figure.png").read_bytes() == b"drawn"
    assert len(list(folder.iterdir())) == 3


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    part, folder = tmp_path / ".one.part", tmp_path / "one"
    for name in ("old", "new"):
        part.mkdir()
        (part / name).touch()
        replace_folder(part, folder)
    assert [file.name for file in tmp_path.rglob("*")] == ["one", "new"]


def test_reports_are_read_of_whole_folders_only(tmp_path):
    for name in ("one", ".one.part", ".one.old"):
        (tmp_path / name).mkdir()
        _outputs.write_json(REPORT | {"numbers": name}, tmp_path / name)
    assert [report.numbers for report in read_all(tmp_path).values()] == ["one"]
