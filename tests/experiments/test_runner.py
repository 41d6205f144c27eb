"""The command line: what it lists, writes and returns."""

import dataclasses
import json
import os
import re
import sys
import types

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import _catalog, _claims, _outputs
from experiments.__main__ import main

DOCSTRING = "A <b>bold</b> claim & more."


@dataclasses.dataclass(frozen=True)
class Config:
    size: int = 3

    def quick(self):
        return dataclasses.replace(self, size=1)


@pytest.fixture(autouse=True)
def _no_compilation_cache(monkeypatch):
    """The cache is a setting of the whole process, and the other tests run without."""
    monkeypatch.setattr("jaxopt_tut.training.compilation_cache", lambda _: None)


@pytest.fixture
def make_script(tmp_path, monkeypatch):
    """Return a function that puts one experiment in place of the real ones."""
    folder = tmp_path / "scripts" / "part"
    folder.mkdir(parents=True)
    monkeypatch.setattr(_catalog, "FOLDER", folder.parent)

    def make(name="one", *, check=None, run=None):
        (folder / f"{name}.py").write_text(f'"""{DOCSTRING}"""\n', encoding="utf-8")
        module = types.ModuleType(f"experiments.part.{name}")
        module.Config = Config
        module.run = run or (lambda config: {"size": config.size, "bad": float("nan")})
        module.check = check or (lambda _: [_claims.at_least("fine", 1.0, 0.0)])
        module.plot = lambda _: {"empty": Figure()}
        monkeypatch.setitem(sys.modules, f"experiments.part.{name}", module)
        return tmp_path / "results"

    return make


def report(out, name="one"):
    """Read `result.json` as strict JSON: NaN and Infinity are refused."""
    text = (out / name / "result.json").read_text(encoding="utf-8")
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_run_without_a_name_is_refused(capsys):
    assert main(["run"]) == 2
    assert capsys.readouterr().err.startswith("name an experiment or a part; there are:")


def test_a_run_writes_figures_and_strict_json(make_script):
    out = make_script()
    assert main(["all", "--out", str(out)]) == 0
    assert sorted(file.name for file in (out / "one").iterdir()) == [
        "empty.dark.png",
        "empty.dark.svg",
        "empty.png",
        "empty.svg",
        "index.html",
        "log.txt",
        "result.json",
        "thumbnail.dark.png",
        "thumbnail.png",
    ]
    found = report(out)
    assert found["config"] == {"size": 3}
    assert found["numbers"] == {"size": 3, "bad": "nan"}
    assert found["claims"][0]["verdict"] == "holds"
    assert found["claims"][0]["threshold"] == "≥ 0"
    assert {"python", "jax", "numpy", "jaxopt_tut", "backend"} <= set(found["versions"])


@pytest.mark.parametrize("full", [True, False])
def test_a_script_gets_full_products_if_it_asks_for_them(make_script, full):
    import jax

    seen = []

    def run(config):
        seen.append(jax.config.jax_default_matmul_precision)
        return {"size": config.size}

    out = make_script(run=run)
    sys.modules["experiments.part.one"].FULL_PRODUCTS = full
    assert main(["run", "one", "--out", str(out)]) == 0
    assert seen == ["highest" if full else jax.config.jax_default_matmul_precision]


@dataclasses.dataclass(frozen=True)
class LargeConfig(Config):
    def whole(self):
        return dataclasses.replace(self, size=9)


@pytest.mark.parametrize(
    ("config", "options", "size"),
    [
        (Config, [], 3),
        (Config, ["--quick"], 1),
        (Config, ["--whole"], 3),  # it has no larger one
        (LargeConfig, [], 3),
        (LargeConfig, ["--whole"], 9),
        (LargeConfig, ["--whole", "--quick"], 1),
    ],
)
def test_switches_choose_the_size(make_script, config, options, size):
    out = make_script()
    sys.modules["experiments.part.one"].Config = config
    assert main(["run", "one", *options, "--out", str(out)]) == 0
    assert report(out)["config"] == {"size": size}


