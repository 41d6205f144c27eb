"""Settings of the whole suite: strict promotion, fixtures, and an end to programs that pile up."""

import gc
import inspect
import shutil
import signal
from pathlib import Path

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")

# Tracing leaves many objects and hardly a cycle: looking for those less often saves a tenth of the
# time.
gc.set_threshold(20_000, 50, 100)

collect_ignore = [
    "training/sharded_runs.py",
    "training/killed_peers.py",
    "training/checkpoints/processes.py",
]
"""Programs of processes that tests start."""

MAPPINGS = Path("/proc/self/maps")
"""Regions of memory of this process, a line each, where there is such a file."""


@pytest.fixture(autouse=True)
def _python_handles_ctrl_c():
    """Whoever starts the tests in the background has the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def pytest_collection_modifyitems(config, items):
    """Under `--jaxtyping-packages` leave out the tests of errors: beartype's would come first.

    Those marked `untyped` ask what a function is, and a function that is checked is another.
    """
    if not config.getoption("jaxtyping_packages", None):
        return
    left_out = [
        item
        for item in items
        if item.get_closest_marker("untyped")
        or (hasattr(item, "function") and "raises(" in inspect.getsource(item.function))
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Free the compiled programs once they are many.

    Each keeps three mappings or more, and LLVM ends a process that asks for one above the 65 530
    that Linux grants: some 5 000 tests in one process come there.
    """
    yield
    if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > 15_000:
        jax.clear_caches()


@pytest.fixture(scope="module")
def browser():
    """Start Chromium once a file; tests of pages are skipped only where there is none.

    Were it open for longer, nothing else could run a loop of asyncio.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright looks at the pages")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no chromium on this machine (apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def x64():
    """Run one test in double precision; the library itself never switches it on."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def full_products():
    """Multiply float32 matrices in full, as a CPU does; a GPU by default keeps 10 bits."""
    with jax.default_matmul_precision("highest"):
        yield
