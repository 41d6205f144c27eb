"""`python -m experiments list | run NAME… | all [--data mini|full] [--out DIR] [--jobs N]`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments import _runner


@dataclasses.dataclass(frozen=True)
class List:
    """Name every experiment and what it shows."""


@dataclasses.dataclass(frozen=True)
class All:
    """Run every experiment."""

    data: _runner.Data = "mini"
    """The bundled 7 000 images, or all 70 000."""
    out: Path = Path("results")
    """Where figures, numbers and the page go."""
    quick: bool = False
    """Run every experiment in its reduced form."""
    jobs: int = 1
    """How many run at once, each in a process of its own."""


@dataclasses.dataclass(frozen=True)
class Run(All):
    """Run the experiments named."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names as `list` prints them."""


Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Run, tyro.conf.subcommand("run")]
    | Annotated[All, tyro.conf.subcommand("all")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      arguments: Without the program's name; those of the process by default.

    Returns:
      The exit code: 1 if a claim that must hold fails or an experiment raises, 2 for a name that
      does not exist.
    """
    command = tyro.cli(Command, args=arguments, prog="python -m experiments")
    known = _runner.names()
    if isinstance(command, List):
        for name in known:
            print(f"{name:25} {_runner.summary(name)}")
        return 0
    chosen = list(dict.fromkeys(command.names)) if isinstance(command, Run) else known
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        problem = (
            f"no experiment is named {', '.join(unknown)}" if unknown else "name an experiment"
        )
        print(f"{problem}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    if command.jobs < 1:
        print(f"--jobs needs at least 1 process, got {command.jobs}", file=sys.stderr)
        return 2
    return _runner.run_all(
        chosen, data=command.data, quick=command.quick, out=command.out, jobs=command.jobs
    )


if __name__ == "__main__":
    sys.exit(main())
