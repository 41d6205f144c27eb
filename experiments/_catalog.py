"""Which experiments there are and what their docstrings say; no script is imported for it."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import NamedTuple

FOLDER = Path(__file__).parent
PARTS = (
    "initialization",
    "optimization",
    "descent",
    "autodiff",
    "bilevel",
    "diagnosis",
    "training",
    "curvature",
)
"""The parts in the order of the tutorials; any other folder comes behind them."""
SECTIONS = {
    "A1": "The data, and why it is normalised",
    "A2": "The network",
    "A3": "Pictures of weights, gradients and signals",
    "A4": "Initializers",
    "A5": "The variance of the signal, layer by layer",
    "A6": "Optimizers, written out",
    "A7": "Training compared",
    "A8": "Ravines",
    "A9": "Steep optima",
    "A10": "Which optimizer: flat and sharp minima",
    "B1": "Descent: a direction, a step size, and remedies",
    "B2": "Backpropagation on a graph",
    "B3": "A node of one's own",
    "B4": "The solution of a minimisation as a layer",
    "B5": "An argmin layer on a time series",
}
"""The sections of the two tutorials: A is UvA tutorial 4, B is Technion tutorial 5."""
FIELDS = ("Question", "Claim", "Why", "Source", "Section", "Command", "Expected", "Time")
COMMANDS = ("list", "run", "all", "table", "gallery")
PAGES = ("index", "claims")
"""Pages of the gallery beside those of experiments."""


def find() -> dict[str, str]:
    """Return the part of every experiment, part by part: each `PART/NAME.py` without an underscore.

    Raises:
      ValueError: If a name is not its own, for results go to `results/NAME`, or a script lies in no
        part, where it would not be found.
    """
    files = [file.relative_to(FOLDER) for file in FOLDER.rglob("*.py")]
    files = [file for file in files if not any(piece[0] in "._" for piece in file.parts)]
    folders = [folder.name for folder in FOLDER.iterdir() if folder.is_dir()]
    found: dict[str, str] = {}
    for file in sorted(files, key=lambda file: (place(file.parts[0]), file.stem)):
        if len(file.parts) != 2:
            raise ValueError(
                f"experiments/{file.as_posix()} lies in no part; move it into one of the folders "
                f"{', '.join(PARTS)}"
            )
        part, name = file.parent.name, file.stem
        if name in found:
            raise ValueError(
                f"two experiments are named {name}, in {found[name]} and in {part}, and the "
                f"results of both would go to results/{name}; rename one"
            )
        taken = {"command": COMMANDS, "page of the gallery": PAGES, "part": folders}
        for kind, names in taken.items():
            if name in names:
                raise ValueError(
                    f"experiments/{file.as_posix()} has the name of a {kind}; rename it"
                )
        found[name] = part
    return found


def place(part: str) -> tuple[int, str]:
    """Return what parts are sorted by."""
    return (PARTS.index(part) if part in PARTS else len(PARTS), part)


def by_part() -> dict[str, list[str]]:
    """Return the names in each part."""
    parts: dict[str, list[str]] = {}
    for name, part in find().items():
        parts.setdefault(part, []).append(name)
    return parts


def resolve(words: Iterable[str]) -> list[str]:
    """Return the experiments that words mean: names, parts, or paths to either, each once.

    Raises:
      ValueError: If a word means none, with all that there are.
    """
    found, parts = find(), by_part()
    chosen: dict[str, None] = {}
    unknown = []
    for word in words:
        *folders, name = PurePath(word.removesuffix(".py")).parts or ("",)
        above = folders[-1] if folders else None
        if name in found and above in (None, found[name]):
            chosen[name] = None
        elif name in parts and above in (None, "experiments"):
            chosen |= dict.fromkeys(parts[name])
        else:
            unknown.append(word)
    if unknown or not chosen:
        said = f"no experiment or part is named {', '.join(unknown)}"
        known = "".join(f"\n  {part}: {', '.join(names)}" for part, names in parts.items())
        raise ValueError(
            f"{said if unknown else 'name an experiment or a part'}; there are:{known}"
        )
    return list(chosen)


def mean_parts(words: Iterable[str]) -> bool:
    """Return whether one of the words that `resolve` accepts means a whole part."""
    return any(PurePath(word).name in by_part() for word in words)


def module_of(name: str) -> str:
    """Return the name under which Python imports an experiment."""
    return f"experiments.{find()[name]}.{name}"


def title(part: str) -> str:
    """Return what a part is about: the first line of its `__init__.py`, if it has one."""
    file = FOLDER / part / "__init__.py"
    return read_docstring(file).partition("\n")[0] if file.exists() else ""


def docstring(name: str) -> str:
    """Return a script's docstring, or its name if it has none."""
    return read_docstring(FOLDER / find()[name] / f"{name}.py") or name


def read_docstring(file: Path) -> str:
    """Return the docstring of a script; nothing if it has none or is no Python."""
    try:
        return ast.get_docstring(ast.parse(file.read_bytes())) or ""
    except SyntaxError:  # whoever runs it will be told
        return ""


def summary(name: str) -> str:
    """Return the claim in one line: the first of the docstring."""
    return docstring(name).splitlines()[0]


def read_fields(docstring: str) -> dict[str, str]:
    """Return those of `FIELDS` that a docstring has, each on one line."""
    _, *pieces = re.split(rf"^({'|'.join(FIELDS)}):", docstring, flags=re.MULTILINE)
    return {
        key: " ".join(text.split()) for key, text in zip(pieces[::2], pieces[1::2], strict=True)
    }


def fields(name: str) -> dict[str, str]:
    """Return the fields of a script's docstring, each on one line.

    Raises:
      ValueError: If one of `FIELDS` is not there, or says nothing.
    """
    said = read_fields(docstring(name))
    for field in FIELDS:
        if not said.get(field):
            raise ValueError(
                f"the docstring of experiments/{find()[name]}/{name}.py needs a line "
                f"'{field}: ...'; experiments/README.md says what it holds"
            )
    return said


class Section(NamedTuple):
    """Where in the tutorials an experiment belongs."""

    key: str
    """One of `SECTIONS`; empty for what has no place there."""
    beyond: bool
    """Whether it goes on from there to what the tutorial does not say."""


def section(name: str) -> Section:
    """Return the section of the tutorials that a script's docstring names.

    Raises:
      ValueError: If there is none of that name.
    """
    said = fields(name)["Section"]
    found = read_section(said)
    if found is None:
        raise ValueError(
            f"the docstring of experiments/{find()[name]}/{name}.py says 'Section: {said}', which "
            f"is none of {', '.join(SECTIONS)}; before it, or alone, may stand the word beyond"
        )
    return found


def read_section(said: str) -> Section | None:
    """Return the section that a field `Section` names, or None if it names none."""
    found = re.fullmatch(r"(beyond)?\s*(\w*)\.?", said)
    if found is None or not (found[2] in SECTIONS or (found[1] and not found[2])):
        return None
    return Section(found[2], bool(found[1]))
