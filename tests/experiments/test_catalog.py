"""Which experiments are found, what their docstrings say, and the table that is made of them."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

from experiments import _catalog, _table
from experiments.__main__ import main


def test_list_names_every_script_by_part_without_importing_jax():
    code = (
        "import sys; from experiments.__main__ import main; code = main(['list']); "
        "assert 'jax' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parts = {}
    for line in done.stdout.splitlines():
        word = line.split()[0]
        if line.startswith("  "):
            parts[part].append(word)
        else:
            part = word.removesuffix(":")
            parts[part] = []
    assert list(parts) == list(_catalog.PARTS)
    assert parts == _catalog.by_part()
    assert {"ravine", "steep_optima", "optimizer_comparison"} <= set(parts["optimization"])
    assert not [name for names in parts.values() for name in names if name.startswith("_")]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["ravine", "deep_tanh", "ravine"], ["ravine", "deep_tanh"]),
        (["optimization/ravine"], ["ravine"]),
        (["experiments/optimization/ravine.py"], ["ravine"]),
        (["./experiments/optimization/ravine.py"], ["ravine"]),
        ([str(_catalog.FOLDER / "optimization" / "ravine.py")], ["ravine"]),
        (["diagnosis"], _catalog.by_part()["diagnosis"]),
        (["experiments/diagnosis/"], _catalog.by_part()["diagnosis"]),
        (["tapped_variance", "diagnosis"], None),
    ],
)
def test_an_experiment_is_found_by_its_name_its_part_and_its_path(words, names):
    if names is None:
        names = dict.fromkeys(["tapped_variance", *_catalog.by_part()["diagnosis"]])
    assert _catalog.resolve(words) == list(names)


@pytest.mark.parametrize(
    "word", ["canyon", "descent/ravine", "ravine/optimization", "_runner", "__init__", "", "."]
)
def test_an_unknown_name_is_refused_with_the_known_ones(word, capsys):
    assert main(["run", "ravine", word]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"no experiment or part is named {word}; there are:\n")
    assert "\n  initialization: activation_gains, " in message
    assert "steep_optima" in message


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (
            ["descent/twin", "bilevel/twin"],
            "two experiments are named twin, in descent and in bilevel, and the results of both "
            "would go to results/twin; rename one",
        ),
        (["alone"], "experiments/alone.py lies in no part; move it into one of the folders "),
        (["descent/more/deep"], "experiments/descent/more/deep.py lies in no part; move it "),
        (["descent/bilevel", "bilevel/x"], "experiments/descent/bilevel.py has the name of a part"),
        (["descent/claims"], "experiments/descent/claims.py has the name of a page of the gallery"),
        (["descent/all"], "experiments/descent/all.py has the name of a command; rename it"),
    ],
)
def test_a_script_that_would_not_be_found_is_an_error(
    files, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(_catalog, "FOLDER", tmp_path)
    for file in files:
        path = tmp_path / f"{file}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"""Nothing."""\n', encoding="utf-8")
    for arguments in (["list"], ["all"], ["x"]):
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith(sentence)


def test_hidden_folders_and_machinery_are_no_experiments(tmp_path, monkeypatch):
    monkeypatch.setattr(_catalog, "FOLDER", tmp_path)
    for file in ("_top", "part/_helper", "part/real", ".ipynb_checkpoints/real", "new/other"):
        path = tmp_path / f"{file}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert _catalog.find() == {"other": "new", "real": "part"}


@pytest.mark.parametrize("name", _catalog.find())
def test_a_script_has_the_form_that_the_readme_asks_for(name):
    module = importlib.import_module(_catalog.module_of(name))
    said = _catalog.fields(name)
    fields = {field.name for field in dataclasses.fields(module.Config)}
    data = " [--data full]" if "data" in fields else ""
    assert said["Command"] == f"python -m experiments {name}{data}"
    assert said["Time"].endswith(".")
    assert _catalog.summary(name).endswith(".")
    config = module.Config()
    assert type(config.quick()) is module.Config
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, dataclasses.fields(config)[0].name, None)


@pytest.mark.parametrize("name", _catalog.find())
def test_a_source_begins_with_the_section_of_a_tutorial(name):
    source = _catalog.fields(name)["Source"]
    assert source.startswith(("UvA tutorial 4, ", "Technion tutorial 5, ", "beyond the tutorials"))


@pytest.mark.parametrize("name", _catalog.find())
def test_a_section_is_of_the_tutorial_that_is_the_source(name):
    source, section = _catalog.fields(name)["Source"], _catalog.section(name)
    assert section.beyond == source.startswith("beyond the tutorials")
    if not section.beyond:
        assert source.startswith({"A": "UvA", "B": "Technion"}[section.key[0]])


DOCSTRING = """It grows.

