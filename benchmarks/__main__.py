"""Run all benchmarks, or the named ones: `python -m benchmarks [--quick] [NAME ...]`."""

import argparse
import importlib
import pkgutil
import sys

import benchmarks
from benchmarks import measure
from experiments._log import until_cut


def names() -> list[str]:
    """List the benchmarks: the modules of this package that are not its tools."""
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__))
    tools = {"__main__", "doctor_faults", "doctor_models", "measure"}
    return sorted(set(found) - tools)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(names()):
        parser.error(f"unknown benchmark {sorted(unknown)}; there are {', '.join(names())}")
    print(measure.machine())
    chosen = arguments.names or names()
    for k, name in enumerate(chosen):
        try:
            importlib.import_module(f"benchmarks.{name}").main(quick=arguments.quick)
        except KeyboardInterrupt:
            print(f"Interrupted; not run to the end: {', '.join(chosen[k:])}.", file=sys.stderr)
            sys.exit(130)
        sys.stdout.flush()


if __name__ == "__main__":
    with until_cut():
        main()
