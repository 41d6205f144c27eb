"""What the README tells a newcomer to type works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import _catalog

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_readmes_code_runs():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "Finished 5 epochs." in run.stdout
    assert "1.4142" in run.stdout  # the gain of ReLU
    assert "8.298353" in run.stdout  # the worked example


def test_the_readmes_commands_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert {"demo", "test", "check", "bench", "data"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    lines = re.findall(r"^python -m experiments (.+)", text, re.MULTILINE)
    words = [line.split()[0] for line in lines]
    assert {"list", "all"} < set(words)
    for line in lines:
        names = line.split(" --")[0].split()
        assert names in (["list"], ["all"]) or _catalog.resolve(names)
