"""What is in the wheel, what it asks for, and what a type checker sees of it once installed."""

import ast
import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel with the backend alone: no network, no environment of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel where the repository is out of sight; return folder and interpreter.

    A wheel of pure Python is installed by unpacking it. What it needs is found through a path file,
    whose entries come behind the environment's own packages.
    """
    folder = tmp_path_factory.mktemp("user")
    root = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    venv.create(folder / "env", with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", "venv", root))
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return folder, Path(sysconfig.get_path("scripts", "venv", root)) / "python"


def package_files():
    listed = subprocess.run(["git", "ls-files", "jaxopt_tut"], cwd=ROOT, capture_output=True)
    if listed.returncode == 0:
        return set(listed.stdout.decode().split())
    files = (ROOT / "jaxopt_tut").rglob("*")  # an unpacked source distribution
    kept = (f for f in files if f.is_file() and "__pycache__" not in f.parts)
    return {f.relative_to(ROOT).as_posix() for f in kept}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names >= package_files()
    assert {name.split("/")[0] for name in names} == {"jaxopt_tut"}
    kinds = {Path(name).suffix or name for name in names if "/datasets/data/" not in name}
    assert kinds == {".py", ".typed"}
    data = {Path(name).name for name in names if "/datasets/data/" in name}
    assert data == {"NOTICE", "daily_closes.npz", "fashion_mnist_mini.npz"}


def test_the_wheel_is_small(wheel):
    files = zipfile.ZipFile(wheel).infolist()
    size_of = lambda data: sum(f.compress_size for f in files if data == ("/data/" in f.filename))
    assert size_of(data=True) < 3_200_000  # the images and prices
    assert size_of(data=False) < 1_000_000
    assert wheel.name == f"jaxopt_tut-{PROJECT['version']}-py3-none-any.whl"


def test_the_wheel_says_what_it_is(wheel):
    archive = zipfile.ZipFile(wheel)
    (folder,) = {n.split("/")[0] for n in archive.namelist() if ".dist-info/" in n}
    header = HeaderParser().parsestr(archive.read(f"{folder}/METADATA").decode())
    assert header["Version"] == PROJECT["version"]
    assert header["Requires-Python"] == ">=3.11"
    assert header["License-Expression"] == "Apache-2.0"
    assert {"Typing :: Typed", "Operating System :: OS Independent"} <= set(
        header.get_all("Classifier")
    )
    urls = dict(entry.split(", ") for entry in header.get_all("Project-URL"))
    assert urls == PROJECT["urls"]
    assert all(len(label) <= 32 and url.startswith("https://") for label, url in urls.items())
    core = [entry for entry in header.get_all("Requires-Dist") if "extra ==" not in entry]
    assert {distribution(entry) for entry in core} == set(
        map(distribution, PROJECT["dependencies"])
    )
    licenses = {n for n in archive.namelist() if n.startswith(f"{folder}/licenses/")}
    assert {Path(name).name for name in licenses} == {"LICENSE", "NOTICE"}


def distribution(requirement):
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def imported_distributions(folder):
    """Name the distributions that the sources of a folder import, the standard library left out."""
    modules = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.split(".")[0])
    modules -= {*sys.stdlib_module_names, "jaxopt_tut", "experiments"}
    owners = metadata.packages_distributions()
    return {distribution(owners[module][0]) for module in modules}


def test_what_is_required_is_imported_and_what_is_imported_is_required():
    core = set(map(distribution, PROJECT["dependencies"]))
    plot = set(map(distribution, PROJECT["optional-dependencies"]["plot"]))
    cluster = set(map(distribution, PROJECT["optional-dependencies"]["cluster"]))
    assert core.isdisjoint(plot | cluster)
    # the executor is the user's, who hands it over
    assert imported_distributions(ROOT / "jaxopt_tut") == core | plot | cluster - {"distributed"}


def test_what_the_experiments_require_is_what_they_import():
    extra = set(map(distribution, PROJECT["optional-dependencies"]["experiments"])) - {"jaxopt-tut"}
    core = set(map(distribution, PROJECT["dependencies"]))
    assert imported_distributions(ROOT / "experiments") - core - {"matplotlib"} == extra


def test_constraints_are_names_and_versions():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    entry = re.compile(r'[\w.-]+==[\w.]+(; python_version (<|>=) "3\.\d+")?')
    assert [line for line in lines if not entry.fullmatch(line)] == []
    pinned = set(map(distribution, lines))
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *extras["test"],
        *extras["check"],
        *extras["experiments"],
        *extras["docs"],
    ]
    assert set(map(distribution, wanted)) - {"jaxopt-tut"} <= pinned


PROGRAM = """\
from typing import assert_type

import jax
import jax.numpy as jnp

from jaxopt_tut import initializers, optimizers

start = initializers.normal(1.0)(jax.random.key(0), (2,))
solution = optimizers.minimize(lambda w: jnp.sum((w - 1) ** 2), start, optimizers.lbfgs())
assert_type(start, jax.Array)
assert_type(solution, optimizers.Solution)
"""
MISTAKES = {
    'initializers.normal("wide")': "reportArgumentType",
    "optimizers.momentum(0.1, 0.9)": "reportCallIssue",
    "solution.converge": "reportAttributeAccessIssue",
    "optimizers.newtons()": "reportAttributeAccessIssue",
}


def complaints(installed, program):
    """Check the types of a program as a user does, in the strictest reading of what is installed.

    Without `useLibraryCodeForTypes` a package that has no `py.typed` is not looked into.
    """
    folder, python = installed
    (folder / "program.py").write_text(program)
    settings = {"useLibraryCodeForTypes": False, "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings | {"include": ["program.py"]}))
    check = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", str(python)]
    run = subprocess.run(check, cwd=folder, capture_output=True, text=True)
    found = json.loads(run.stdout)["generalDiagnostics"]
    return [(one["range"]["start"]["line"], one.get("rule")) for one in found]


def test_a_users_type_checker_sees_the_annotations(installed):
    first = PROGRAM.count("\n")
    wrong = [(first + i, rule) for i, rule in enumerate(MISTAKES.values())]
    assert complaints(installed, PROGRAM + "\n".join(MISTAKES) + "\n") == wrong


def test_the_users_program_runs_on_the_wheel_alone(installed):
    folder, python = installed
    where = "import jaxopt_tut; print(jaxopt_tut.__file__, jaxopt_tut.__version__)"
    code = f"{PROGRAM}\nassert abs(solution.params - 1).max() < 1e-3\n{where}"
    run = subprocess.run(
        [python, "-I", "-c", code], cwd=folder, check=True, capture_output=True, text=True
    )
    place, version = run.stdout.split()
    assert Path(place).is_relative_to(folder)
    assert version == PROJECT["version"]


def test_the_citation_agrees_with_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what the schema asks
    assert citation["title"].startswith(PROJECT["name"])
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert citation["keywords"] == PROJECT["keywords"]
