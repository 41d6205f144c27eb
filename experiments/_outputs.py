"""What a run leaves behind: figures, `result.json`, and one page that lists every claim."""

import dataclasses
import html
import itertools
import json
import math
import platform
import shutil
from collections import Counter
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from experiments import _catalog
from experiments._log import LOG

MAX_ELEMENTS = 500
"""Arrays up to this size are written whole, larger ones as shape, range and mean."""


def to_json(value: Any) -> Any:
    """Turn a result into what strict JSON can hold: non-finite numbers become strings.

    Args:
      value: Nested tuples, dictionaries, dataclasses, arrays and plain values.

    Returns:
      The same made of dictionaries, lists, numbers, strings, booleans and None.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)):
        return {name: to_json(item) for name, item in zip(names, value, strict=True)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "__array__"):
        return _array_to_json(np.asarray(value))
    return repr(value)


def _array_to_json(array: np.ndarray) -> Any:
    if array.size <= MAX_ELEMENTS:
        return to_json(array.tolist())
    finite = array[np.isfinite(array)]
    if finite.size:
        # the sum of a thousand large float32 is beyond float32
        span = {"min": finite.min(), "max": finite.max(), "mean": finite.mean(dtype=np.float64)}
    else:
        span = {}
    numbers = {name: to_json(float(number)) for name, number in span.items()}
    return {"shape": list(array.shape), "non_finite": int(array.size - finite.size), **numbers}


def versions() -> dict[str, str]:
    """Return the versions of everything the numbers depend on."""
    import jax

    packages = ("jaxopt_tut", "jax", "jaxlib", "optax", "flax", "numpy", "matplotlib")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "backend": f"{device.platform} ({device.device_kind})",
    }


LAST_COMPLETE = "last_complete.json"
"""Where the report of an earlier run stays when a later one fails."""


def write_json(report: dict[str, Any], folder: Path, name: str = "result.json") -> None:
    """Write a report; the writer itself refuses NaN, so that nothing slips through."""
    text = json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False)
    _write(folder / name, text + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file beside its place and rename it: it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def replace_folder(part: Path, folder: Path) -> None:
    """Put a folder in the place of another: two renames, between which no file is lost.

    Args:
      part: The new folder, beside its place.
      folder: Its place; what is there goes.
    """
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def write_failure(report: dict[str, Any], folder: Path) -> None:
    """Write the report of a run that raised, and keep the figures and numbers of the one before.

    Args:
      report: What the run reports.
      folder: The experiment's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = folder / "result.json"
    if before.exists() and not json.loads(before.read_text(encoding="utf-8"))["error"]:
        before.replace(folder / LAST_COMPLETE)
    write_json(report, folder)


def read_reports(out: Path) -> list[dict[str, Any]]:
    """Read every experiment's `result.json` under a folder, part by part, in order of names."""
    files = sorted(file for file in out.glob("*/result.json") if file.parent.name[0] != ".")
    reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return sorted(reports, key=lambda report: _catalog.place(_part(report)))


