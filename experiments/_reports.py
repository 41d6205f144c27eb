"""What earlier runs left, read from folders that may be half-written or of an older version."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from experiments._claims import Claim
from experiments._log import LOG

RESULT = "result.json"
LAST_COMPLETE = "last_complete.json"
"""Where the report of an earlier run stays when a later one fails."""
MADE = ("index.html", "thumbnail.png", "thumbnail.dark.png")
"""What the gallery itself puts into an experiment's folder."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run wrote down; what could not be read is empty, and a sentence says so."""

    name: str
    folder: Path
    file: str = RESULT
    problems: tuple[str, ...] = ()
    """Sentences on what is not there or cannot be read."""
    claims: tuple[Claim, ...] = ()
    figures: tuple[str, ...] = ()
    error: str = ""
    """The traceback of a run that raised."""
    description: str = ""
    part: str = ""
    seconds: float | None = None
    config: Any = None
    versions: Any = None
    numbers: Any = None
    before: "Report | None" = None
    """The last complete run, where this one raised."""

    @property
    def logged(self) -> bool:
        return (self.folder / LOG).exists()


def read_all(out: Path) -> dict[str, Report]:
    """Read what a folder of results has of each experiment, in order of names."""
    folders = sorted(out.iterdir()) if out.is_dir() else []
    return {
        folder.name: read(folder)
        for folder in folders
        if folder.is_dir() and folder.name[0] != "." and _is_of_a_run(folder)
    }


def _is_of_a_run(folder: Path) -> bool:
    files = {file.name for file in folder.iterdir() if file.is_file()}
    drawn = any(name.endswith((".png", ".svg")) for name in files - {*MADE})
    return drawn or not files.isdisjoint((RESULT, LAST_COMPLETE, LOG))


def read(folder: Path, file: str = RESULT) -> Report:
    """Read one report; nothing that is wrong with the file raises.

    Args:
      folder: The experiment's folder.
      file: Which of its reports.

    Returns:
      What could be read.
    """
    found, problem = read_json(folder / file)
    if found is None:
        return Report(folder.name, folder, file, (problem,), before=_before(folder, file))
    problems = []
    claims = _read_claims(found, problems)
    error = found.get("error") or ""
    drawn = found.get("figures")
    if not isinstance(drawn, list):
        problems.append(f"{file} does not say which figures were drawn.")
        drawn = []
    seconds = found.get("seconds")
    return Report(
        folder.name,
        folder,
        file,
        tuple(problems),
        claims,
        tuple(name for name in drawn if isinstance(name, str)),
        error if isinstance(error, str) else json.dumps(error),
        _text(found.get("description")),
        _text(found.get("part")),  # reports of older versions don't say
        seconds if isinstance(seconds, int | float) else None,
        found.get("config"),
        found.get("versions"),
        found.get("numbers"),
        _before(folder, file) if error else None,
    )


def read_json(path: Path) -> tuple[dict[str, Any] | None, str]:
    """Read a file that should hold an object; otherwise return a sentence on what it holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, f"{path.name} is missing: the run did not come to its end."
    except (OSError, ValueError, RecursionError) as error:  # ValueError: neither JSON nor UTF-8
        return None, f"{path.name} cannot be read ({error}): it was cut short or changed."
    if not isinstance(found, dict):
        return None, f"{path.name} holds no report but a {type(found).__name__}."
    return found, ""


def _before(folder: Path, file: str) -> Report | None:
    kept = file == RESULT and (folder / LAST_COMPLETE).exists()
    return read(folder, LAST_COMPLETE) if kept else None


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""


def _read_claims(found: dict[str, Any], problems: list[str]) -> tuple[Claim, ...]:
    said = found.get("claims")
    if not isinstance(said, list):
        problems.append("The report lists no claims.")
        return ()
    claims = [claim for item in said if (claim := read_claim(item))]
    if lost := len(said) - len(claims):
        problems.append(
            f"{lost} of the report's {len(said)} claims cannot be read."
            if lost > 1
            else f"One of the report's {len(said)} claims cannot be read."
        )
    return tuple(claims)


def read_claim(found: Any) -> Claim | None:
    """Read a claim from JSON of this version or an older one, or return None."""
    try:
        claim = Claim(**{key: found[key] for key in Claim._fields if key in found})
        claim = claim._replace(measured=float(claim.measured))  # non-finite ones are strings
    except (TypeError, ValueError):
        return None
    words = (claim.text, claim.threshold, claim.original, claim.shown)
    fine = all(isinstance(word, str) for word in words) and isinstance(claim.holds, bool)
    return claim if fine else None
