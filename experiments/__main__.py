"""`python -m experiments list | NAME… | PART… | all [--data mini|full] [--out DIR] [--jobs N]`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

try:
    import tyro
except ModuleNotFoundError:
    raise SystemExit('python -m experiments needs more: pip install ".[experiments]"') from None

from experiments import _catalog, _gallery_html, _gallery_markdown, _log, _runner, _table


@dataclasses.dataclass(frozen=True)
class List:
    """Name every experiment and what it shows, part by part."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Write the table of claims in `experiments/README.md` anew, from the docstrings."""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Write cards and a page an experiment from what earlier runs left."""

    results: Path = Path("results")
    """The folder that runs wrote into; experiments that it lacks are told how to run."""
    to: Path | None = None
    """Where pages and figures go; the same folder by default."""
    format: Literal["html", "markdown"] = "html"
    """Pages that need no server, or sources of the documentation."""


@dataclasses.dataclass(frozen=True)
class All:
    """Run every experiment."""

    data: _runner.Data = "mini"
    """The bundled 7 000 images, or all 70 000."""
    out: Path = Path("results")
    """Where figures, numbers and the page go."""
    quick: bool = False
    """Run every experiment in its reduced form."""
    whole: bool = False
    """Run those that have one in a larger form, which takes minutes."""
    jobs: int = 1
    """How many run at once, each in a process of its own."""


@dataclasses.dataclass(frozen=True)
class Run(All):
    """Run the experiments named; the word `run` may be left out."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Experiments and parts as `list` prints them, or paths to their files and folders."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[All, tyro.conf.subcommand("all")]
    | Annotated[Table, tyro.conf.subcommand("table")]
    | Annotated[Gallery, tyro.conf.subcommand("gallery")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      arguments: Without the program's name; those of the process by default.

    Returns:
      The exit code: 1 if a claim that must hold fails or an experiment raises, 2 for a name that
      does not exist or is not its own.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] not in (*_catalog.COMMANDS, "-h", "--help"):
        arguments.insert(0, "run")
    command = tyro.cli(
        Command,
        args=arguments,
        prog="python -m experiments",
        description=(__doc__ or "").strip("`."),
    )
    try:
        if isinstance(command, List):
            return _list()
        if isinstance(command, Table):
            print(_table.write())
            return 0
        if isinstance(command, Gallery):
            write = {"html": _gallery_html.write, "markdown": _gallery_markdown.write}
            page = write[command.format](command.results, command.to or command.results)
            print(f"Wrote the gallery; its first page is {page}")
            return 0
        words = command.names if isinstance(command, Run) else tuple(_catalog.find())
        chosen = _catalog.resolve(words)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if command.jobs < 1:
        print(f"--jobs needs at least 1 process, got {command.jobs}", file=sys.stderr)
        return 2
    return _runner.run_all(
        chosen,
        data=command.data,
        size=_runner.size_of(command.quick, command.whole),
        out=command.out,
        jobs=command.jobs,
        table=isinstance(command, Run) and not _catalog.mean_parts(words),
    )


def _list() -> int:
    for part, names in _catalog.by_part().items():
        print(f"{part}: {_catalog.title(part)}")
        for name in names:
            print(f"  {name:28} {_catalog.summary(name)}")
    return 0


if __name__ == "__main__":
    with _log.until_cut():
        sys.exit(main())