def _part(report: dict[str, Any]) -> str:
    return report.get("part", "")  # reports of older versions don't say


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #ddd; }
th.part { padding-top: 1.5rem; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.holds { color: #00674b; } .differs { color: #00588a; }
.fails { color: #a63f00; font-weight: bold; }
pre { white-space: pre-wrap; background: #f6f6f6; padding: .8rem; font-size: .85rem; }
figure { margin: 1rem 0; } figcaption { font-size: .85rem; }
img { max-width: 100%; height: auto; }
"""


def write_index(reports: list[dict[str, Any]], out: Path, interrupted: Sequence[str] = ()) -> Path:
    """Write `index.html`: the table of all claims, then each experiment with its figures.

    Args:
      reports: What `read_reports` returned.
      out: The folder with one subfolder an experiment; links are relative to it.
      interrupted: The experiments that a run was to make and did not end.

    Returns:
      The page's path.
    """
    rows = "\n".join(
        row
        for part, group in itertools.groupby(reports, _part)
        for row in (_part_row(part), *(row for report in group for row in _rows(report)))
    )
    sections = "\n".join(_section(report, out) for report in reports)
    claims = [claim for report in reports for claim in report["claims"]]
    counts = Counter(claim["verdict"].split()[0] for claim in claims)
    errors = sum(bool(report["error"]) for report in reports)
    page = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Experiments of jaxopt_tut</title><style>{_STYLE}</style></head><body>
<h1>Experiments of jaxopt_tut</h1>
<p>{len(claims)} claims of {len(reports)} experiments: {counts["holds"]} hold,
{counts["differs"]} differ from what the tutorial states, {counts["fails"]} fail; {errors}
experiments stopped with an error. A claim marked * may fail without failing the run.</p>
{_interruption(interrupted, reports)}
<table><thead><tr><th>experiment</th><th>claim</th><th>measured</th><th>threshold</th>
<th>verdict</th></tr></thead><tbody>
{rows}
</tbody></table>
{sections}
</body></html>
"""
    path = out / "index.html"
    out.mkdir(parents=True, exist_ok=True)
    _write(path, page)
    return path


def _interruption(names: Sequence[str], reports: list[dict[str, Any]]) -> str:
    """Say which experiments an interrupted run did not end, and what is shown of them."""
    if not names:
        return ""
    old = {report["experiment"] for report in reports}
    shown = {name: "shown from an earlier run" if name in old else "not shown" for name in names}
    items = "".join(f"<li>{html.escape(name)}: {how}</li>" for name, how in shown.items())
    return f"""<p class="fails">The last run was interrupted. Not run to the end:</p>
<ul>{items}</ul>"""


def shown(claim: dict[str, Any]) -> str:
    """Write what a claim measured in the digits that decide; older reports have none."""
    number = claim["measured"]
    return claim.get("shown") or (number if isinstance(number, str) else f"{number:.5g}")


def _part_row(part: str) -> str:
    said = ": ".join(filter(None, [part, _catalog.title(part) if part else ""]))
    return f'<tr><th class="part" colspan="5">{html.escape(said)}</th></tr>'


def _rows(report: dict[str, Any]) -> list[str]:
    name = html.escape(report["experiment"])
    link = f'<a href="#{name}">{name}</a>'
    if report["error"]:
        return [f'<tr><td>{link}</td><td colspan="3"></td><td class="fails">error</td></tr>']
    return [
        f"<tr><td>{link}</td>"
        f"<td>{html.escape(claim['text'])}{'' if claim['required'] else ' *'}</td>"
        f'<td class="number">{html.escape(shown(claim))}</td>'
        f'<td class="number">{html.escape(claim["threshold"])}</td>'
        f'<td class="{claim["verdict"].split()[0]}">{html.escape(claim["verdict"])}</td></tr>'
        for claim in report["claims"]
    ]


def _section(report: dict[str, Any], out: Path) -> str:
    name = html.escape(report["experiment"])
    figures = "\n".join(_figure(out, report["experiment"], figure) for figure in report["figures"])
    error = f"<pre>{html.escape(report['error'])}</pre>" if report["error"] else ""
    kept = out / report["experiment"] / LAST_COMPLETE
    if report["error"] and kept.exists():
        error += f"""
<p>The figures and <a href="{name}/{LAST_COMPLETE}">numbers of the last complete run</a> are kept in
its folder.</p>"""
    config = html.escape(json.dumps(report["config"], ensure_ascii=False))
    log = f', <a href="{name}/{LOG}">{LOG}</a>' if (out / name / LOG).exists() else ""
    return f"""<section id="{name}"><h2>{name}</h2>
<pre>{html.escape(report["description"])}</pre>{error}
<p>{report["seconds"]:.1f} s with <code>{config}</code>;
<a href="{name}/result.json">result.json</a>{log}</p>
{figures}</section>"""


def _figure(out: Path, experiment: str, figure: str) -> str:
    """Show a figure's PNG and link its SVG; a drawing has the SVG alone."""
    folder = out / experiment
    drawing = (folder / f"{figure}.svg").exists() and not (folder / f"{figure}.png").exists()
    ending = "svg" if drawing else "png"
    name, stem = html.escape(experiment), html.escape(figure)
    return (
        f'<figure><a href="{name}/{stem}.svg">'
        f'<img src="{name}/{stem}.{ending}" alt="{stem}" loading="lazy"></a>'
        f"<figcaption>{html.escape(figure.replace('_', ' '))}</figcaption></figure>"
    )