@pytest.mark.parametrize(("required", "code"), [(True, 1), (False, 0)], ids=["must", "may"])
def test_only_a_claim_that_must_hold_fails_the_run(make_script, capsys, required, code):
    out = make_script(check=lambda _: [_claims.at_most("small", 5.0, 1.0, required=required)])
    assert main(["all", "--out", str(out)]) == code
    assert report(out)["claims"][0]["verdict"] == "fails"
    mark = "" if required else " *"
    assert f"fails: small{mark}: 5, which is not ≤ 1" in capsys.readouterr().out


def test_a_script_that_raises_is_reported_and_the_others_go_on(make_script, capsys):
    def broken(_):
        raise RuntimeError("no <water> in the ravine")

    make_script("broken", run=broken)
    out = make_script("fine")
    assert main(["all", "--out", str(out)]) == 1
    assert "no <water> in the ravine" in report(out, "broken")["error"]
    assert report(out, "fine")["passed"]
    assert "no <water> in the ravine" in capsys.readouterr().out
    page = (out / "broken" / "index.html").read_text(encoding="utf-8")
    assert "The last run stopped with an error: RuntimeError: no &lt;water&gt; in the" in page
    assert "<water>" not in page
    assert "stopped with an error" in (out / "index.html").read_text(encoding="utf-8")


def speak(config):
    """Print as scripts do, as libraries do, and as programs not written in Python do."""
    print("said α", flush=True)
    print("warned", file=sys.stderr, flush=True)
    os.write(1, b"from below\n")
    os.write(2, b"warned from below\n")
    return {"size": config.size}


def test_all_prints_a_line_an_experiment_a_summary_and_where_to_look(make_script, capfd):
    claims = [
        _claims.at_least("fine", 1.0, 0.0),
        _claims.at_least("too", 1.0, 0.0),
        _claims.at_least("other", 1.0, 0.0, original="less"),
        _claims.at_least("not quite", -1.5, 0.0, required=False),
    ]

    def broken(config):
        speak(config)
        raise RuntimeError("no [red] water")

    make_script("long_name", check=lambda _: claims)
    make_script("broken", run=broken)
    out = make_script("talks", run=speak)
    assert main(["all", "--out", str(out)]) == 1
    printed, warned = capfd.readouterr()
    assert warned == ""
    lines = [line.rstrip() for line in printed.splitlines()]
    assert re.fullmatch(r"1/3  part/broken +\d+\.\d s  error", lines[0])
    end = lines.index(f"     The whole of it: {out / 'broken' / 'log.txt'}")
    assert lines[end - 1] == "     RuntimeError: no [red] water"
    assert end <= 13
    assert re.fullmatch(
        r"2/3  part/long_name +\d+\.\d s  2 hold, 1 differ, 1 fail \*", lines[end + 1]
    )
    assert lines[end + 2] == "     fails: not quite *: -1.5, which is not ≥ 0"
    assert re.fullmatch(r"3/3  part/talks +\d+\.\d s  1 hold", lines[end + 3])
    assert re.fullmatch(
        r"3 experiments in \d+ s, 5 claims: 3 hold, 1 differ, 1 fail \*", lines[end + 5]
    )
    assert lines[end + 6 :] == [
        "differ: what holds is not what the tutorial states.",
        "* may fail without failing the run.",
        "Not passed: broken",
        f"Figures, numbers and the page with all of it: {out / 'index.html'}",
        f"What a script printed: {out / 'NAME' / 'log.txt'}",
    ]
    log = (out / "talks" / "log.txt").read_text(encoding="utf-8")
    assert log.startswith("said α\nwarned\nfrom below\nwarned from below\n")
    assert "fine" in log
    assert "\x1b" not in log
    failure = (out / "broken" / "log.txt").read_text(encoding="utf-8")
    assert failure.startswith("said α\nwarned\nfrom below\nwarned from below\nTraceback")


