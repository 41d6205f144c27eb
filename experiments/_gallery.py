"""What the gallery shows of each experiment: its text, what was found, and how that stands."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments import _catalog, _pictures
from experiments._catalog import Section
from experiments._claims import Claim
from experiments._pictures import Picture
from experiments._reports import MOST_NAME, Report, read_all, shorten

WORDS = {
    "holds": "holds",
    "differs": "differs from the tutorial",
    "fails": "fails",
    "error": "stopped with an error",
    "unreadable": "cannot be read",
    "silent": "makes no claim",
    "missing": "not run",
}
"""How an experiment stands, in words."""
ILL = ("error", "unreadable", "silent")
"""Of these, those that no verdict of a claim says."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One experiment: what its script says and, if it was run, what came out."""

    name: str
    section: Section
    headline: str
    said: dict[str, str]
    """The fields of the docstring; those that it lacks are not there."""
    script: str
    """The source."""
    path: str
    """Where the script lies in the repository; empty if there is none any more."""
    report: Report | None
    """The run that is shown: where the last one raised, the complete one before it."""
    last: Report | None
    """The last run."""
    pictures: tuple[Picture, ...]
    notes: tuple[str, ...]
    """Sentences on what is missing or wrong."""

    @property
    def claims(self) -> tuple[Claim, ...]:
        return self.report.claims if self.report else ()

    @property
    def main_claim(self) -> Claim | None:
        """The claim that the headline states; of an older report the first."""
        marked = [claim for claim in self.claims if claim.headline]
        return (marked or [*self.claims, None])[0]

    @property
    def kind(self) -> str:
        """One of the keys of `WORDS`."""
        main = self.main_claim
        if not self.last:
            return "missing"
        if self.last.error:
            return "error"
        if self.report is not self.last:
            return "unreadable"
        if not main:
            return "unreadable" if self.last.problems else "silent"
        if not main.holds or any(c.required and not c.holds for c in self.claims):
            return "fails"
        return kind_of(main)

    @property
    def counts(self) -> str:
        """How many claims hold, differ and fail."""
        return count(self.claims) if self.claims else ""

    @property
    def finding(self) -> str:
        """What was found, in one sentence: an alternative text that needs no picture."""
        main = self.main_claim
        return f"{main.text}: {reading(main)}." if main else self.headline

    @property
    def command(self) -> str:
        return f"python -m experiments {self.name}"


def kind_of(claim: Claim) -> str:
    """Return which key of `WORDS` a claim's verdict is."""
    return claim.verdict.split()[0]


def reading(claim: Claim) -> str:
    """Say what was measured, what it was held against, and the verdict."""
    word = claim.verdict if kind_of(claim) == "differs" else WORDS[kind_of(claim)]
    return f"{claim.shown_number}, threshold {claim.threshold}: {word}"


def count(claims: Iterable[Claim]) -> str:
    """Say how many claims hold, differ from the tutorials, and fail."""
    claims = list(claims)
    counts = Counter(map(kind_of, claims))
    said = [
        f"{counts[kind]} {one if counts[kind] == 1 else several}"
        for kind, one, several in (
            ("holds", "holds", "hold"),
            ("differs", "differs from the tutorial", "differ from the tutorials"),
            ("fails", "fails", "fail"),
        )
        if counts[kind]
    ]
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {', '.join(said) or 'none'}"


def collect(results: Path) -> list[Entry]:
    """Read everything, in the order of the tutorials' sections.

    Args:
      results: The folder with one subfolder an experiment; it need not exist.

    Returns:
      One entry for each script, and for each folder of results whose script is no longer there.
    """
    reports = read_all(results)
    found = _catalog.find()
    names = dict.fromkeys([*found, *reports])
    entries = [_entry(name, found.get(name), reports.get(name)) for name in names]
    return sorted(entries, key=lambda entry: _place(entry.section))


def _place(section: Section) -> tuple[int, bool]:
    keys = [*_catalog.SECTIONS]
    return (keys.index(section.key) if section.key else len(keys), section.beyond)


def by_section(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return the entries of each section that has some; what has no section stands last."""
    sections: dict[str, list[Entry]] = {}
    for entry in entries:
        sections.setdefault(entry.section.key, []).append(entry)
    return sections


def title(key: str) -> str:
    """Return what a section is called."""
    if not key:
        return "Beyond the tutorials"
    return f"{key} {_catalog.SECTIONS[key]}"


def _entry(name: str, part: str | None, last: Report | None) -> Entry:
    file = _catalog.FOLDER / part / f"{name}.py" if part else None
    text = _catalog.read_docstring(file) if file else last.description if last else ""
    said = _catalog.read_fields(text)
    report = last.before if last and last.before else last
    if report and not report.claims and not report.figures:
        report = None
    pictures, notes = _look(name, last, report)
    if not file:
        notes.insert(0, "There is no script of this name any more.")
    elif report and _says_other_things(report.description, text):
        notes.append(
            f"The script has been edited since this run; run `python -m experiments {name}` anew."
        )
    return Entry(
        name,
        _catalog.read_section(said.get("Section", "")) or Section("", True),
        (text.strip() or name).splitlines()[0],
        said,
        file.read_text(encoding="utf-8", errors="replace") if file else "",
        f"experiments/{part}/{name}.py" if file else "",
        report,
        last,
        pictures,
        tuple(notes),
    )


def _says_other_things(then: str, now: str) -> bool:
    """Say whether what a script claims is no longer what it claimed when it ran."""
    before, after = _catalog.read_fields(then), _catalog.read_fields(now)
    pairs = [(before.get(field), after.get(field)) for field in ("Claim", "Expected")]
    return any(one and one != other for one, other in pairs)


def _look(
    name: str, last: Report | None, report: Report | None
) -> tuple[tuple[Picture, ...], list[str]]:
    """Return the pictures of a run that can be shown, and sentences on what cannot."""
    if not last:
        return (), [f"It has not been run; `python -m experiments {name}` runs it."]
    notes = []
    if last.error:
        reason = last.error.strip().splitlines()[-1]
        notes.append(f"The last run stopped with an error: {reason}")
    notes += last.problems
    if last.before:
        notes += last.before.problems
    if report and report is not last:
        notes.append("What is shown here is from the last complete run.")
    elif last.error and last.claims:
        notes.append("Its claims were judged before it stopped.")
    if not report:
        notes.append(f"`python -m experiments {name}` runs it again.")
        return (), notes
    pictures = {figure: _pictures.find(report.folder, figure) for figure in report.figures}
    lost = [figure for figure, picture in pictures.items() if picture is None]
    if lost:
        several = "Figures that are" if len(lost) > 1 else "A figure that is"
        names = ", ".join(shorten(name, MOST_NAME) for name in lost)
        notes.append(f"{several} missing or cut short: {names}.")
    elif not (pictures or report.problems or report.error):
        notes.append("This experiment draws no figure.")
    return tuple(picture for picture in pictures.values() if picture), notes


def neighbours(entries: Sequence[Entry], i: int) -> tuple[Entry | None, Entry | None]:
    """Return the entries before and behind one."""
    return (entries[i - 1] if i else None, entries[i + 1] if i + 1 < len(entries) else None)
