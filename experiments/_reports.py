"""What earlier runs left, read from folders that may be half-written or of an older version."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

from experiments._claims import Claim, is_contradicted
from experiments._log import LOG

RESULT = "result.json"
LAST_COMPLETE = "last_complete.json"
"""Where the report of an earlier run stays when a later one fails."""
MADE = ("index.html", "thumbnail.png", "thumbnail.dark.png")
"""What the gallery itself puts into an experiment's folder."""
MOST_NAME, MOST_WORDS, MOST_TEXT = 100, 1000, 20_000
"""Characters that are shown of what a sentence names, of one text of a claim, and of others."""


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
        return (self.folder / LOG).is_file()


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
    # where there is no report the page says so; other pages of a gallery are none of a run
    return any(name.endswith((".png", ".svg", ".json", ".txt")) for name in files - {*MADE})


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
    error = _read_error(found.get("error"))
    drawn = found.get("figures")
    if not isinstance(drawn, list):
        problems.append(f"{file} does not say which figures were drawn.")
        drawn = []
    seconds = _read_seconds(found.get("seconds"), problems)
    return Report(
        folder.name,
        folder,
        file,
        tuple(problems),
        claims,
        tuple(name for name in drawn if isinstance(name, str)),
        error,
        _text(found.get("description")),
        _text(found.get("part")),  # reports of older versions don't say
        seconds,
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
    return shorten(found, MOST_TEXT) if isinstance(found, str) else ""


def shorten(text: str, most: int) -> str:
    """Return a text, or its beginning and a mark that there is more."""
    return text if len(text) <= most else f"{text[:most]}…"


def _read_error(found: Any) -> str:
    if not found:
        return ""
    if not isinstance(found, str) or not found.strip():
        return "The report does not say which."
    return (
        found if len(found) <= MOST_TEXT else f"…{found[-MOST_TEXT:]}"
    )  # its end says what it was


def _read_seconds(found: Any, problems: list[str]) -> float | None:
    if found is None:
        return None
    # a century; larger integers than floats are JSON, too
    if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 3e9:
        return found
    problems.append("What the report calls its seconds is no time.")
    return None


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
    claims = [_judge(claim, problems) for claim in claims]
    for text, times in Counter(claim.text for claim in claims).items():
        if times > 1:
            problems.append(f"The report states a claim {times} times: {shorten(text, MOST_NAME)}")
    if (heads := sum(claim.headline for claim in claims)) > 1:
        problems.append(f"The report has {heads} claims for its headline; the first one is taken.")
    return tuple(claims)


def _judge(claim: Claim, problems: list[str]) -> Claim:
    """Return a claim as failing if it is said to hold and its own number says that it does not."""
    if not (claim.holds and is_contradicted(claim)):
        return claim
    problems.append(
        "A claim is said to hold that its number contradicts, and is shown as failing: "
        f"{shorten(claim.text, MOST_NAME)}"
    )
    return claim._replace(holds=False)


def read_claim(found: Any) -> Claim | None:
    """Read a claim from JSON of this version or an older one, or return None."""
    try:
        claim = Claim(**{key: found[key] for key in Claim._fields if key in found})
        claim = claim._replace(measured=float(claim.measured))  # non-finite ones are strings
    except (TypeError, ValueError, OverflowError):
        return None
    flags = (claim.holds, claim.required, claim.headline)
    words = (claim.text, claim.threshold, claim.original, claim.shown)
    fine = all(isinstance(flag, bool) for flag in flags) and all(isinstance(w, str) for w in words)
    if not (fine and claim.text.strip()):
        return None
    text, threshold, original, shown = (shorten(word, MOST_WORDS) for word in words)
    return claim._replace(text=text, threshold=threshold, original=original, shown=shown)