def test_one_experiment_shows_what_it_prints_and_the_table(make_script, capfd):
    out = make_script(run=speak)
    assert main(["one", "--out", str(out)]) == 0
    printed, warned = capfd.readouterr()
    assert printed.index("said α") < printed.index("Claims") < printed.index("fine")
    assert "from below" in printed
    assert warned == "warned\nwarned from below\n"
    log = (out / "one" / "log.txt").read_text(encoding="utf-8")
    assert log.startswith("said α\nwarned\n")
    assert "fine" in log
    assert 'href="log.txt"' in (out / "one" / "index.html").read_text(encoding="utf-8")


def test_a_part_prints_a_line_an_experiment(make_script, capsys):
    make_script("first")
    out = make_script("second")
    assert main(["part", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1/2  part/first")
    assert lines[1].startswith("2/2  part/second")
    assert main(["second", "first", "--out", str(out)]) == 0
    assert "Claims" in capsys.readouterr().out


def test_a_progress_line_is_shown_and_not_logged(make_script, capsys):
    def run(config):
        sys.stderr.write("\rhalf\033[K")
        sys.stderr.write("whole\n")
        assert not sys.stderr.isatty()
        return {"size": config.size}

    out = make_script(run=run)
    assert main(["one", "--out", str(out)]) == 0
    assert "\rhalf" in capsys.readouterr().err
    assert (out / "one" / "log.txt").read_text(encoding="utf-8").startswith("whole\n")


def test_colours_are_for_a_terminal(make_script, monkeypatch, capsys):
    out = make_script()
    assert main(["all", "--out", str(out)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["all", "--out", str(out)]) == 0
    assert "\x1b[32m1 hold" in capsys.readouterr().out


def test_a_script_that_raises_keeps_the_figures_of_the_run_before(make_script):
    out = make_script()
    assert main(["all", "--out", str(out)]) == 0
    drawn = (out / "one" / "empty.png").read_bytes()

    def broken(_):
        raise RuntimeError("dry")

    make_script(run=broken)
    assert main(["all", "--out", str(out)]) == 1
    assert (out / "one" / "empty.png").read_bytes() == drawn
    assert "dry" in report(out)["error"]
    kept = json.loads((out / "one" / "last_complete.json").read_text(encoding="utf-8"))
    assert kept["numbers"]["size"] == 3
    page = (out / "one" / "index.html").read_text(encoding="utf-8")
    assert 'href="last_complete.json"' in page
    assert "What is shown here is from the last complete run." in page
    assert 'src="empty.png"' in page
    make_script()
    assert main(["all", "--out", str(out)]) == 0
    assert not (out / "one" / "last_complete.json").exists()
    assert not list(out.glob(".one*"))


def test_a_script_that_is_interrupted_ends_the_run_with_130(make_script, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    make_script("first")
    make_script("second", run=interrupted)
    out = make_script("third")
    assert main(["run", "first", "second", "third", "--out", str(out)]) == 130
    assert "not run to the end: second, third." in capsys.readouterr().out
    assert report(out, "first")["passed"]
    assert not (out / "second").exists()
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<li>second: not shown</li><li>third: not shown</li>" in page


def test_a_script_that_cannot_be_imported_is_reported(make_script):
    make_script("fine")
    out = make_script("torn")
    del sys.modules["experiments.part.torn"]  # its file lies where no import finds it
    assert main(["run", "torn", "fine", "--out", str(out)]) == 1
    assert "ModuleNotFoundError" in report(out, "torn")["error"]
    assert report(out, "fine")["passed"]


@pytest.mark.parametrize(
    "source",
    [b"def torn(:\n", b'"""A cl\xe4im."""\n', b"", b"import no_such_module\n", b"exit(3)\n"],
)
def test_no_file_takes_the_others_with_it(make_script, capsys, source, monkeypatch):
    make_script("fine")
    out = make_script("torn")
    file = _catalog.FOLDER / "part" / "torn.py"
    file.write_bytes(source)
    del sys.modules["experiments.part.torn"]
    package = types.ModuleType("experiments.part")
    package.__path__ = [str(file.parent)]
    monkeypatch.setitem(sys.modules, "experiments.part", package)
    assert main(["list"]) == 0
    assert "  torn " in capsys.readouterr().out
    assert main(["all", "--out", str(out)]) == 1
    assert "Not passed: torn" in capsys.readouterr().out
    assert report(out, "fine")["passed"]


def test_a_script_that_exits_is_reported(make_script):
    def leave(_):
        sys.exit("no water")

    make_script("fine")
    out = make_script("away", run=leave)
    assert main(["all", "--out", str(out)]) == 1
    assert "SystemExit: no water" in report(out, "away")["error"]
    assert report(out, "fine")["passed"]


def test_pages_escape_and_keep_what_ran_before(make_script):
    make_script("first")
    text = 'x < "y" & z'
    out = make_script(
        "second", check=lambda _: [_claims.at_least(text, np.inf, 0.0, original="<i>")]
    )
    assert main(["run", "first", "--out", str(out)]) == 0
    assert main(["run", "second", "--out", str(out)]) == 0
    pages = {
        name: (out / name).read_text(encoding="utf-8")
        for name in ("index.html", "claims.html", "first/index.html", "second/index.html")
    }
    assert "<b>" not in "".join(pages.values())
    assert "<i>" not in "".join(pages.values())
    for name in ("claims.html", "second/index.html"):
        assert "x &lt; &quot;y&quot; &amp; z" in pages[name]
        assert "differs from the original: &lt;i&gt;" in pages[name]
    for name in ("first", "second"):
        assert (
            f'href="{name}/index.html">A &lt;b&gt;bold&lt;/b&gt; claim &amp; more.'
            in pages["index.html"]
        )
        assert f'src="{name}/thumbnail.png"' in pages["index.html"]
        assert 'src="empty.png"' in pages[f"{name}/index.html"]
        assert 'href="result.json"' in pages[f"{name}/index.html"]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (_claims.at_most("t", 1.0, 1.0), "holds"),
        (_claims.at_most("t", 1.1, 1.0), "fails"),
        (_claims.at_most("t", np.nan, 1.0), "fails"),
        (_claims.at_least("t", 1.0, 1.0), "holds"),
        (_claims.at_least("t", 0.9, 1.0), "fails"),
        (_claims.at_least("t", np.nan, 1.0), "fails"),
        (_claims.between("t", 1.0, 0.0, 2.0), "holds"),
        (_claims.between("t", 2.1, 0.0, 2.0), "fails"),
        (_claims.between("t", np.nan, 0.0, 2.0), "fails"),
        (_claims.equal("t", 1.1, 1.0, 0.2), "holds"),
        (_claims.equal("t", 1.3, 1.0, 0.2), "fails"),
        (_claims.equal("t", np.nan, 1.0, 0.2), "fails"),
        (_claims.at_most("t", 0.0, 1.0, original="o"), "differs from the original: o"),
        (_claims.at_most("t", 2.0, 1.0, original="o"), "fails"),
    ],
)
def test_verdicts(claim, verdict):
    assert claim.verdict == verdict


def test_large_arrays_are_summarised_and_non_finite_numbers_are_strings():
    large = np.arange(1000.0)
    large[0] = np.inf
    found = _outputs.to_json(
        {"large": large, "few": np.array([1, 2]), "inf": (np.float32("-inf"),)}
    )
    assert found == {
        "large": {"shape": [1000], "non_finite": 1, "min": 1.0, "max": 999.0, "mean": 500.0},
        "few": [1, 2],
        "inf": ["-inf"],
    }


def test_no_process_is_refused(capsys):
    assert main(["run", "ravine", "--jobs", "0"]) == 2
    assert capsys.readouterr().err == "--jobs needs at least 1 process, got 0\n"


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_real_experiments_run_from_the_command_line(tmp_path, capsys, jobs):
    arguments = ["ravine", "worked_example", "--quick", "--jobs", str(jobs)]
    assert main(["run", *arguments, "--out", str(tmp_path)]) == 0
    assert report(tmp_path, "worked_example")["passed"]
    table = capsys.readouterr().out.split("Claims")[1]
    assert table.index("ravine") < table.index("worked_example")
    found = report(tmp_path, "ravine")
    assert found["config"]["num_starts"] == 16
    assert sorted(found["figures"]) == ["paths", "sensitivity", "surface"]
    assert {claim["verdict"] for claim in found["claims"]} == {"holds"}
