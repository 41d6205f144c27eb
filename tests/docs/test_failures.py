"""What must fail the build does: tiny sites built with the settings of the real one."""

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
pytestmark = pytest.mark.slow
PAGES = {
    "raises": "```python\n1 / 0\n```\n",
    "warns": "```python\nimport warnings\n\nwarnings.warn('careful')\n```\n",
    "bare_figure": "```python\nfrom jaxopt_tut.plotting import new_figure\n\nnew_figure()\n```\n",
    "broken_name": "A name that is none: `initializers.gian`.\n",
    "broken_formula": "A formula: $\\frac{1$.\n",
    "broken_link": "[nowhere](nowhere.md)\n",
}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Build a site of some pages, once; return the exit code and what was said of each page."""
    folder = tmp_path_factory.mktemp("site")

    def run(name, pages):
        source = folder / name
        source.mkdir()
        for page, text in pages.items():
            (source / f"{page}.md").write_text(f"# {page}\n\n{text}")
        contents = "```{toctree}\n" + "\n".join(pages) + "\n```\n"
        (source / "index.md").write_text(f"# Index\n\n{contents}")
        files = ",".join(f"{page}.md" for page in ("index", *pages))
        command = [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-c", DOCS]
        command += ["-D", f"include_patterns={files}", source, folder / f"{name}_html"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parent)
        return done.returncode, done.stderr

    return run


def test_faults_fail_the_build(build):
    code, said = build("bad", PAGES)
    assert code != 0
    warnings = [line for line in said.split("\n") if "WARNING" in line]
    of = lambda page: "\n".join(line for line in warnings if f"/{page}.md" in line)
    assert "Executing notebook failed" in of("raises")
    assert "ZeroDivisionError" in said
    assert "Executing notebook failed" in of("warns")
    assert "a figure without an alternative text" in of("bare_figure")
    assert "initializers.gian is no public name of initializers" in of("broken_name")
    assert "KaTeX parse error" in of("broken_formula")
    assert "nowhere.md" in of("broken_link")


def test_a_page_without_faults_builds(build):
    text = "`jax.grad` and $x$.\n\n```python\n# solution\nprint(1 + 1)\n```\n"
    code, said = build("good", {"fine": text})
    assert (code, "WARNING: " in said) == (0, False), said
