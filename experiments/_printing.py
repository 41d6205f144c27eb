"""What a run shows on the terminal: a line an experiment, a table of claims, a summary."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from experiments._log import LOG, last_lines

STYLES = {"holds": "green", "differs": "blue", "fails": "bold red"}
FOOTNOTE = "* may fail without failing the run."


def make_console(file=None) -> Console:
    """Build a console; into a file or a pipe it writes wide enough for the claims."""
    console = Console(file=file)
    return console if console.is_terminal else Console(file=file, width=150)


def print_table(reports: Sequence[dict[str, Any]], console: Console) -> None:
    """Print one row a claim."""
    table = Table(title="Claims", title_justify="left")
    for column in ("experiment", "claim"):
        table.add_column(column, overflow="fold")
    for column in ("measured", "threshold"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for report in reports:
        if report["error"]:
            table.add_row(report["experiment"], "", "", "", Text("error", style="bold red"))
        for claim in report["claims"]:
            verdict = claim["verdict"]
            table.add_row(
                report["experiment"],
                Text(claim["text"] + ("" if claim["required"] else " *")),
                claim["shown"],
                claim["threshold"],
                Text(verdict, style=STYLES[verdict.split()[0]]),
            )
        table.add_section()
    console.print(table)
    console.print(FOOTNOTE)


def print_line(report: dict[str, Any], place: str, width: int, out: Path, console: Console) -> None:
    """Print one line of an experiment that has ended, and beneath it why it did not pass."""
    name = f"{report['part']}/{report['experiment']}"
    line = Text(f"{place}  {name:{width}} {report['seconds']:6.1f} s  ")
    line.append_text(Text("error", "bold red") if report["error"] else _standing(report["claims"]))
    console.print(line, soft_wrap=True)
    if report["error"]:
        file = out / report["experiment"] / LOG
        note = Text(f"{last_lines(file)}\nThe whole of it: {file}", "red")
        console.print(Padding(note, (0, 0, 0, len(place) + 2), expand=False))
    for claim in report["claims"]:
        if not claim["holds"]:
            number = claim["shown"]
            text = f"fails: {claim['text']}{'' if claim['required'] else ' *'}: {number}, "
            note = Text(f"{text}which is not {claim['threshold']}", STYLES["fails"])
            console.print(Padding(note, (0, 0, 0, len(place) + 2), expand=False))


def _standing(claims: Sequence[dict[str, Any]]) -> Text:
    """Say how many of some claims hold, differ from the original, fail, and fail as they may."""
    counts = Counter(
        (claim["verdict"].split()[0], claim["holds"] or claim["required"]) for claim in claims
    )
    words = {
        ("holds", True): "hold",
        ("differs", True): "differ",
        ("fails", True): "fail",
        ("fails", False): "fail *",
    }
    said = [Text(f"{counts[key]} {words[key]}", STYLES[key[0]]) for key in words if counts[key]]
    return Text(", ").join(said) if said else Text("no claims")


def print_summary(reports: Sequence[dict[str, Any]], seconds: float, console: Console) -> None:
    """Print how all claims of a run stand, and which experiments did not pass."""
    claims = [claim for report in reports for claim in report["claims"]]
    minutes, seconds = divmod(round(seconds), 60)
    time = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
    several = "" if len(reports) == 1 else "s"
    line = Text(f"\n{len(reports)} experiment{several} in {time}, {len(claims)} claims: ")
    line.append_text(_standing(claims))
    console.print(line, soft_wrap=True)
    if any(claim["verdict"].startswith("differs") for claim in claims):
        console.print("differ: what holds is not what the tutorial states.")
    if any(not claim["required"] and not claim["holds"] for claim in claims):
        console.print(FOOTNOTE)
    failed = [report["experiment"] for report in reports if not report["passed"]]
    if failed:
        console.print(Text(f"Not passed: {', '.join(failed)}", "bold red"), soft_wrap=True)
