"""Find the experiments, run them, judge them, and write down what came out."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from experiments import _catalog, _gallery_html, _outputs
from experiments._files import replace_folder
from experiments._log import LOG, log_output, until_cut
from experiments._printing import make_console, print_line, print_summary, print_table

Data = Literal["mini", "full"]
Size = Literal["quick", "usual", "whole"]


def make_config(module: ModuleType, data: Data, size: Size) -> Any:
    """Build a script's `Config` for a data set, in one of the sizes that it has."""
    fields = {field.name for field in dataclasses.fields(module.Config)}
    return resized(module.Config(**({"data": data} if "data" in fields else {})), size)


def size_of(quick: bool, whole: bool) -> Size:
    """Return the size that two switches ask for; the smaller one if both are set."""
    return "quick" if quick else "whole" if whole else "usual"


def resized(config: Any, size: Size) -> Any:
    """Return a config in another size; where a script has no `whole()`, the usual one is whole."""
    if size == "quick":
        return config.quick()
    return config.whole() if size == "whole" and hasattr(config, "whole") else config


def run_one(
    name: str, config: Any, module: ModuleType, out: Path, *, show: bool = False
) -> dict[str, Any]:
    """Run, check and draw one experiment into `out/name`; an exception becomes its report.

    Everything is written beside that folder and takes its place when it is whole, so that neither
    Ctrl-C nor an exception costs what an earlier run left there. What is printed goes into a log
    there, and with `show` to the terminal as well.

    By default a GPU multiplies float32 matrices with 10 bits of mantissa. A script whose claims
    need all 23 says `FULL_PRODUCTS = True`; compiling such products takes a GPU far longer.
    """
    import jax

    from jaxopt_tut.plotting import save_figure

    claims, figures, numbers, error = [], {}, None, None
    full = getattr(module, "FULL_PRODUCTS", False)
    precision = jax.default_matmul_precision("highest") if full else contextlib.nullcontext()
    part = _clear_part(name, out)
    part.mkdir(parents=True)
    start, used = time.perf_counter(), time.process_time()
    try:
        with log_output(part / LOG, show=show), precision:
            numbers = module.run(config)
            claims = [claim.to_json() for claim in module.check(numbers)]
            figures = module.plot(numbers)
            for title, figure in figures.items():
                if isinstance(figure, str):  # a drawing is SVG text already
                    (part / f"{title}.svg").write_text(figure, encoding="utf-8")
                else:
                    save_figure(figure, part / title)
    except (Exception, SystemExit):  # one broken experiment must not take the others with it
        error = traceback.format_exc()
    except BaseException:
        _clear_part(name, out)
        raise
    report = {
        **_heading(name),
        "passed": error is None and all(c["holds"] or not c["required"] for c in claims),
        "claims": claims,
        "figures": [] if error else list(figures),
        "seconds": round(time.perf_counter() - start, 2),
        "processor_seconds": round(time.process_time() - used, 2),
        "config": config,
        "versions": _outputs.versions(),
        "error": error,
        "numbers": numbers,
    }
    with (part / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
        if error:
            log.write(error)
        else:
            print_table([report], make_console(log))
    if error:
        _keep_failure(report, out)
    else:
        _outputs.write_json(report, part)
        replace_folder(part, out / name)
    return report


def _heading(name: str) -> dict[str, Any]:
    return {
        "experiment": name,
        "part": _catalog.find()[name],
        "description": _catalog.docstring(name),
    }


def _keep_failure(report: dict[str, Any], out: Path) -> None:
    """Write the report of a run that raised, and put its log beside it."""
    name = report["experiment"]
    _outputs.write_failure(report, out / name)
    log = out / f".{name}.part" / LOG
    if log.exists():
        log.replace(out / name / LOG)
    _clear_part(name, out)


def _clear_part(name: str, out: Path) -> Path:
    """Remove what an unfinished run has written, and return where it writes."""
    part = out / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    return part


def run_all(
    chosen: list[str], *, data: Data, size: Size, out: Path, jobs: int = 1, table: bool = True
) -> int:
    """Run the chosen experiments, print how they stand, write the page; return the exit code.

    Ctrl-C and SIGTERM end the running ones; the page then says which did not run to their end.

    Args:
      chosen: Their names.
      data: The bundled images or all of them.
      size: Reduced, usual, or whole.
      out: Where results go.
      jobs: How many run at once.
      table: Print all their claims, and what they print themselves (for one at a time); otherwise
        a line each, and why if one does not pass.

    Returns:
      0 if all passed, 1 if not, 130 if interrupted.
    """
    console = make_console()
    start = time.perf_counter()
    reports = {}
    before = {name: _stamp(name, out) for name in chosen}
    width = max(len(f"{part}/{name}") for name, part in _catalog.find().items() if name in chosen)
    with _interruptible() as interrupts:
        try:
            for report in _run_each(chosen, jobs, data, size, out, table and jobs == 1):
                name = report["experiment"]
                if table:
                    _print_ended(report, console)
                else:
                    place = f"{len(reports) + 1:{len(str(len(chosen)))}}/{len(chosen)}"
                    print_line(report, place, width, out, console)
                reports[name] = report
                if interrupts:  # something took the exception for its own
                    break
        except KeyboardInterrupt:
            interrupts.append(signal.SIGINT)
    # one may have ended in its process, and its report been lost on the way
    unheard = [name for name in chosen if name not in reports] if interrupts else []
    missing = [name for name in unheard if _stamp(name, out) == before[name]]
    for name in missing:
        _clear_part(name, out)
    ended = [reports[name] for name in chosen if name in reports]
    if table:
        print_table(ended, console)
    else:
        print_summary(ended, time.perf_counter() - start, console)
    page = _gallery_html.write(out, out, missing)
    console.print(f"Figures, numbers and the page with all of it: {page}", soft_wrap=True)
    if not table:
        console.print(f"What a script printed: {out / 'NAME' / LOG}", soft_wrap=True)
    if interrupts:
        console.print(f"Interrupted; not run to the end: {', '.join(missing) or 'none'}.")
        return 130
    return 0 if all(report["passed"] for report in reports.values()) else 1


def _print_ended(report: dict[str, Any], console: Console) -> None:
    name = report["experiment"]
    console.print(f"{name}: {_catalog.summary(name)}\n  {report['seconds']} s", markup=False)
    if report["error"]:
        console.print(Text(report["error"]), style="red")


def _stamp(name: str, out: Path) -> tuple[int, int] | None:
    """Return what tells one report on the disk from another."""
    file = out / name / "result.json"
    return (file.stat().st_ino, file.stat().st_mtime_ns) if file.exists() else None


@contextlib.contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Make SIGTERM end a run as Ctrl-C does, and keep a list of both."""
    seen: list[int] = []

    def interrupt(number, _):
        seen.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield seen
        return
    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run_each(
    chosen: list[str], jobs: int, data: Data, size: Size, out: Path, show: bool
) -> Iterator[dict[str, Any]]:
    """Yield the report of each experiment when it is done, `jobs` processes at a time."""
    options = (data, size, out, show)
    if jobs == 1:
        _keep_programs(out)
        yield from (_run_named(name, *options) for name in chosen)
        return
    # a forked process would inherit JAX's threads, which don't survive it
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(out,))
    try:
        futures = {pool.submit(_run_named, name, *options): name for name in chosen}
        for future in as_completed(futures):
            try:
                yield future.result()
            except BrokenProcessPool:  # a process was killed, and its pool with it
                yield _broken_script(futures[future], out)
    except BaseException:
        # shutdown waits for what runs, which may take hours
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(out: Path) -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the one that waits for them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_programs(out)


def _keep_programs(out: Path) -> None:
    from jaxopt_tut.training import compilation_cache  # imports jax, which `list` has no need of

    compilation_cache(out / ".cache")


def _run_named(name: str, data: Data, size: Size, out: Path, show: bool) -> dict[str, Any]:
    """Import an experiment and run it; what the table does not need stays in its file."""
    try:
        module = importlib.import_module(_catalog.module_of(name))
        report = run_one(name, make_config(module, data, size), module, out, show=show)
    except (Exception, SystemExit):  # the script itself does not import
        report = _broken_script(name, out)
    return {key: report[key] for key in report.keys() - {"config", "numbers"}}


def _broken_script(name: str, out: Path) -> dict[str, Any]:
    """Report a script that cannot be imported, or whose process was killed."""
    report = {
        **_heading(name),
        "passed": False,
        "claims": [],
        "figures": [],
        "seconds": 0.0,
        "config": None,
        "versions": _outputs.versions(),
        "error": traceback.format_exc(),
        "numbers": None,
    }
    part = out / f".{name}.part"
    part.mkdir(parents=True, exist_ok=True)
    with (part / LOG).open("a", encoding="utf-8", errors="backslashreplace") as log:
        log.write(report["error"])  # behind what it printed, if it ran
    _keep_failure(report, out)
    return report


@until_cut()
def run_script(module: ModuleType) -> None:
    """Run one script as a program: its `Config` on the command line, its files under `--out`.

    Args:
      module: The script, which is `__main__` then.

    Raises:
      SystemExit: With code 1 if a claim that must hold fails or the script raises, with 130 if it
        is interrupted.
    """
    import tyro

    fields = [
        (
            "config",
            tyro.conf.OmitArgPrefixes[module.Config],
            dataclasses.field(default=module.Config()),
        ),
        ("quick", bool, False),
        ("whole", bool, False),
        ("out", Path, Path("results")),
    ]
    options = tyro.cli(dataclasses.make_dataclass("Options", fields), description=module.__doc__)
    _keep_programs(options.out)
    config = resized(options.config, size_of(options.quick, options.whole))
    name = Path(module.__file__ or "").stem
    with _interruptible():
        try:
            report = run_one(name, config, module, options.out, show=True)
        except KeyboardInterrupt:
            page = _gallery_html.write(options.out, options.out, [name])
            print(f"Interrupted; {page} is of what there was before.")
            raise SystemExit(130) from None
    if report["error"]:
        print(report["error"])
    print_table([report], make_console())
    _gallery_html.write(options.out, options.out)
    raise SystemExit(0 if report["passed"] else 1)
