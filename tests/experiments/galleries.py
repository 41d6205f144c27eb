"""Scripts and results of a made-up part, for the tests of the gallery."""

import re

from PIL import Image

from experiments import _catalog, _claims, _outputs
from experiments.__main__ import main

DOCSTRING = """It {verb} & <stays>.

Question: Does it {verb}, as `x_y` does?

Claim: it {verb} by 2 * 3 a layer.

Why: trees do.

Source: UvA tutorial 4, growth; Author et al. (2020), https://doi.org/10.1137/0916069.
Section: {section}.
Command: python -m experiments {name}
Expected: a 50 % larger one.
Time: 3 s.
"""
SCRIPTS = {"grows": "A4", "falls": "beyond A4", "turns": "B1"}
CLAIMS = [
    _claims.at_least("height <of> it", 0.25, 0.1),
    _claims.equal("height in the end", 0.5 + 2e-15, 0.5, 1e-13, headline=True),
    _claims.at_most("width | of_it", 0.25, 0.1, required=False),
    _claims.at_most("depth", 0.05, 0.1, original="that it is *none*"),
]
FINDING = "height in the end: off by 2e-15, threshold 0.5 ± 1e-13: holds."


def draw(path, color="white", size=(600, 200)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def report(name, **changes):
    return {
        "experiment": name,
        "part": "part",
        "description": (_catalog.docstring(name)),
        "passed": True,
        "claims": [claim.to_json() for claim in CLAIMS],
        "figures": ["some_paths", "tree"],
        "seconds": 1.5,
        "config": {"size": 3},
        "versions": {"python": "3.11"},
        "error": None,
        "numbers": {"height": [1.0, 2.0]},
        **changes,
    }


def make(folder, monkeypatch):
    """Return a folder of results of three scripts, one of which has not been run."""
    scripts = folder / "scripts" / "part"
    scripts.mkdir(parents=True)
    monkeypatch.setattr(_catalog, "FOLDER", scripts.parent)
    for name, section in SCRIPTS.items():
        text = DOCSTRING.format(name=name, verb=name, section=section)
        (scripts / f"{name}.py").write_text(f'"""{text}"""\nx = 1 < 2\n', encoding="utf-8")
    results = folder / "results"
    for name in ("grows", "falls"):
        draw(results / name / "some_paths.png")
        (results / name / "some_paths.svg").write_text("<svg></svg>", encoding="utf-8")
        (results / name / "tree.svg").write_text("<svg></svg>", encoding="utf-8")
        _outputs.write_json(report(name), results / name)
    return results


def write(results, form="html", to=None):
    """Write the gallery and return its pages, by their path without ending."""
    to = to or results.with_name(f"as_{form}")
    assert main(["gallery", "--results", str(results), "--to", str(to), "--format", form]) == 0
    files = [file for file in to.rglob("*") if file.is_file() and file.suffix in (".html", ".md")]
    pages = {file.relative_to(to).as_posix(): file.read_text("utf-8") for file in files}
    return {
        re.sub(r"/?index.html$|\.html$|\.md$", "", name) or "index": page
        for name, page in pages.items()
    }
