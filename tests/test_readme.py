"""What the README tells a newcomer to type works, and what it shows is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import _catalog

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_code_runs(tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    verdict, end = run.stdout.splitlines()
    assert verdict == "None"
    # a tenth is chance; five runs with other keys reached .81 to .84
    assert re.fullmatch(r"Finished 5 epochs\. Best epoch [1-5]: 0\.(7[5-9]|8\d)", end)
    assert (tmp_path / "training.png").stat().st_size > 1000


def test_the_readmes_commands_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {t for line in re.findall(r"`make ([a-z ]+)`", TEXT) for t in line.split()}
    assert {"demo", "docs", "test", "check", "bench", "data"} <= targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    names = re.findall(r"`python -m experiments (\w+)`", TEXT)
    assert names
    assert _catalog.resolve(names)


def test_the_readme_is_short_and_leads_to_pages():
    assert len(TEXT.splitlines()) <= 90
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    assert {"docs/learn/index.md", "docs/howto/index.md", "docs/extending.md"} <= set(links)
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readmes_pictures_are_there_and_say_what_they_show():
    pictures = re.findall(r'<img src="([^"]+)"[^>]* alt="([^"]+)"', TEXT)
    files = [path for path, _ in pictures] + re.findall(r'srcset="([^"]+)"', TEXT)
    assert len(pictures) >= 3
    assert sum((ROOT / path).stat().st_size for path in files) < 300_000
    assert all(alt.endswith(".") and len(alt) > 60 for _, alt in pictures)