Question: does it grow?

Claim: it grows by `a|b`
a layer.

Why: trees do.

Source: UvA tutorial 4, growth; Author et al. (2020), eq. 1.
Section: A4.
Command: python -m experiments grows
Expected: |w| = 2 * 3 < 7.
Time: 3 s.
"""


@pytest.fixture
def make_part(tmp_path, monkeypatch):
    """Return a function that writes a part of one script with a docstring."""
    monkeypatch.setattr(_catalog, "FOLDER", tmp_path)

    def make(docstring=DOCSTRING, title="Growth."):
        (tmp_path / "part").mkdir(exist_ok=True)
        (tmp_path / "part" / "__init__.py").write_text(f'"""{title}"""\n')
        (tmp_path / "part" / "grows.py").write_text(f'r"""{docstring}"""\n')
        return tmp_path

    return make


def test_fields_are_read_line_breaks_and_all(make_part):
    make_part()
    assert _catalog.fields("grows") == {
        "Question": "does it grow?",
        "Claim": "it grows by `a|b` a layer.",
        "Why": "trees do.",
        "Source": "UvA tutorial 4, growth; Author et al. (2020), eq. 1.",
        "Section": "A4.",
        "Command": "python -m experiments grows",
        "Expected": "|w| = 2 * 3 < 7.",
        "Time": "3 s.",
    }


@pytest.mark.parametrize("field", _catalog.FIELDS)
@pytest.mark.parametrize("left", ["", "{}:\n"], ids=["missing", "empty"])
def test_a_field_that_says_nothing_is_an_error(make_part, field, left, capsys):
    said = dict(line.split(": ", 1) for line in DOCSTRING.splitlines() if ": " in line)
    folder = make_part(
        "It grows.\n\n"
        + "".join(f"{f}: {text}\n" if f != field else left.format(f) for f, text in said.items())
    )
    sentence = (
        f"the docstring of experiments/part/grows.py needs a line '{field}: ...'; "
        "experiments/README.md says what it holds"
    )
    with pytest.raises(ValueError, match="needs a line") as caught:
        _catalog.fields("grows")
    assert str(caught.value) == sentence
    (folder / "README.md").write_text(f"{_table.START}\n{_table.END}\n")
    assert main(["table"]) == 2
    assert capsys.readouterr().err == sentence + "\n"


@pytest.mark.parametrize(
    ("said", "section"),
    [
        ("A4.", ("A4", False)),
        ("B1", ("B1", False)),
        ("beyond A10.", ("A10", True)),
        ("beyond.", ("", True)),
        ("A11.", None),
        ("beyond the pale.", None),
        ("4.", None),
    ],
)
def test_a_section_is_one_of_the_tutorials_or_beyond_one(make_part, said, section):
    make_part(DOCSTRING.replace("A4.", said))
    if section:
        assert _catalog.section("grows") == section
        return
    with pytest.raises(ValueError, match=r"none of A1, A2, .*, B5; before it, or alone") as caught:
        _catalog.section("grows")
    assert f"'Section: {said}'" in str(caught.value)


def test_the_table_is_written_between_its_marks(make_part, capsys):
    folder = make_part()
    page = f"before\n{_table.START}\nold\n{_table.END}\nbehind\n"
    (folder / "README.md").write_text(page)
    assert main(["table"]) == 0
    assert capsys.readouterr().out.startswith("Wrote the table of 1 experiments into ")
    assert (folder / "README.md").read_text() == (
        f"before\n{_table.START}\n\n"
        "### part\n\nGrowth.\n\n"
        "| claim | script | section | expected | time |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| It grows. | [grows](part/grows.py) | UvA tutorial 4, growth | "
        r"\|w\| = 2 \* 3 \< 7 | 3 s |"
        f"\n\n{_table.END}\nbehind\n"
    )
    assert main(["table"]) == 0
    assert (folder / "README.md").read_text().count("| It grows. |") == 1


@pytest.mark.parametrize("marks", ["", _table.START, _table.END])
def test_a_page_without_the_marks_is_refused(make_part, capsys, marks):
    (make_part() / "README.md").write_text(f"text {marks}")
    assert main(["table"]) == 2
    assert "experiments/README.md needs the lines '<!-- made by" in capsys.readouterr().err
    assert (make_part() / "README.md").read_text() == f"text {marks}"


def test_the_readmes_table_is_that_of_the_docstrings():
    page = (_catalog.FOLDER / "README.md").read_text(encoding="utf-8")
    assert page == _table.insert(page), "run: python -m experiments table"


def test_what_is_not_installed_is_named_in_a_sentence():
    code = "import runpy, sys; sys.modules['tyro'] = None; runpy.run_module('experiments')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == 'python -m experiments needs more: pip install ".[experiments]"\n'
