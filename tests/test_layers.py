"""The house rules that can be read off the source: floors, lazy rooms, no forbidden imports."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jaxopt_tut

PACKAGE = Path(jaxopt_tut.__file__).parent
FLOORS = {
    "types": 1,
    "blocks": 1,
    "losses": 1,
    "splitting": 1,
    "loss_forms": 1,
    "vectors": 1,
    "hyperparameters": 1,
    "tracing": 1,
    "trees": 1,
    "jaxprs": 1,
    "keys": 1,
    "control_flow": 1,
    "counts": 1,
    "devices": 1,
    "programs": 1,
    "progress": 1,
    "quantiles": 1,
    "probes": 1,
    "initializers": 2,
    "autodiff": 2,
    "linalg": 2,
    "datasets": 2,
    "optimizers": 3,
    "taps": 3,
    "models": 3,
    "bilevel": 4,
    "curvature": 4,
    "diagnostics": 4,
    "calibration": 4,
    "landscape": 4,
    "training": 5,
    "plotting": 6,
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(PACKAGE)], "jaxopt_tut."))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def forbidden_rooms(path):
    """Return the rooms `path` imports although they are not on a lower floor."""
    room = room_of(path)
    rooms = {
        parts[1]
        for parts in (name.split(".") for name in imported_modules(path))
        if parts[0] == "jaxopt_tut" and len(parts) > 1 and parts[1] in FLOORS
    }
    ground = FLOORS[room] == 1  # modules of the ground floor may use one another
    return {
        r for r in rooms - {room} if FLOORS[r] >= FLOORS[room] and not (ground and FLOORS[r] == 1)
    }


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_lower_floors(path):
    assert forbidden_rooms(path) == set()


def test_the_layer_check_sees_an_import_upwards(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "optimizers").mkdir()
    bad = tmp_path / "optimizers" / "bad.py"
    bad.write_text("from jaxopt_tut import training\nimport jaxopt_tut.models\n")
    assert forbidden_rooms(bad) == {"training", "models"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_plotting_imports_matplotlib(path):
    if room_of(path) != "plotting":
        assert not [
            m for m in imported_modules(path) if m.split(".")[0] in ("matplotlib", "plotly")
        ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_private_or_experimental_jax(path):
    names = set(imported_modules(path))
    bad = ("jax.core", "jax._src", "jax.experimental", "jax.interpreters")
    if path == PACKAGE / "autodiff" / "primitives.py":  # rules of a primitive have no other home
        bad = bad[:-1]
    assert not [n for n in names if n.startswith(bad)]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_imports_and_its_public_names_exist(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert getattr(module, public) is not None


def test_import_is_lazy():
    code = (
        "import sys, jaxopt_tut; "
        "heavy = {'matplotlib', 'flax', 'orbax', 'torch', 'sklearn'} & set(sys.modules); "
        "assert not heavy, heavy; jaxopt_tut.initializers.constant"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'kitchen'"):
        jaxopt_tut.kitchen  # noqa: B018
