"""What `import jaxopt_tut` costs over `import jax, optax`, and what it pulls in."""

import statistics
import subprocess
import sys

from benchmarks.measure import interleaved, print_table

HEAVY = ("matplotlib", "flax", "orbax", "torch")
STATEMENTS = {
    "import jax, optax": "import jax, optax",
    "+ jaxopt_tut": "import jax, optax, jaxopt_tut",
    "+ initializers, optimizers, landscape": (
        "import jax, optax, jaxopt_tut; from jaxopt_tut import initializers, optimizers, landscape"
    ),
    "+ training": "import jax, optax, jaxopt_tut; from jaxopt_tut import training",
}


def _import(statement: str) -> None:
    subprocess.run([sys.executable, "-c", statement], check=True)


def _pulled_in(statement: str) -> str:
    code = f"{statement}; import sys; print(*[m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return out.stdout.strip() or "none"


def main(quick: bool = False) -> None:
    variants = {
        name: lambda statement=statement: _import(statement)
        for name, statement in STATEMENTS.items()
    }
    seconds = interleaved(variants, rounds=3 if quick else 9)
    base = statistics.median(seconds["import jax, optax"])
    rows = [
        [
            name,
            statistics.median(times),
            statistics.median(times) - base,
            _pulled_in(STATEMENTS[name]),
        ]
        for name, times in seconds.items()
    ]
    print_table("Imports", ["statement", "s", "s over jax, optax", f"of {', '.join(HEAVY)}"], rows)


if __name__ == "__main__":
    main()
